package transmit

import (
	"fmt"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// inspect finds out what the source is, and what of it is to be sent.
func (s *Sender) inspect() error {
	fs := s.file
	var err error
	if fs.stat, err = s.calls.Fstat(fs.src); err != nil {
		return err
	}
	switch fs.stat.Mode & sys.ModeType {
	case sys.ModeDir:
		return syscall.EISDIR
	case sys.ModeFIFO:
		return fmt.Errorf("a pipe: %w", errRelay)
	case sys.ModeSocket:
		return fmt.Errorf("a socket: %w", errRelay)
	}
	if len(fs.o.Header) > 0 {
		// Before the header is out. Without one the first call on the file says so.
		if flags, err := s.calls.StatusFlags(fs.src); err != nil {
			return err
		} else if flags&sys.OpenAccess == sys.OpenWrite {
			return fmt.Errorf("not open for reading: %w", syscall.EBADF)
		}
	}
	if fs.o.Lease {
		if fs.lease, err = acquireLease(s.calls, fs.file); err != nil {
			return err
		}
		// As it is now that nobody changes it.
		if fs.stat, err = s.calls.Fstat(fs.src); err == nil {
			err = fs.inspectRange()
		}
		if err != nil {
			_ = fs.lease.Release() // nothing was sent under it
		}
		return err
	}
	return fs.inspectRange()
}

// checkLease ends the transfer if somebody wants to change the file, and so many
// bytes were sent since it was last asked.
func (s *Sender) checkLease(after int64) {
	fs := s.file
	if fs.lease == nil || fs.pos-fs.checked < after {
		return
	}
	s.job.err = fs.lease.Check()
	fs.checked = fs.pos
}

// inspectRange finds the end of the range.
func (fs *fileSend) inspectRange() error {
	size := fs.stat.Size
	if fs.stat.Mode&sys.ModeType != sys.ModeRegular || size == 0 {
		// Devices have no size, nor have many files that are made when they are read.
		fs.open = true
		if !fs.named {
			fs.end = noEnd
		}
		return nil
	}
	switch {
	case fs.start > size && !fs.named:
		return fmt.Errorf("offset %d is past its end at %d: %w", fs.start, size, syscall.EINVAL)
	case !fs.named:
		fs.end = size
	case fs.end > size && fs.end > fs.start:
		return fmt.Errorf("%d bytes at %d of a file of %d: %w", fs.end-fs.start, fs.start, size, &TruncatedError{Want: fs.end - fs.start})
	}
	return nil
}
