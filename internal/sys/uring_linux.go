package sys

import (
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
// struct io_uring_probe with room for n opcodes, which the kernel fills in.
func UringRegister(fd int, op uint32, arg []byte, n uint32) error {
	_, _, e := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(fd), uintptr(op),
		uintptr(unsafe.Pointer(unsafe.SliceData(arg))), uintptr(n), 0, 0)
	if e != 0 {
		return Wrap("io_uring_register", e)
	}
	return nil
}
