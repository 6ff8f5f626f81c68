package sys

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UringSetup makes an io_uring of the given number of entries and fills in p;
// Linux 5.1.
func UringSetup(entries uint32, p *UringParams) (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
	if e != 0 {
		return -1, Wrap("io_uring_setup", e)
	}
	return int(fd), nil
}

// UringEnter submits requests and waits for answers.
func UringEnter(fd int, submit, wait, flags uint32) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(wait), uintptr(flags), 0, 0)
	if e != 0 {
		return 0, Wrap("io_uring_enter", e)
	}
	return int(n), nil
}

// UringRegister registers the n objects at arg. For UringRegisterProbe arg is
// struct io_uring_probe with room for n opcodes, which the kernel fills in. Signals,
// by which the Go runtime preempts threads, do not end it: some kernels (seen on 5.10) wait
// for requests to end, and answer EINTR before anything is done.
func UringRegister(fd int, op uint32, arg []byte, n uint32) error {
	return Wrap("io_uring_register", ignoringEINTR(func() error {
		_, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(fd), uintptr(op),
			uintptr(unsafe.Pointer(unsafe.SliceData(arg))), uintptr(n), 0, 0)
		if e != 0 {
			return e
		}
		return nil
	}))
}

// SetBuffer makes p what a request sends. What it points to must stay referenced
// until the kernel is done with it, and must not be on a goroutine's stack.
func (e *UringSQE) SetBuffer(p []byte) {
	e.Addr, e.Len = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), uint32(len(p))
}

// UringMessage is struct msghdr, for requests that send several parts. The kernel
// reads it, and the iovecs, until the request's first answer.
type UringMessage struct{ h unix.Msghdr }

// Set makes the parts what the message is of, with control messages that may be
// nil.
func (m *UringMessage) Set(v []Iovec, control []byte) {
	m.h = unix.Msghdr{Iov: unsafe.SliceData(v)}
	m.h.SetIovlen(len(v))
	if len(control) > 0 {
		m.h.Control = unsafe.SliceData(control)
		m.h.SetControllen(len(control))
	}
}

// SetMessage makes m what a request sends. It must stay referenced until the first
// answer, and must not be on a goroutine's stack.
func (e *UringSQE) SetMessage(m *UringMessage) {
	e.Addr, e.Len = uint64(uintptr(unsafe.Pointer(&m.h))), 1
}

// UringRegisterSparse makes a table for n registered buffers, all empty; Linux
// 5.19.
func UringRegisterSparse(fd int, n uint32) error {
	var arg [32]byte // struct io_uring_rsrc_register
	binary.NativeEndian.PutUint32(arg[0:], n)
	binary.NativeEndian.PutUint32(arg[4:], uringRegisterSparse)
	return UringRegister(fd, UringRegisterBuffers2, arg[:], uint32(len(arg)))
}

// UringUpdateBuffer registers p in one place of the table of registered buffers,
// or, if p is empty, clears it; Linux 5.13. p must be from [Map].
func UringUpdateBuffer(fd int, index uint32, p []byte) error {
	iov := new(Iovec)
	if len(p) > 0 {
		iov.Base = unsafe.SliceData(p)
		iov.SetLen(len(p))
	}
	// The structure holds the address of the iovec as a number.
	var pin runtime.Pinner
	pin.Pin(iov)
	defer pin.Unpin()
	var arg [32]byte // struct io_uring_rsrc_update2
	binary.NativeEndian.PutUint32(arg[0:], index)
	binary.NativeEndian.PutUint64(arg[8:], uint64(uintptr(unsafe.Pointer(iov))))
	binary.NativeEndian.PutUint32(arg[24:], 1)
	return UringRegister(fd, UringRegisterBuffersUpdate, arg[:], uint32(len(arg)))
}

// UringNotify makes the kernel add to an eventfd when there are answers.
func UringNotify(fd, eventfd int) error {
	var arg [4]byte
	binary.NativeEndian.PutUint32(arg[:], uint32(eventfd))
	return UringRegister(fd, UringRegisterEventfd, arg[:], 1)
}

// Eventfd returns a new eventfd that never blocks.
func Eventfd() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, Wrap("eventfd", err)
	}
	return fd, nil
}
