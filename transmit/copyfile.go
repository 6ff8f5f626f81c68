package transmit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"syscall"
)

// CopyOptions change how [CopyFile] works. The zero value is a good one.
type CopyOptions struct {
	// Backend is [CopyFileRange], [Splice], [Sendfile] or [ReadWrite]; "" tries to
	// share the extents, then copy_file_range, splice and read_write, in the order
	// of their cost. A backend that is refused is followed by the next of these.
	Backend Backend

	// OwnBlocks makes the copy have blocks of its own: no sharing of extents, and
	// no copy_file_range, which may share them without saying so and cannot be asked
	// for together with this.
	OwnBlocks bool

	// FillHoles makes holes of src take space in dst. Without it those holes stay
	// holes that fall beyond what the end of dst was when the copy began; within
	// dst they are written as zeros in any case.
	FillHoles bool

	// OnDowngrade is told when the copy goes on by a lesser way. It is called by the
	// goroutine that copies. Without it Logger is told, at level Info,
	// or Debug where the files are on different file systems.
	OnDowngrade func(*Downgrade)
	Logger      *slog.Logger // nil: slog.Default()
}

// CopyFile copies n bytes of src from srcOff on to dst at dstOff, or with n -1 all
// up to the end that src has when the copy begins. Both are regular files; the
// positions of both are neither used nor changed, so that copies of several ranges
// may run at a time. dst grows as needed and is never made shorter. Nothing is synced
// to the medium.
//
// The ways are, from the best on: FICLONERANGE, where the file system shares extents
// (xfs, btrfs), for 256 KiB and more at offsets that are multiples of 4096; copy_file_range(2), one copy in the
// kernel or none, of which nothing is known, on the same file system; splice(2)
// through a pipe, one copy in the kernel; and two copies through a buffer. Each is
// followed by the next, at the byte where it stopped, where it is refused (EXDEV,
// EINVAL, EOPNOTSUPP, ENOSYS, EPERM, EIO) or says that src ends when it does not, as
// copy_file_range does of procfs. Files of FUSE and of folders shared with the host
// of a virtual machine are read and written (explain stale-source), and so are those
// without a size, as in procfs.
//
// [Sendfile] writes at a position, for which CopyFile opens dst anew, through /proc.
// It is no faster than splice and used only when it is asked for.
//
// A source that ends before n bytes, or with n -1 was made shorter meanwhile, is a
// *[TruncatedError]. Result.Bytes says how far an error let it get. EINVAL are ranges
// of the same file that overlap, offsets that are negative or beyond 2^63-1, and a dst
// that is open with O_APPEND, of which writes go to the end whatever the offset. What
// is no regular file is EISDIR or matches errors.ErrUnsupported; [Relay] is for pipes
// and sockets. ctx is looked at every 32 MiB; a copy that shares extents is one call.
func CopyFile(ctx context.Context, dst, src *os.File, srcOff, dstOff, n int64, o CopyOptions) (Result, error) {
	switch o.Backend {
	case "", Splice, Sendfile, ReadWrite:
	case CopyFileRange:
		if o.OwnBlocks {
			return Result{}, fmt.Errorf("copy_file_range may share blocks: %w", syscall.EINVAL)
		}
	default:
		return Result{}, fmt.Errorf("copy a file by %s: %w", o.Backend, errors.ErrUnsupported)
	}
	if srcOff < 0 || dstOff < 0 || n < -1 || n > math.MaxInt64-max(srcOff, dstOff) {
		return Result{}, fmt.Errorf("copy %d bytes from %d to %d: %w", n, srcOff, dstOff, syscall.EINVAL)
	}
	if n == 0 {
		return Result{Backend: o.Backend}, nil
	}
	return copyRange(ctx, dst, src, srcOff, dstOff, n, o)
}

// overlap reports whether two ranges of n bytes have bytes in common.
func overlap(a, b, n int64) bool { return max(a, b)-min(a, b) < n }
