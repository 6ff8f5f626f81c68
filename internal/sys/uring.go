package sys

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

// Opcodes, flags and results of io_uring that sending uses; linux/io_uring.h.
const (
	UringOpNop       = 0
	UringOpSendmsg   = 9  // Linux 5.3
	UringOpSend      = 26 // Linux 5.6
	UringOpSendZC    = 47 // Linux 6.0
	UringOpSendmsgZC = 48 // Linux 6.1

	// Flags of UringParams.Flags.
	UringSetupCQSize      = 1 << 3 // IORING_SETUP_CQSIZE, Linux 5.5
	UringSetupClamp       = 1 << 4 // IORING_SETUP_CLAMP, Linux 5.6
	UringSetupSubmitAll   = 1 << 7 // IORING_SETUP_SUBMIT_ALL, Linux 5.18
	UringSetupCoopTaskrun = 1 << 8 // IORING_SETUP_COOP_TASKRUN, Linux 5.19

	// Flags of UringSQE.Ioprio for sends.
	UringSendFixedBuf    = 1 << 2 // IORING_RECVSEND_FIXED_BUF
	UringSendReportUsage = 1 << 3 // IORING_SEND_ZC_REPORT_USAGE, Linux 6.2 and stable 6.1

	// Flags of UringCQE.Flags.
	UringCQEMore  = 1 << 1 // IORING_CQE_F_MORE: a notification follows
	UringCQENotif = 1 << 3 // IORING_CQE_F_NOTIF: the kernel is done with the buffer

	// UringNotifCopied is IORING_NOTIF_USAGE_ZC_COPIED in the result of a
	// notification, as an unsigned number.
	UringNotifCopied = 1 << 31

	UringEnterGetevents = 1 // IORING_ENTER_GETEVENTS

	UringRegisterBuffers       = 0  // IORING_REGISTER_BUFFERS
	UringRegisterEventfd       = 4  // IORING_REGISTER_EVENTFD, Linux 5.2
	UringRegisterProbe         = 8  // IORING_REGISTER_PROBE, Linux 5.6
	UringRegisterBuffers2      = 15 // IORING_REGISTER_BUFFERS2, Linux 5.13
	UringRegisterBuffersUpdate = 16 // IORING_REGISTER_BUFFERS_UPDATE, Linux 5.13

	uringRegisterSparse = 1 // IORING_RSRC_REGISTER_SPARSE, Linux 5.19

	uringSQOverflow        = 1 << 1 // IORING_SQ_CQ_OVERFLOW, Linux 5.8
	uringCQEventfdDisabled = 1      // IORING_CQ_EVENTFD_DISABLED, Linux 5.8

	UringOffSQRing = 0
	UringOffSQEs   = 0x10000000

	uringFeatSingleMmap = 1 // IORING_FEAT_SINGLE_MMAP, Linux 5.4
)

// UringParams is struct io_uring_params.
type UringParams struct {
	SQEntries, CQEntries, Flags, SQThreadCPU, SQThreadIdle, Features, WQFd uint32

	_     [3]uint32
	SQOff UringSQOffsets
	CQOff UringCQOffsets
}

// UringSQOffsets is struct io_sqring_offsets.
type UringSQOffsets struct {
	Head, Tail, RingMask, RingEntries, Flags, Dropped, Array, _ uint32
	_                                                           uint64
}

// UringCQOffsets is struct io_cqring_offsets.
type UringCQOffsets struct {
	Head, Tail, RingMask, RingEntries, Overflow, CQEs, Flags, _ uint32
	_                                                           uint64
}

// UringSQE is struct io_uring_sqe, a request.
type UringSQE struct {
	Opcode, Flags uint8
	Ioprio        uint16
	Fd            int32
	Off, Addr     uint64
	Len, OpFlags  uint32 // OpFlags is msg_flags for sends
	UserData      uint64
	BufIndex      uint16
	_             uint16
	_             uint32
	_             [2]uint64
}

// UringCQE is struct io_uring_cqe, an answer: a byte count or, negative, an
// errno.
type UringCQE struct {
	UserData uint64
	Res      int32
	Flags    uint32
}

const (
	uringSQESize = 64
	uringCQESize = 16
)

var errUringLayout = errors.New("io_uring: the kernel's offsets do not fit its memory")

// UringSize returns the length of the mapping at UringOffSQRing, which holds
// both rings, and of that at UringOffSQEs. Kernels before 5.4 have a mapping
// for each ring and are refused.
func UringSize(p *UringParams) (ring, sqes int, err error) {
	if p.Features&uringFeatSingleMmap == 0 {
		return 0, 0, Wrap("io_uring before Linux 5.4", errors.ErrUnsupported)
	}
	const most = 1 << 16 // entries; far above what anyone here asks for
	if p.SQEntries == 0 || p.CQEntries == 0 || p.SQEntries > most || p.CQEntries > most ||
		p.SQOff.Array > most<<4 || p.CQOff.CQEs > most<<4 {
		return 0, 0, errUringLayout
	}
	ring = max(int(p.SQOff.Array)+4*int(p.SQEntries), int(p.CQOff.CQEs)+uringCQESize*int(p.CQEntries))
	return ring, uringSQESize * int(p.SQEntries), nil
}

