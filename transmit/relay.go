package transmit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"syscall"
)

// RelayOptions change how [Relay] works. The zero value is a good one.
type RelayOptions struct {
	// Backend is [Splice] or [ReadWrite]; "" is splice where the kernel can, and
	// read_write for 8 KiB and less, and from files of which the page cache may be
	// out of date (FUSE and folders shared with the host of a virtual machine,
	// explain stale-source).
	Backend Backend

	// OnDowngrade is told when the relay goes on by a lesser way. It is called by
	// the goroutine that relays. Without it Logger is told, at level Info.
	OnDowngrade func(*Downgrade)
	Logger      *slog.Logger // nil: slog.Default()
}

// Relay moves n bytes from src to dst, or with n -1 all until src ends, without
// bringing them into the process where the kernel can: by splice(2), through a pipe
// of its own if neither end is one.
//
// Both ends are a *net.TCPConn, a stream *net.UnixConn, or an *os.File: the pipe of
// a program's output, a FIFO, a regular file, which is read or written from its
// position on. No other types are taken, as what embeds a connection may have
// buffered bytes of it. Relay neither closes an end nor shuts it down for writing
// when src ends; a proxy relays each direction in a goroutine, see the example.
//
// It returns when n bytes were taken by dst, when src ends, or with a *[RelayError].
// A source that ends before n bytes is an io.ErrUnexpectedEOF. Deadlines of the ends
// hold, and fail with os.ErrDeadlineExceeded. When ctx ends the relay ends, with
// ctx.Err(); if it was waiting for an end by then, it used src's read deadline and
// dst's write deadline to be woken, and both are none afterwards. A descriptor in
// blocking mode is looked after every 100 ms, and may hold its thread when it is a
// socket that takes less than it seemed to.
//
// While src has nothing to read Relay holds neither pipe nor buffer: a thousand idle
// relays cost their goroutines. While dst takes nothing up to 1 MiB of src wait in a
// pipe.
//
// Where splice is refused (EINVAL, ENOSYS, EPERM and the like: a target with
// O_APPEND, a filter, no descriptors left for a pipe) the relay goes on by reading
// and writing, at the byte where splice stopped.
//
// A regular file's pages are referenced and not copied until the peer has
// acknowledged them: it must not change before (explain live-source).
func Relay(ctx context.Context, dst, src syscall.Conn, n int64, o RelayOptions) (Result, error) {
	if n < -1 {
		return Result{}, fmt.Errorf("relay %d bytes: %w", n, syscall.EINVAL)
	}
	switch o.Backend {
	case "", Splice, ReadWrite:
	default:
		return Result{}, fmt.Errorf("relay by %s: %w", o.Backend, errNotForStreams)
	}
	if n == -1 {
		n = unbounded
	}
	return relayStreams(ctx, dst, src, n, o)
}

// unbounded stands for all that the source has.
const unbounded = math.MaxInt64

// errNotForStreams matches errors.ErrUnsupported.
var errNotForStreams = fmt.Errorf("not for a relay of streams: %w", errors.ErrUnsupported)

// A RelayError says how far a relay got. What lies between Read and Written was
// taken from src and is lost, unless src is a regular file.
type RelayError struct {
	Read    int64 // bytes taken from src
	Written int64 // bytes that dst took
	Err     error // what went wrong, and at which end
}

// Error says how far it got and why no further.
func (e *RelayError) Error() string {
	s := fmt.Sprintf("relay ended after %d bytes", e.Written)
	if lost := e.Read - e.Written; lost > 0 {
		s += fmt.Sprintf(" and %d more that were read", lost)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns what went wrong.
func (e *RelayError) Unwrap() error { return e.Err }
