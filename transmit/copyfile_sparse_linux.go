package transmit

import (
	"errors"
	"math"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// copyAll copies what is left, and keeps holes where it may.
func (c *copier) copyAll() error {
	err := c.copyHoles()
	if err == nil {
		err = c.copyTo(c.end)
	}
	if errors.Is(err, errSourceEnd) {
		return c.truncated()
	}
	return err
}

// keepsHoles reports whether there may be holes to keep.
func (c *copier) keepsHoles() bool {
	return c.from.Allocated < c.from.Size && !c.opts.FillHoles && c.end != math.MaxInt64 && c.in < c.end
}

// copyHoles copies while there are holes to keep. It looks for them through a
// descriptor of its own, as lseek(2) moves the position; without one, and where the
// file system does not tell, holes are copied as zeros.
func (c *copier) copyHoles() error {
	if !c.keepsHoles() {
		return nil
	}
	var fd int
	err := c.with(func(src, _ int) (err error) {
		fd, err = c.calls.Reopen(src, 0)
		return err
	})
	if err != nil {
		return nil
	}
	defer func() { _ = c.calls.Close(fd) }()
	// What dst has is overwritten, zeros and all.
	if have := c.to.Size - c.out; have > 0 {
		if err := c.copyTo(min(c.end, c.in+have)); err != nil {
			return err
		}
	}
	for c.in < c.end {
		data, ok := c.nextData(fd)
		if !ok {
			return nil
		}
		c.skip(data)
		hole, err := c.calls.SeekHole(fd, c.in)
		if err != nil || hole <= c.in {
			return nil
		}
		if err := c.copyTo(min(hole, c.end)); err != nil {
			return err
		}
	}
	return nil
}

// nextData returns where the next data of src begins, c.end if there is none in the
// range.
func (c *copier) nextData(fd int) (int64, bool) {
	data, err := c.calls.SeekData(fd, c.in)
	if err == nil {
		return min(data, c.end), data >= c.in
	}
	if !errors.Is(err, syscall.ENXIO) {
		return 0, false
	}
	// Only a hole is left, or the file was made shorter.
	var st sys.Stat
	if st, err = c.calls.Fstat(fd); err != nil || st.Size < c.end {
		return 0, false
	}
	return c.end, true
}

// skip leaves out a hole that ends at data. If it ends the range, the last block is
// copied with its zeros: setting the size of dst instead could cut off what another
// copy has put behind.
func (c *copier) skip(data int64) {
	n := data - c.in
	if data == c.end {
		n -= (c.out+n-1)%cloneAlign + 1
	}
	if n > 0 {
		c.in += n
		c.out += n
		c.skipped += n
	}
}
