package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Body is memory that is sent any number of times, to any number of peers at
// once, as an image server does with what it keeps rendered. [Body.NewReader] gives
// each request a position of its own: an [io.ReadSeeker] for http.ServeContent, an
// io.Reader for io.Copy, an io.ReadCloser for the body of a client's request.
//
// A [Conn] knows such a reader, and an [io.SectionReader] of a Body, also inside an
// io.LimitedReader, and lends the memory to the kernel from Options.Threshold bytes
// on. Any other writer copies it. So the memory may be read by the kernel after the
// response was written; a Body counts who has it, and [Body.Release] waits for them.
// Until that returned nil the memory must not be written to.
//
// A Body that is never to change needs no Release. All methods may be called by any
// goroutine.
type Body struct {
	p   []byte
	buf Buffer // that p is of; the zero Buffer if it is of none

	mu    sync.Mutex
	holds int  // readers not closed, copies under way, loans
	over  bool // Release was called
	lost  bool // a connection was closed while the kernel held the memory
	idle  chan struct{}
}

// NewBody makes a Body of memory that is not written to any more.
func NewBody(p []byte) *Body { return &Body{p: p[:len(p):len(p)], idle: make(chan struct{})} }

// BufferBody makes a Body of a buffer of a [Pool], as many bytes as it has. The
// buffer is the Body's from now on: [Body.Release] gives it back to the pool, and
// nobody else may. It panics on a buffer that was released.
func BufferBody(b Buffer) *Body {
	p := b.Bytes()
	return &Body{p: p[:len(p):len(p)], buf: b, idle: make(chan struct{})}
}

// errBodyReleased is what a Body answers after Release.
var errBodyReleased = errors.New("the body was released")

// drop ends a hold.
func (b *Body) drop(lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holds == 0 {
		panic("transmit: a body came back that nobody had")
	}
	b.holds--
	b.lost = b.lost || lost
	b.settle()
}

// settle ends the body when it is released and nobody has it.
func (b *Body) settle() {
	if !b.over || b.holds > 0 {
		return
	}
	if b.buf.slot != nil {
		b.buf.Release()
	}
	b.p = nil
	close(b.idle)
}

// Release ends the Body: no reader is made any more. It waits until those there are
// were closed, and until no send holds the memory, which is then the caller's again,
// or the pool's.
//
// With the context's error somebody has it still; Release may be called again, and a
// buffer goes back to its pool in any case. [ErrAbandoned] says that a connection
// was closed while the kernel held the memory, which must never be written to again;
// it stays referenced for 16 minutes, and a pool does not give it out again.
func (b *Body) Release(ctx context.Context) error {
	b.mu.Lock()
	if !b.over {
		b.over = true
		b.settle()
	}
	b.mu.Unlock()
	select {
	case <-b.idle:
	default:
		select {
		case <-b.idle:
		case <-ctx.Done():
			b.mu.Lock()
			n := b.holds
			b.mu.Unlock()
			return fmt.Errorf("transmit: %d readers and sends have the body still: %w", n, context.Cause(ctx))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost {
		return fmt.Errorf("transmit: %w", ErrAbandoned)
	}
	return nil
}

// Size is the number of bytes, 0 after the Body was released.
func (b *Body) Size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.p))
}

// ReadAt copies from a position. It fails when the memory was given back.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("transmit: read a body at %d: it is before its start", off)
	}
	all, err := b.borrow()
	if err != nil {
		return 0, err
	}
	defer b.drop(false)
	if off >= int64(len(all)) {
		return 0, io.EOF
	}
	n := copy(p, all[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// returned says that the kernel has let go of the memory, once for each loan.
func (b *Body) returned(abandoned bool) {
	switch {
	case b.buf.slot != nil:
		b.buf.slot.returned(abandoned)
	case abandoned:
		holdAbandoned([][]byte{b.p})
	}
	b.drop(abandoned)
}

// borrow makes a hold on memory that somebody has, or that was not released.
func (b *Body) borrow() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over && b.holds == 0 {
		return nil, fmt.Errorf("transmit: %w", errBodyReleased)
	}
	b.holds++
	return b.p, nil
}

// lend gives the memory to the kernel, and returns it; the Body's method returned is
// to be called, once.
func (b *Body) lend() ([]byte, error) {
	p, err := b.borrow()
	if err == nil && b.buf.slot != nil {
		if _, err = b.buf.lend(); err != nil {
			b.drop(false)
			return nil, fmt.Errorf("transmit: %w", err)
		}
	}
	return p, err
}
