package transmit

import (
	"context"
	"errors"
)

// A Completion says when the memory of one transfer is the caller's again. It is
// a value, may be copied and dropped, and stays valid for ever; the zero
// Completion is of a transfer of nothing.
//
// Memory that was lent stays referenced until it is released, so that a
// Completion nobody looks at leaks nothing and frees nothing early.
type Completion struct {
	s     *Sender
	entry int
	gen   uint32
	sent  Result // as the call returned it
}

// ErrAbandoned says that a connection was closed while the kernel still held
// memory of a transfer. The kernel may read it for as long as it tries to reach
// the peer, and nothing will say when it stops: the memory must not be written
// again. It stays referenced for 16 minutes, which is longer than TCP tries.
var ErrAbandoned = errors.New("the connection was closed while the kernel held the memory")

// ErrUnacknowledged says that a connection ended before the peer had
// acknowledged a transfer. The memory is the caller's again; how much the peer
// received is not known.
var ErrUnacknowledged = errors.New("the connection ended before the peer acknowledged")

// Bytes returns how many bytes the kernel took. With an error of the send it is
// how far the transfer got.
func (c Completion) Bytes() int64 { return c.sent.Bytes }

// Backend returns the backend that moved them.
func (c Completion) Backend() Backend { return c.sent.Backend }

// Released reports whether the memory is the caller's again. It makes no system
// call: what the kernel has said lately is found within 20 milliseconds.
func (c Completion) Released() bool {
	if c.s == nil {
		return true
	}
	return c.s.released(c)
}

// Wait waits until the memory is the caller's again and returns how the transfer
// went. The error is the context's, [ErrAbandoned] or [ErrUnacknowledged]; with
// the context's the kernel still holds the memory.
//
// Of transfers that were released more than 64 transfers ago only the bytes and
// the backend are known still: Reported is then NotReported.
func (c Completion) Wait(ctx context.Context) (Result, error) {
	if c.s == nil {
		return c.sent, nil
	}
	return c.s.await(ctx, c)
}
