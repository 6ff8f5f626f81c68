package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

const (
	// closeTimeout bounds how long memory that the kernel holds is waited for when
	// a transfer has failed already.
	closeTimeout = 500 * time.Millisecond
	// askEvery is how often the socket is asked for what is not acknowledged.
	askEvery = 5 * time.Millisecond
	// endMarks is how many empty datagrams end a transfer: one could get lost.
	endMarks = 3
)

// An UnacknowledgedError says that the peer's kernel did not acknowledge all that
// was sent.
type UnacknowledgedError struct {
	Bytes int64
	Err   error // what became of the connection, or that nothing moved any more
}

// Error says how much.
func (e *UnacknowledgedError) Error() string {
	if e.Bytes == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("the peer did not acknowledge %d bytes: %v", e.Bytes, e.Err)
}

// Unwrap returns why.
func (e *UnacknowledgedError) Unwrap() error { return e.Err }

// finish ends the stream and waits until everything is acknowledged. A transfer
// that failed is ended by a reset: the end of the stream would tell the peer that
// it has everything.
func (x *sending) finish(ctx context.Context, err error) error {
	if err == nil {
		err = x.end()
	}
	if err == nil {
		err = x.confirm(ctx, x.o.Wait)
	} else {
		// What the peer has by now is worth knowing, and takes no time if all is well.
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		_ = x.confirm(brief, closeTimeout)
		cancel()
	}
	x.r.DurationNS = time.Since(x.begun).Nanoseconds()
	x.stats()
	for _, c := range x.kept {
		x.collect(c)
	}
	x.rotation.close(context.WithoutCancel(ctx), x)
	if err != nil {
		if tcp, ok := x.conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	a, cerr := x.sender.Close(closing)
	x.r.AbandonedBytes = a.Bytes
	if x.ring != nil {
		// What is abandoned is told above.
		if rerr := x.ring.Close(closing); cerr == nil && !errors.Is(rerr, transmit.ErrAbandoned) {
			cerr = rerr
		}
	}
	if err == nil && !errors.Is(cerr, transmit.ErrUnacknowledged) {
		err = cerr
	}
	return err
}

// end tells the peer that nothing more comes.
func (x *sending) end() error {
	switch c := x.conn.(type) {
	case interface{ CloseWrite() error }:
		return c.CloseWrite()
	case *net.UDPConn:
		for range endMarks {
			if _, err := c.Write(nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// confirm waits until the kernel holds nothing of the transfer any more: for a
// stream, until the peer's has it all. It ends when nothing moves for so long.
func (x *sending) confirm(ctx context.Context, patience time.Duration) error {
	moved, least := time.Now(), int64(-1)
	for {
		left, err := x.outstanding()
		if err != nil {
			return err
		}
		if x.r.Protocol != "udp" {
			x.r.AcknowledgedBytes = new(x.r.SentBytes - min(left, x.r.SentBytes))
		}
		if left == 0 && x.sender.Stats().Outstanding == 0 {
			return x.socketError(0)
		}
		if err := x.socketError(left); err != nil {
			return err
		}
		if least < 0 || left < least {
			moved, least = time.Now(), left
		}
		if time.Since(moved) > patience {
			return &UnacknowledgedError{Bytes: left, Err: fmt.Errorf("nothing moved for %v", patience)}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(askEvery):
		}
	}
}

// outstanding is how much the kernel has and the peer does not, as far as the
// protocol tells. The end of a TCP stream counts as a byte while it is out.
func (x *sending) outstanding() (int64, error) {
	n, err := 0, error(nil)
	cerr := control(x.conn, func(fd int) {
		var e syscall.Errno
		if n, e = sys.OutQueue(fd); e != 0 {
			err = e
		}
	})
	return int64(n), errors.Join(cerr, err)
}

// socketError is what became of the connection.
func (x *sending) socketError(left int64) error {
	var v int
	var err error
	if cerr := control(x.conn, func(fd int) { v, err = sys.GetsockoptInt(fd, sys.SolSocket, sys.SoError) }); cerr != nil {
		return cerr
	}
	if err != nil || v == 0 {
		return err
	}
	return &UnacknowledgedError{Bytes: left, Err: syscall.Errno(v)}
}

func control(c syscall.Conn, f func(fd int)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// stats takes over what the sender counted.
func (x *sending) stats() {
	st := x.sender.Stats()
	x.r.CopiedByCallsBytes = st.PlainBytes + x.plain
	x.r.ZerocopySends, x.r.NotifiedSends, x.r.CopiedSends = st.ZerocopySends, st.Notified, st.CopiedSends
}

// account completes the report from what was counted.
func (x *sending) account() {
	for b, n := range x.ways {
		x.r.Ways = append(x.r.Ways, Way{Backend: string(b), Bytes: n})
	}
	slices.SortFunc(x.r.Ways, func(a, b Way) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Backend, b.Backend))
	})
	if len(x.r.Ways) > 0 {
		x.r.Backend = x.r.Ways[0].Backend
	}
	if b := string(x.plan.Backend); x.forced() && x.r.SentBytes > 0 && x.ways[x.plan.Backend] == 0 && len(x.r.Downgrades) == 0 {
		x.r.Downgrades = append(x.r.Downgrades, Downgrade{From: b, To: x.r.Backend, Reason: "it does not apply to what was sent"})
	}
	x.r.Reported = x.last.verdict().String()
	x.r.RateBytesPerS = rate(x.r.SentBytes, x.r.DurationNS)
}

func rate(bytes, ns int64) int64 {
	if ns <= 0 {
		return 0
	}
	return int64(float64(bytes) / (float64(ns) / 1e9))
}

// reports joins what completions said.
type reports struct{ copied, uncopied, mixed bool }

func (r *reports) add(v transmit.Reported) {
	switch v {
	case transmit.Copied:
		r.copied = true
	case transmit.Uncopied:
		r.uncopied = true
	case transmit.Mixed:
		r.mixed = true
	}
}

func (r *reports) verdict() transmit.Reported {
	switch {
	case r.mixed, r.copied && r.uncopied:
		return transmit.Mixed
	case r.copied:
		return transmit.Copied
	case r.uncopied:
		return transmit.Uncopied
	}
	return transmit.NotReported
}
