package sys

import (
	"errors"
	"syscall"
)

// enotsupp is a number that the kernel keeps for itself (include/linux/errno.h)
// but lets slip to user space: kernels to 5.10 answer SO_ZEROCOPY with it on
// sockets that cannot do it. The C library has no name for it.
const enotsupp = syscall.Errno(524)

// ErrnoName returns the name of the errno in err's chain, "EOPNOTSUPP", as
// strace prints it. It is "" if err is nil or holds no errno, and "errno 1234"
// for a number without a name.
func ErrnoName(err error) string {
	var e syscall.Errno
	if !errors.As(err, &e) || e == 0 {
		return ""
	}
	switch e {
	case enotsupp:
		return "ENOTSUPP"
	case syscall.EOPNOTSUPP: // the same number as ENOTSUP on Linux
		return "EOPNOTSUPP"
	}
	if n := errnoName(e); n != "" {
		return n
	}
	return e.Error()
}

// Wrap names the operation that failed with err, "setsockopt SO_ZEROCOPY". The
// result unwraps to err, so errors.Is finds the errno; beyond what syscall.Errno
// itself matches, the numbers of [Unsupported] match errors.ErrUnsupported. It
// is nil if err is nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{op: op, err: err}
}

// wrapTransfer is [Wrap] for the calls that move bytes: EAGAIN and EINTR, which a
// loop meets again and again, stay bare, so that waiting allocates nothing.
func wrapTransfer(op string, err error) error {
	if err == nil || err == syscall.EAGAIN || err == syscall.EINTR {
		return err
	}
	return Wrap(op, err)
}

// Unsupported reports whether err says that the kernel, protocol or driver
// does not have what was asked for.
func Unsupported(err error) bool {
	if errors.Is(err, errors.ErrUnsupported) {
		return true
	}
	var e syscall.Errno
	return errors.As(err, &e) && unsupportedErrno(e)
}

func unsupportedErrno(e syscall.Errno) bool {
	switch e {
	case enotsupp,
		syscall.ENOSYS,          // no such system call
		syscall.EOPNOTSUPP,      // the object does not implement the operation
		syscall.ENOPROTOOPT,     // no such socket option
		syscall.EPROTONOSUPPORT, // no such protocol in the family
		syscall.EAFNOSUPPORT:    // no such family
		return true
	}
	return false
}

type opError struct {
	op  string
	err error
}

func (e *opError) Error() string {
	if errors.Is(e.err, enotsupp) {
		return e.op + ": operation not supported (ENOTSUPP)"
	}
	return e.op + ": " + e.err.Error()
}

func (e *opError) Unwrap() error { return e.err }

func (e *opError) Is(target error) bool {
	return target == errors.ErrUnsupported && Unsupported(e.err)
}
