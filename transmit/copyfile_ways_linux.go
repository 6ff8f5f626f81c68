package transmit

import (
	"errors"
	"io"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// copyChunk is the most that is copied before the context is looked at again. It is
// far below MAX_RW_COUNT, 0x7ffff000 bytes, which one call moves at most.
const copyChunk = 32 << 20

// cloneAlign is the block size of most file systems. Those with larger blocks refuse
// what isn't aligned to them.
const cloneAlign = 4096

// cloneMin is the least for which sharing is asked. Being refused takes 0.3 us, a copy
// of 256 KiB about 20 (Linux 6.18, ext4 and tmpfs, 2026-11-22); what copy_file_range
// shares by itself is not kept from it.
const cloneMin = 256 << 10

// share makes dst share the extents of the range, or of the whole blocks it has, and
// leaves to the other ways what it cannot. Being refused is in the nature of most
// file systems, and no news.
func (c *copier) share(src, dst int) {
	n := c.end - c.in
	if n < cloneMin || (c.in|c.out)%cloneAlign != 0 || c.end > c.from.Size || c.ctx.Err() != nil {
		return
	}
	if c.end != c.from.Size {
		n -= n % cloneAlign
	}
	for {
		err := c.calls.CloneRange(dst, c.out, src, c.in, n)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err == nil {
			c.advance(n)
			c.shared = n
		}
		return
	}
}

// errSourceEnd says that a way found no more bytes.
var errSourceEnd = errors.New("source ended")

// copyTo copies up to the offset to of src, by the ways that are left.
func (c *copier) copyTo(to int64) error {
	for c.in < to {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		chunk := int(min(to-c.in, copyChunk))
		err := c.with(func(src, dst int) error {
			err := c.step(src, dst, chunk)
			if err != nil && !c.checked {
				if wrong := c.check(src, dst); wrong != nil {
					return &fatalError{wrong}
				}
			}
			return err
		})
		var fatal *fatalError
		switch {
		case err == nil:
		case errors.As(err, &fatal):
			return fatal.error
		case c.way == ReadWrite, !errors.Is(err, errSourceEnd) && !c.refusedFor(err):
			return err
		case errors.Is(err, errSourceEnd) && c.ended():
			return err
		default:
			c.nextWay(err)
		}
	}
	return nil
}

// A fatalError is not to be answered by another way.
type fatalError struct{ error }

// step copies up to n bytes, at least one without an error, and advances by what it
// copied in any case.
func (c *copier) step(src, dst, n int) error {
	switch c.way {
	case CopyFileRange:
		c.offIn, c.offOut = c.in, c.out
		return c.once(c.calls.CopyFileRange(src, &c.offIn, dst, &c.offOut, n))
	case Sendfile:
		if err := c.reopen(dst); err != nil {
			return err
		}
		c.offIn = c.in
		return c.once(c.calls.Sendfile(c.reopened, src, &c.offIn, n))
	case Splice:
		return c.splice(src, dst, n)
	}
	return c.readWrite(src, dst, n)
}

// once takes the result of a call that copies.
func (c *copier) once(n int, err error) error {
	switch {
	case errors.Is(err, syscall.EINTR):
		return nil
	case err != nil:
		return err
	case n == 0:
		return errSourceEnd
	}
	c.advance(int64(n))
	return nil
}

// reopen opens dst with a position of its own, and sets that: sendfile(2) has no
// offset to write at.
func (c *copier) reopen(dst int) error {
	if c.reopened < 0 {
		fd, err := c.calls.Reopen(dst, sys.OpenWrite)
		if err != nil {
			return &refusedError{err: err}
		}
		c.reopened = fd
	}
	_, err := c.calls.Seek(c.reopened, c.out)
	return err
}

// splice copies through a pipe. A failure to write leaves bytes in it, which are not
// lost: the next way reads them from the file again.
func (c *copier) splice(src, dst, n int) error {
	p, err := c.pipes.get()
	if err != nil {
		return &refusedError{err: err}
	}
	defer func() { c.pipes.put(p) }()
	for stop := c.in + int64(n); c.in < stop; {
		c.offIn = c.in
		m, err := p.fill(c.calls, src, &c.offIn, int(min(stop-c.in, pipeBytes)))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return errSourceEnd
		}
		for p.held > 0 {
			c.offOut = c.out
			m, err := p.empty(c.calls, dst, &c.offOut)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err == nil && m == 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return err
			}
			c.advance(int64(m))
		}
	}
	return nil
}

func (c *copier) readWrite(src, dst, n int) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for stop := c.in + int64(n); c.in < stop; {
		m, err := c.calls.Pread(src, (*buf)[:min(stop-c.in, copyBytes)], c.in)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if m == 0 {
			return errSourceEnd
		}
		for b := (*buf)[:m]; len(b) > 0; {
			m, err := c.calls.Pwrite(dst, b, c.out)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err == nil && m == 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return err
			}
			b = b[m:]
			c.advance(int64(m))
		}
	}
	return nil
}

// ended reports whether src ends at c.in by its size.
func (c *copier) ended() bool {
	var st sys.Stat
	err := c.with(func(src, _ int) (err error) {
		st, err = c.calls.Fstat(src)
		return err
	})
	return err == nil && st.Size <= c.in
}

// refusedFor reports whether err says that another way may do what this one does
// not. EIO is what CIFS answers to copy_file_range; a medium that fails will say so
// again.
func (c *copier) refusedFor(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) || refuses(err) || errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EAGAIN)
}

// nextWay goes on by the next way, because of err.
func (c *copier) nextWay(err error) {
	if c.moved > c.bestMoved {
		c.best, c.bestMoved = c.way, c.moved
	}
	c.moved = 0
	from, reason := c.way, "the kernel does not copy these files that way"
	c.way = ReadWrite
	if from == CopyFileRange {
		c.way = Splice
	}
	switch {
	case errors.Is(err, errSourceEnd):
		reason, err = "it says that the file ends, and it does not", nil
	case errors.Is(err, syscall.EXDEV):
		reason = "the files are on different file systems"
	}
	c.tell(from, "fast-path-refused", reason, err)
}
