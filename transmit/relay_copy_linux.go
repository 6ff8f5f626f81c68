package transmit

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const (
	// copyBytes is the size of a buffer for reading and writing. From file to file the
	// rate no longer grows above 128 KiB; to a connection 256 KiB of a file in one piece
	// take 1.0 to 1.2 of the CPU time of the same calls in C, in two pieces 1.3 to 1.5
	// (Linux 6.18, 2026-11-22).
	copyBytes = 256 << 10

	// blockingPipeBytes is PIPE_BUF: a pipe that poll(2) calls writable takes that
	// many bytes without blocking; pipe(7).
	blockingPipeBytes = 4096
)

// copyBuffers holds *[]byte of copyBytes. Go puts objects of that size on pages of
// their own, which makes them fit for O_DIRECT.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, copyBytes)
	return &b
}}

// readWrite relays by two copies: first what a pipe of ours still holds, then what
// src has.
func (r *relay) readWrite() error {
	defer r.letGo()
	for r.pipe != nil && r.pipe.held > 0 {
		r.takeBuffer()
		n, err := r.pipe.read(r.calls, *r.buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := r.writeOut((*r.buf)[:n]); err != nil {
			return err
		}
	}
	if r.pipe != nil {
		r.pipes.put(r.pipe)
		r.pipe = nil
	}
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.through(&r.src, r.ops.readSome); err != nil {
			return err
		}
		if r.err != nil {
			return r.src.wrap(r.err)
		}
		if r.n == 0 {
			return nil
		}
		r.read += int64(r.n)
		r.left -= int64(r.n)
		if err := r.writeOut((*r.buf)[:r.n]); err != nil {
			return err
		}
	}
	return nil
}

func (r *relay) takeBuffer() {
	if r.buf == nil {
		r.buf = copyBuffers.Get().(*[]byte)
	}
}

func (r *relay) letGo() {
	if r.buf != nil {
		copyBuffers.Put(r.buf)
		r.buf = nil
	}
}

// readSome gives the buffer back before it waits.
func (r *relay) readSome(fd uintptr) bool {
	r.takeBuffer()
	for {
		r.n, r.err = r.calls.Read(int(fd), (*r.buf)[:min(r.left, copyBytes)])
		switch r.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.letGo()
			r.watch()
			return false
		}
		return true
	}
}

// writeOut writes all of b to dst.
func (r *relay) writeOut(b []byte) error {
	r.unwritten = b
	for len(r.unwritten) > 0 {
		if err := r.through(&r.dst, r.ops.writeSome); err != nil {
			return err
		}
		if r.err != nil {
			return r.dst.wrap(r.err)
		}
		r.unwritten = r.unwritten[r.n:]
		r.copied += int64(r.n)
	}
	return nil
}

func (r *relay) writeSome(fd uintptr) bool {
	b := r.unwritten
	if r.dst.blocking && r.dst.kind == sys.ModeFIFO {
		b = b[:min(len(b), blockingPipeBytes)]
	}
	for {
		r.n, r.err = r.calls.Write(int(fd), b)
		switch {
		case r.err == syscall.EINTR:
			continue
		case r.err == syscall.EAGAIN:
			r.watch()
			return false
		case r.err == nil && r.n == 0:
			r.err = io.ErrShortWrite
		}
		return true
	}
}

// A refusedError says that the kernel does not do what was asked and that another
// way may do it.
type refusedError struct {
	err    error
	cause  string
	reason string
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// refusal wraps what splice answered, and marks what only says that it cannot be
// done by splice.
func (e *end) refusal(err error) error {
	var refused *refusedError
	if errors.As(err, &refused) {
		return err
	}
	if refuses(err) {
		return &refusedError{e.wrap(err), "fast-path-refused", "the kernel does not splice between these two"}
	}
	if e.write && e.kind == sys.ModeSocket && errors.Is(err, syscall.EIO) {
		return &refusedError{e.wrap(err), "page-not-sendable", "the kernel does not send these pages by reference"}
	}
	return e.wrap(err)
}

// refuses reports whether err says that a call cannot do this, or may not: EINVAL
// from descriptors that it cannot connect, ENOSYS from kernels and EPERM or EACCES
// from filters that do without it.
func refuses(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || sys.Unsupported(err)
}

// downgrade tells that the relay goes on by reading and writing.
func (r *relay) downgrade(cause, reason string, err error) {
	r.cause = cause
	tellDowngrade(r.opts.OnDowngrade, r.opts.Logger,
		&Downgrade{From: Splice, To: ReadWrite, Cause: cause, Reason: reason, Err: err}, false)
}

// stalePages reports whether a file lies where the page cache may not have what the
// file holds: a FUSE daemon or the host of a virtual machine may serve it otherwise
// (explain stale-source). linux/magic.h; vboxsf in fs/vboxsf/super.c, prl_fs by its
// vendor.
func stalePages(k *calls, fd int) bool {
	magic, err := k.FSMagic(fd)
	if err != nil {
		return false
	}
	switch magic {
	case 0x65735546, 0x01021997, 0x786f4256, 0x7c7c6673: // fuse and virtiofs, 9p, vboxsf, prl_fs
		return true
	}
	return false
}
