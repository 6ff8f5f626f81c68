package transmit

import (
	"context"
	"fmt"
)

// A Batch is sends on many connections from one goroutine, handed to the kernel by
// one system call for every 64 of them: a message for ten thousand connections, or
// the answers of an event loop. It is made by [Ring.NewBatch], filled by Send and
// SendBuffer, sent by Flush, and used again. One goroutine at a time uses it.
type Batch struct {
	items []*batchItem // those from n on are kept for later
	n     int
	sent  bool
	batch
}

// batchItem is one send.
type batchItem struct {
	s      *Sender
	p      []byte
	buffer Buffer
	c      Completion
	err    error
	batchSend
}

// Send adds a send of p and returns its number, 0 for the first after a Flush. What
// [Sender.Send] says of p counts from the call of Flush on.
func (b *Batch) Send(s *Sender, p []byte) int {
	it := b.add()
	it.s, it.p = s, p
	return b.n - 1
}

// SendBuffer adds a send of a buffer of a [Pool], which the caller must not release
// before Flush returns.
func (b *Batch) SendBuffer(s *Sender, buffer Buffer) int {
	it := b.add()
	it.s, it.buffer = s, buffer
	return b.n - 1
}

func (b *Batch) add() *batchItem {
	if b.sent {
		b.Reset()
	}
	if b.n == len(b.items) {
		b.items = append(b.items, &batchItem{})
	}
	b.n++
	return b.items[b.n-1]
}

// Reset forgets all sends and what became of them.
func (b *Batch) Reset() {
	for _, it := range b.items[:b.n] {
		it.s, it.p, it.buffer, it.c, it.err = nil, nil, Buffer{}, Completion{}, nil
	}
	b.n, b.sent = 0, false
}

// Len is the number of sends.
func (b *Batch) Len() int { return b.n }

// Result returns what [Sender.Send] would have returned of the i-th send. It is valid
// after Flush, until the next Send, SendBuffer or Reset.
func (b *Batch) Result(i int) (Completion, error) { return b.items[i].c, b.items[i].err }

// Flush makes the sends. It returns when the kernel has taken all of them or ctx
// ends, and does not wait for one connection before it sends on another: where there
// is no room for all of a send the rest follows as [Sender.Send] does it. Sends of
// the same Sender go out in order. The error says how many failed, and wraps that of
// the first.
func (b *Batch) Flush(ctx context.Context) error {
	if b.sent {
		b.Reset()
	}
	b.sent = true
	b.flush(ctx)
	failed, first := 0, -1
	for i, it := range b.items[:b.n] {
		if it.err != nil {
			if failed++; first < 0 {
				first = i
			}
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("transmit: %d of %d sends failed, the first being number %d: %w", failed, b.n, first, b.items[first].err)
}

// send sends an item the ordinary way.
func (it *batchItem) send(ctx context.Context) {
	if it.buffer != (Buffer{}) {
		it.c, it.err = it.s.SendBuffer(ctx, it.buffer)
	} else {
		it.c, it.err = it.s.Send(ctx, it.p)
	}
}
