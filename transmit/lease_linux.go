package transmit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A Lease keeps a file from being changed for the time of a transfer: a read lease
// (fcntl(2), F_SETLEASE). While it is held, whoever opens the file for writing or
// truncates it waits in the kernel, or gets EWOULDBLOCK with O_NONBLOCK, until the
// lease is released, at most for fs.lease-break-time (45 seconds) from then on.
//
// Take it before the first byte is sent and release it when the last one is
// acknowledged. [Lease.Check] says that someone waits: finish soon. The answer of
// [Lease.Release] is the one that counts: without an error the content was the
// same all the time.
//
// To open for reading with O_TRUNC passes a lease by (do_dentry_open looks at the
// access mode alone); it is found out by the size. What it does not see: writers on other clients of a network file system, and who
// writes to the block device. Needs Linux and /proc.
type Lease struct {
	calls *calls
	name  string

	mu   sync.Mutex
	fd   int   // an open file of our own; -1 after Release
	size int64 // of the file when the lease was taken
}

// AcquireLease takes a read lease on a regular file that is open for reading.
//
// Errors: [*SourceChangingError] if anyone has the file open for writing, this
// process included, or mapped writable and shared, also when what was mapped is
// closed. fs.ErrPermission if the process neither owns the file nor has CAP_LEASE.
// errors.ErrUnsupported if the file system has no leases, or it is no regular file.
func AcquireLease(f *os.File) (*Lease, error) { return acquireLease(kernelCalls(), f) }

func acquireLease(k *calls, f *os.File) (*Lease, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &Lease{calls: k, name: f.Name(), fd: -1}
	if e := rc.Control(func(fd uintptr) { err = l.take(int(fd)) }); e != nil {
		err = fs.ErrClosed
	}
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return nil, &SourceChangingError{Name: l.name, Reason: "it is open for writing, or mapped writable", Err: err}
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%w: only the owner of a file, or CAP_LEASE, gets a lease on it", err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOLCK):
		err = errors.Join(err, errors.ErrUnsupported)
	}
	return nil, fmt.Errorf("lease on %s: %w", l.name, err)
}

// take opens the file anew and takes the lease on that: a lease belongs to the open
// file, so on the caller's two transfers would share one, and the first to end
// would end it for both.
func (l *Lease) take(fd int) error {
	st, err := l.calls.Fstat(fd)
	if err != nil {
		return err
	}
	if kind := st.Mode & sys.ModeType; kind != sys.ModeRegular {
		return fmt.Errorf("not a regular file: %w", errors.ErrUnsupported) // to open a FIFO would wake its writers
	}
	own, err := l.calls.Reopen(fd, sys.OpenRead)
	if err != nil {
		return fmt.Errorf("a lease needs an open file of its own: %w", err)
	}
	// Whoever breaks the lease makes the kernel send a signal. By default it is
	// SIGIO, which Go's runtime ignores, but which ends a C program that has Go for
	// a library. Nobody needs it: Check asks. F_SETLEASE makes this process the
	// owner of the file's signals if it has none (lease_setup), so that they can be
	// switched off only afterwards; until then it is one that nobody minds.
	err = l.calls.SetSignal(own, sys.SignalUrgent)
	if err == nil {
		err = l.calls.SetLease(own, sys.LeaseRead)
	}
	if err == nil {
		err = l.calls.SetOwner(own, 0)
	}
	if err != nil {
		return errors.Join(err, l.calls.Close(own)) // which ends the lease
	}
	// The size as it is under the lease.
	if st, err = l.calls.Fstat(own); err != nil {
		return errors.Join(err, l.calls.Close(own))
	}
	l.fd, l.size = own, st.Size
	return nil
}

// truncated says that the file has another size than when the lease was taken.
func (l *Lease) truncated(fd int) error {
	st, err := l.calls.Fstat(fd)
	if err != nil {
		return fmt.Errorf("lease on %s: %w", l.name, err)
	}
	if st.Size == l.size {
		return nil
	}
	return &SourceChangingError{Name: l.name, Changed: true,
		Reason: fmt.Sprintf("it had %d bytes and has %d, though a lease is held", l.size, st.Size)}
}

// Check returns nil while nobody wants to change the file, and else a
// [*SourceChangingError]: the content is still the same, but will not be for long,
// or changed already.
// After Release it is fs.ErrClosed.
func (l *Lease) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return fmt.Errorf("lease on %s: %w", l.name, fs.ErrClosed)
	}
	held, err := l.calls.Lease(l.fd)
	if err != nil {
		return fmt.Errorf("lease on %s: %w", l.name, err)
	}
	if held != sys.LeaseRead {
		return &SourceChangingError{Name: l.name, Reason: "someone is opening it for writing or truncating it"}
	}
	return l.truncated(l.fd)
}

// Release ends the lease and lets the writers on. A [*SourceChangingError] says
// that they went on before, since the lease was held for longer than
// fs.lease-break-time after someone wanted to write: what was sent may be mixed.
// Released twice is fs.ErrClosed.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return fmt.Errorf("lease on %s: %w", l.name, fs.ErrClosed)
	}
	fd := l.fd
	l.fd = -1
	// A lease that was taken away cannot be given back (generic_delete_lease).
	changed := l.truncated(fd)
	err := l.calls.SetLease(fd, sys.LeaseNone)
	closed := l.calls.Close(fd)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return &SourceChangingError{Name: l.name, Reason: "the kernel ended the lease, for a writer that had waited for fs.lease-break-time",
			Changed: true, Err: err}
	case err != nil:
		return fmt.Errorf("lease on %s: %w", l.name, err)
	case changed != nil:
		return changed
	}
	return closed
}
