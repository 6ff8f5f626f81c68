package transmit

import (
	"context"
	"fmt"
	"io"
)

// takeBody sends a part of a Body, lent if it is large enough.
func (c *Conn) takeBody(x *copying, b *Body, at, n int64) (int64, error) {
	if n < c.threshold() {
		return x.writeBody(b, at, n)
	}
	s, err := c.Sender()
	if err != nil {
		return 0, err
	}
	done, err := s.sendBody(context.Background(), b, at, n)
	x.add(done.sent, c.downs.reason(done.sent.Cause))
	if err != nil {
		err = callError("sendmsg", err)
	}
	return done.Bytes(), err
}

// threshold is the size in bytes from which memory is lent.
func (c *Conn) threshold() int64 {
	switch {
	case c.o.Sender.Threshold > 0:
		return int64(c.o.Sender.Threshold)
	case c.o.Sender.Backend != "":
		return 0 // the Sender knows
	}
	return DefaultThreshold
}

// writeCopied writes p by a copy while the kernel holds memory of earlier sends: a
// Write of package net could find the socket not pollable then. done is false if it
// holds none.
func (s *Sender) writeCopied(p []byte) (n int, err error, done bool) {
	s.mu.Lock()
	lent := s.led.ids.n > 0
	s.mu.Unlock()
	if !lent || len(p) == 0 {
		return 0, nil, false
	}
	if err := s.begin(context.Background()); err != nil {
		return 0, err, true
	}
	defer s.end()
	if err := s.open(); err != nil {
		return 0, err, true
	}
	j := &s.job
	j.parts = append(j.parts[:0], p)
	j.rest, j.run, j.plain = j.parts, s.memory, maxInt
	s.drive(context.Background())
	j.plain = 0
	clear(j.parts)
	j.rest = nil
	c, err := s.close(Write)
	return int(c.Bytes()), err, true
}

// lending reports whether the kernel holds memory of the application, or will be
// asked to.
func (s *Sender) lending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.led.entries {
		if e := &s.led.entries[i]; e.out && len(e.parts)+len(e.loans) > 0 {
			return true
		}
	}
	return false
}

// closeNow closes the connection and gives up what the kernel holds.
func (s *Sender) closeNow() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var err error
	if c, ok := s.conn.(io.Closer); ok {
		if err = c.Close(); err != nil {
			err = fmt.Errorf("transmit: %w", err)
		}
	}
	s.abandon()
	return err
}
