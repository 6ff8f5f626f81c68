//go:build !linux

package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// copyRange copies with a buffer.
func copyRange(ctx context.Context, dst, src *os.File, srcOff, dstOff, n int64, o CopyOptions) (Result, error) {
	if o.Backend != "" && o.Backend != ReadWrite {
		return Result{}, fmt.Errorf("%s: %w", o.Backend, errors.ErrUnsupported)
	}
	from, err := src.Stat()
	if err != nil {
		return Result{}, err
	}
	to, err := dst.Stat()
	if err != nil {
		return Result{}, err
	}
	if !from.Mode().IsRegular() || !to.Mode().IsRegular() {
		return Result{}, fmt.Errorf("not a regular file: %w", errors.ErrUnsupported)
	}
	want := n
	if n == -1 {
		want = max(from.Size()-srcOff, 0)
	}
	if os.SameFile(from, to) && overlap(srcOff, dstOff, want) {
		return Result{}, fmt.Errorf("copy within a file to a range that overlaps: %w", syscall.EINVAL)
	}
	r := Result{Backend: ReadWrite}
	buf := make([]byte, 128<<10)
	for r.Bytes < want {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		m, rerr := src.ReadAt(buf[:min(want-r.Bytes, int64(len(buf)))], srcOff+r.Bytes)
		w, werr := dst.WriteAt(buf[:m], dstOff+r.Bytes)
		r.Bytes += int64(w)
		r.PlainBytes = r.Bytes
		switch {
		case werr != nil:
			return r, werr
		case errors.Is(rerr, io.EOF) && r.Bytes < want:
			return r, &TruncatedError{Sent: r.Bytes, Want: want}
		case rerr != nil && !errors.Is(rerr, io.EOF):
			return r, rerr
		}
	}
	return r, nil
}
