package sys

import "golang.org/x/sys/unix"

// Leases of [SetLease] and [Lease]; fcntl(2).
const (
	LeaseRead = unix.F_RDLCK // told before another process opens the file for writing
	LeaseNone = unix.F_UNLCK
)

// SetLease takes or gives back a lease on a file. A read lease wants a
// descriptor that was opened for reading only, no writer anywhere (EAGAIN), and
// an owner of the file or CAP_LEASE; EINVAL where the file system has none.
func SetLease(fd, lease int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, lease)
	return Wrap("fcntl F_SETLEASE", err)
}

// Lease returns the lease that is held on a file.
func Lease(fd int) (int, error) {
	l, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
	return l, Wrap("fcntl F_GETLEASE", err)
}

// SignalUrgent is SIGURG, which a process ignores unless it asked for it.
const SignalUrgent = int(unix.SIGURG)

// SetSignal says which signal announces events of an open file, in place of SIGIO;
// F_SETSIG.
func SetSignal(fd, signal int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, signal)
	return Wrap("fcntl F_SETSIG", err)
}

// SetOwner says which process gets the signals of an open file, 0 for none;
// F_SETOWN.
func SetOwner(fd, pid int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETOWN, pid)
	return Wrap("fcntl F_SETOWN", err)
}
