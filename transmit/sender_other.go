//go:build !linux

package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// A Sender sends on one connection. Outside Linux it copies.
type Sender struct {
	conn  syscall.Conn
	w     io.Writer
	o     Options
	mu    sync.Mutex
	stats Stats
}

// NewSender makes a Sender for a connection.
func NewSender(c syscall.Conn, o Options) (*Sender, error) {
	o.choose()
	w, ok := c.(io.Writer)
	if !ok {
		return nil, fmt.Errorf("transmit: %w: %w", errNotAConn, errors.ErrUnsupported)
	}
	s := &Sender{conn: c, w: w, o: o}
	if o.Backend != "" && !o.Backend.Copies() {
		tellDowngrade(o.OnDowngrade, o.Logger, &Downgrade{
			From: o.Backend, To: Write, Reason: "this operating system has no such call", Err: errors.ErrUnsupported,
		}, false)
	}
	return s, nil
}

// Send sends p; p is the caller's again when it returns.
func (s *Sender) Send(ctx context.Context, p []byte) (Completion, error) { return s.Sendv(ctx, p) }

// Sendv sends several parts as if they were one.
func (s *Sender) Sendv(ctx context.Context, parts ...[]byte) (Completion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return Completion{}, fmt.Errorf("transmit: %w", err)
	}
	b := net.Buffers(parts)
	n, err := b.WriteTo(s.w)
	s.stats.Transfers++
	s.stats.Bytes += n
	s.stats.PlainBytes += n
	r := Result{Bytes: n, Backend: Write, PlainBytes: n}
	if len(parts) > 1 {
		r.Backend = Writev
	}
	if err != nil {
		err = fmt.Errorf("transmit: after %d bytes: %w", n, err)
	}
	return Completion{s: s, sent: r}, err
}

// SendBuffer sends the bytes of a buffer of a [Pool].
func (s *Sender) SendBuffer(ctx context.Context, b Buffer) (Completion, error) {
	return s.Sendv(ctx, b.Bytes())
}

// Stats returns what was counted so far.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Drain returns at once: nothing is lent.
func (s *Sender) Drain(context.Context) error { return nil }

// Close closes the connection.
func (s *Sender) Close(context.Context) (Abandoned, error) {
	if c, ok := s.conn.(io.Closer); ok {
		return Abandoned{}, c.Close()
	}
	return Abandoned{}, nil
}

func (s *Sender) released(Completion) bool { return true }

func (s *Sender) await(_ context.Context, c Completion) (Result, error) { return c.sent, nil }