// Uring is the memory of one io_uring that this process shares with the
// kernel. It makes no system calls, and is for one goroutine.
type Uring struct {
	sqHead, sqTail, cqHead, cqTail *uint32
	sqFlags, cqFlags               *uint32 // nil where the kernel has none
	sqMask, cqMask                 uint32
	array                          []uint32
	sqes                           []UringSQE
	cqes                           []UringCQE
}

// NewUring lays a ring over its two mappings. Everything the kernel says about
// their layout is checked.
func NewUring(p *UringParams, ring, sqes []byte) (*Uring, error) {
	wantRing, wantSQEs, err := UringSize(p)
	if err != nil {
		return nil, err
	}
	if len(ring) < wantRing || len(sqes) < wantSQEs ||
		p.SQEntries&(p.SQEntries-1) != 0 || p.CQEntries&(p.CQEntries-1) != 0 ||
		p.SQOff.Array%4 != 0 || p.CQOff.CQEs%8 != 0 ||
		misaligned(ring) || misaligned(sqes) {
		return nil, errUringLayout
	}
	word := func(off uint32) *uint32 {
		if off%4 != 0 || int(off)+4 > len(ring) {
			return nil
		}
		return (*uint32)(unsafe.Pointer(&ring[off]))
	}
	u := &Uring{
		sqHead: word(p.SQOff.Head), sqTail: word(p.SQOff.Tail),
		cqHead: word(p.CQOff.Head), cqTail: word(p.CQOff.Tail),
		sqMask: p.SQEntries - 1, cqMask: p.CQEntries - 1,
		array: unsafe.Slice((*uint32)(unsafe.Pointer(&ring[p.SQOff.Array])), p.SQEntries),
		sqes:  unsafe.Slice((*UringSQE)(unsafe.Pointer(unsafe.SliceData(sqes))), p.SQEntries),
		cqes:  unsafe.Slice((*UringCQE)(unsafe.Pointer(&ring[p.CQOff.CQEs])), p.CQEntries),
	}
	if u.sqHead == nil || u.sqTail == nil || u.cqHead == nil || u.cqTail == nil {
		return nil, errUringLayout
	}
	if p.SQOff.Flags != 0 {
		u.sqFlags = word(p.SQOff.Flags)
	}
	if p.CQOff.Flags != 0 {
		u.cqFlags = word(p.CQOff.Flags)
	}
	return u, nil
}

// misaligned reports whether b does not start at an eight-byte boundary.
func misaligned(b []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 != 0 }

// Push queues a request for the next io_uring_enter; false when the ring is full.
func (u *Uring) Push(e UringSQE) bool {
	tail := *u.sqTail // ours alone to write
	if tail-atomic.LoadUint32(u.sqHead) > u.sqMask {
		return false
	}
	i := tail & u.sqMask
	u.sqes[i] = e
	u.array[i] = i
	atomic.StoreUint32(u.sqTail, tail+1)
	return true
}

// Pop takes the next answer; false when there is none.
func (u *Uring) Pop() (UringCQE, bool) {
	head := *u.cqHead // ours alone to write
	if head == atomic.LoadUint32(u.cqTail) {
		return UringCQE{}, false
	}
	c := u.cqes[head&u.cqMask]
	atomic.StoreUint32(u.cqHead, head+1)
	return c, true
}

// Pending returns how many requests were pushed that the kernel has not taken.
func (u *Uring) Pending() int {
	return int(*u.sqTail - atomic.LoadUint32(u.sqHead))
}

// Retract takes back the requests that the kernel has not taken, and returns how
// many they are: the last that were pushed. Nobody may be in io_uring_enter.
func (u *Uring) Retract() int {
	n := u.Pending()
	atomic.StoreUint32(u.sqTail, *u.sqTail-uint32(n))
	return n
}

// Ready reports whether there is an answer.
func (u *Uring) Ready() bool { return *u.cqHead != atomic.LoadUint32(u.cqTail) }

// Overflowed reports whether the kernel keeps answers that found no place. They
// come with the next io_uring_enter with UringEnterGetevents.
func (u *Uring) Overflowed() bool {
	return u.sqFlags != nil && atomic.LoadUint32(u.sqFlags)&uringSQOverflow != 0
}

// Quiet says whether the kernel is to leave the registered eventfd alone. Before
// Linux 5.8 it never does.
func (u *Uring) Quiet(yes bool) {
	if u.cqFlags == nil {
		return
	}
	var v uint32
	if yes {
		v = uringCQEventfdDisabled
	}
	atomic.StoreUint32(u.cqFlags, v) // a full barrier: what is looked at next is later
}

// Tail is where the next request goes.
func (u *Uring) Tail() *uint32 { return u.sqTail }
