package transfer

import (
	"context"

	"github.com/zcprobe/zcprobe/transmit"
)

// memory sends generated buffers. Each is used again only when the kernel has let
// go of it.
func (x *sending) memory(ctx context.Context) error {
	s := &x.o.Source
	r, err := x.newRotation(s.BufferBytes)
	if err != nil {
		return err
	}
	for i := range s.Repeat {
		b, err := r.take(ctx, x)
		if err != nil {
			return err
		}
		p := b.buf.Bytes()[:s.BufferBytes]
		if x.sum != nil || !b.filled {
			fill(p, i*((s.BufferBytes+7)&^7))
			b.filled = true
		}
		if x.sum != nil {
			x.sum.Write(p)
		}
		if err := x.send(ctx, b, p); err != nil {
			return err
		}
	}
	return nil
}

// send sends p, of b's memory.
func (x *sending) send(ctx context.Context, b *slot, p []byte) error {
	b.buf.SetLen(len(p)) // p begins where the buffer does
	c, err := x.sender.SendBuffer(ctx, b.buf)
	b.sent, b.lent = c, true
	way := c.Backend()
	if way.Copies() && x.o.Source.Kind != transmit.SourceMemory {
		way = transmit.ReadWrite // it was read before
	}
	x.went(way, c.Bytes())
	return err
}

// A rotation is memory to send from, outside of Go's heap, one buffer after the
// other.
type rotation struct {
	pool  *transmit.Pool
	slots []slot
	next  int
}

type slot struct {
	buf    transmit.Buffer
	filled bool
	lent   bool // sent, and not known to be let go of
	sent   transmit.Completion
}

// mostSlots is fewer than the transfers of which a Sender remembers what
// completions said.
const mostSlots = 32

func (x *sending) newRotation(bytes int64) (*rotation, error) {
	n := max(2, min(memoryAhead/bytes, mostSlots))
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: int(bytes), MaxBytes: n * (bytes + 64<<10)})
	if err != nil {
		return nil, err
	}
	x.rotation = &rotation{pool: pool, slots: make([]slot, n)}
	return x.rotation, nil
}

// take returns a buffer that may be written.
func (r *rotation) take(ctx context.Context, x *sending) (*slot, error) {
	b := &r.slots[r.next]
	r.next = (r.next + 1) % len(r.slots)
	if err := b.await(ctx, x); err != nil {
		return nil, err
	}
	if b.buf == (transmit.Buffer{}) {
		var err error
		if b.buf, err = r.pool.Get(ctx); err != nil {
			return nil, err
		}
	}
	b.buf.SetLen(r.pool.BufferBytes())
	return b, nil
}

func (b *slot) await(ctx context.Context, x *sending) error {
	if !b.lent {
		return nil
	}
	res, err := b.sent.Wait(ctx)
	if err != nil {
		return err
	}
	b.lent = false
	x.last.add(res.Reported)
	return nil
}

// close takes in what completions said last and gives the memory back, except what
// the kernel may still read.
func (r *rotation) close(ctx context.Context, x *sending) {
	if r == nil {
		return
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	for i := range r.slots {
		b := &r.slots[i]
		if b.lent && b.sent.Released() {
			_ = b.await(ctx, x) // released: nothing is waited for
		}
		if b.buf != (transmit.Buffer{}) && !b.lent {
			b.buf.Release()
		}
	}
	_ = r.pool.Close(done) // what is not back stays mapped
}
