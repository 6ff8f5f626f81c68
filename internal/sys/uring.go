package sys

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

// Opcodes, flags and results of io_uring that sending uses; linux/io_uring.h.
const (
	UringOpNop       = 0
	UringOpSendZC    = 47 // Linux 6.0
	UringOpSendmsgZC = 48 // Linux 6.1

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

	UringRegisterBuffers = 0 // IORING_REGISTER_BUFFERS
	UringRegisterProbe   = 8 // IORING_REGISTER_PROBE, Linux 5.6

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
