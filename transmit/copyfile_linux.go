package transmit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A copier is one call of [CopyFile].
type copier struct {
	calls *calls
	pipes *pipePool
	ctx   context.Context
	opts  CopyOptions

	src, dst      syscall.RawConn
	srcOff, end   int64    // the range of src
	toEnd         bool     // n was -1
	from, to      sys.Stat // src and dst at the start, dst if checked
	checked       bool     // dst, and both together
	in, out       int64    // how far it is, in src and dst
	skipped       int64    // bytes of holes right before, which dst has not been made to have
	offIn, offOut int64    // what calls are given the address of

	way          Backend
	moved        int64   // by way
	best         Backend // of the ways before, the one that moved most
	bestMoved    int64
	shared, hole int64
	cause        string

	reopened int // dst with a position of its own, -1 if it isn't open
}

func copyRange(ctx context.Context, dst, src *os.File, srcOff, dstOff, n int64, o CopyOptions) (Result, error) {
	c := &copier{calls: kernelCalls(), pipes: &pipes, ctx: ctx, opts: o, srcOff: srcOff, in: srcOff, out: dstOff}
	return c.run(dst, src, n)
}

func (c *copier) run(dst, src *os.File, n int64) (r Result, err error) {
	c.reopened = -1
	if c.src, err = src.SyscallConn(); err != nil {
		return r, fmt.Errorf("source: %w", err)
	}
	if c.dst, err = dst.SyscallConn(); err != nil {
		return r, fmt.Errorf("destination: %w", err)
	}
	if err = c.with(func(src, dst int) error { return c.begin(src, dst, n) }); err == nil {
		err = c.copyAll()
	}
	if c.reopened >= 0 {
		_ = c.calls.Close(c.reopened)
	}
	if c.bestMoved <= c.moved {
		c.best = c.way
	}
	r = Result{Bytes: c.in - c.skipped - c.srcOff, Backend: c.best, SharedBytes: c.shared, HoleBytes: c.hole, Cause: c.cause}
	r.PlainBytes = r.Bytes - r.SharedBytes - r.HoleBytes
	return r, err
}

// begin looks at src, decides where to stop and how to begin, and shares what can be
// shared. What is wrong with dst the kernel says as well, to FICLONERANGE and
// copy_file_range: it is looked at when another way is taken, or nothing would be
// quick with small files.
func (c *copier) begin(src, dst int, n int64) (err error) {
	if c.from, err = c.calls.Fstat(src); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := regular("source", c.from); err != nil {
		return err
	}
	c.toEnd, c.end = n == -1, c.srcOff+n
	unsized := c.from.Size <= c.srcOff
	if c.toEnd {
		if c.end = c.from.Size; unsized {
			c.end = math.MaxInt64 // until it ends
		} else if c.out > math.MaxInt64-(c.end-c.in) {
			return fmt.Errorf("copy to offset %d: %w", c.out, syscall.EINVAL)
		}
	}
	stale := stalePages(c.calls, src)
	switch c.way = c.opts.Backend; {
	case c.way != "":
	case stale:
		c.way = ReadWrite
		c.tell(CopyFileRange, "stale-source", "the page cache may not have what the file holds", nil)
	case unsized:
		c.way = ReadWrite // nothing but reading tells where it ends
	case c.opts.OwnBlocks:
		c.way = Splice
	default:
		c.way = CopyFileRange
		c.share(src, dst)
	}
	if c.way != CopyFileRange || c.keepsHoles() {
		return c.check(src, dst)
	}
	return nil
}

// check looks at dst, and at both together. A file at its end has nothing to copy to
// itself, and must not be a bottomless source.
func (c *copier) check(src, dst int) (err error) {
	c.checked = true
	if c.to, err = c.calls.Fstat(dst); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if err := regular("destination", c.to); err != nil {
		return err
	}
	flags, err := c.calls.StatusFlags(dst)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	if flags&sys.OpenAppend != 0 {
		return fmt.Errorf("destination: open with O_APPEND, it cannot be written at an offset: %w", syscall.EINVAL)
	}
	if c.from.Device == c.to.Device && c.from.Inode == c.to.Inode {
		if c.end == math.MaxInt64 {
			c.end = c.in
		} else if overlap(c.in, c.out, c.end-c.in) {
			return fmt.Errorf("copy within a file to a range that overlaps: %w", syscall.EINVAL)
		}
	}
	return nil
}

func regular(name string, st sys.Stat) error {
	switch st.Mode & sys.ModeType {
	case sys.ModeRegular:
		return nil
	case sys.ModeDir:
		return fmt.Errorf("%s: %w", name, syscall.EISDIR)
	}
	return fmt.Errorf("%s: not a regular file: %w", name, errors.ErrUnsupported)
}

// with runs fn on both descriptors, which stay open meanwhile.
func (c *copier) with(fn func(src, dst int) error) (err error) {
	cerr := c.src.Control(func(src uintptr) {
		if derr := c.dst.Control(func(dst uintptr) { err = fn(int(src), int(dst)) }); derr != nil {
			err = fmt.Errorf("destination: %w", closedError(derr))
		}
	})
	if cerr != nil {
		return fmt.Errorf("source: %w", closedError(cerr))
	}
	return err
}

// advance notes that n bytes more are in dst.
func (c *copier) advance(n int64) {
	c.in += n
	c.out += n
	c.moved += n
	c.hole += c.skipped
	c.skipped = 0
}

// truncated returns what it means that src ended at c.in.
func (c *copier) truncated() error {
	if c.toEnd {
		var st sys.Stat
		err := c.with(func(src, _ int) (err error) {
			st, err = c.calls.Fstat(src)
			return err
		})
		if err != nil || st.Size >= c.from.Size {
			return err // it never had what its size said: sysfs
		}
		return &TruncatedError{Sent: c.in - c.skipped - c.srcOff, Want: c.from.Size - c.srcOff}
	}
	return &TruncatedError{Sent: c.in - c.skipped - c.srcOff, Want: c.end - c.srcOff}
}

// tell tells of a step down to c.way.
func (c *copier) tell(from Backend, cause, reason string, err error) {
	c.cause = cause
	tellDowngrade(c.opts.OnDowngrade, c.opts.Logger,
		&Downgrade{From: from, To: c.way, Cause: cause, Reason: reason, Err: err}, errors.Is(err, syscall.EXDEV))
}
