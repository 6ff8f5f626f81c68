package transmit

import (
	"context"
	"net"
	"time"
)

// reset closes the connection so that the peer sees that it is no end.
func (c *Conn) reset() {
	_ = c.SetLinger(0) // a unix connection has none, and ends early
	_ = c.Close()      // or was closed
}

// Close closes the connection. It never waits. Where the kernel still holds memory
// that was lent, the connection is shut down for writing, so that the peer sees the
// end after the last byte, and closed when the memory is back or Options.DrainTimeout
// is over; for the caller it is closed meanwhile.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed.Swap(true) {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	s := c.sender.Load()
	c.mu.Unlock()
	if s == nil {
		return c.nc.Close()
	}
	if c.linger.Load() || !s.lending() {
		return s.closeNow()
	}
	err := c.CloseWrite()
	// Whoever reads, writes or copies is woken, and told that it is closed.
	if derr := c.nc.SetDeadline(time.Unix(1, 0)); err == nil {
		err = derr
	}
	// What it gives up it tells the Pool; there is nobody else to tell.
	go func() { _, _ = s.Close(context.Background()) }()
	return err
}
