package transmit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// CloseRead shuts down the reading side.
func (c *Conn) CloseRead() error {
	return c.nc.(interface{ CloseRead() error }).CloseRead()
}

// CloseWrite shuts down the writing side: the peer reads what was sent, and then the
// end.
func (c *Conn) CloseWrite() error {
	return c.nc.(interface{ CloseWrite() error }).CloseWrite()
}

// File returns a duplicate of the descriptor, as that of the wrapped connection does.
func (c *Conn) File() (*os.File, error) {
	return c.nc.(interface{ File() (*os.File, error) }).File()
}

// SetReadBuffer sets the size of the receive buffer in bytes.
func (c *Conn) SetReadBuffer(bytes int) error {
	return c.nc.(interface{ SetReadBuffer(int) error }).SetReadBuffer(bytes)
}

// SetWriteBuffer sets the size of the send buffer in bytes.
func (c *Conn) SetWriteBuffer(bytes int) error {
	return c.nc.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(bytes)
}

// tcp returns the TCP connection of an option that only TCP has.
func (c *Conn) tcp(option string) (*net.TCPConn, error) {
	if t, ok := c.nc.(*net.TCPConn); ok {
		return t, nil
	}
	return nil, c.opError("set", fmt.Errorf("%s of a unix socket: %w", option, errors.ErrUnsupported))
}

// SetNoDelay sets whether small writes wait for others (TCP_NODELAY).
func (c *Conn) SetNoDelay(noDelay bool) error {
	t, err := c.tcp("no delay")
	if err != nil {
		return err
	}
	return t.SetNoDelay(noDelay)
}

// SetKeepAlive sets whether keep-alive messages are sent.
func (c *Conn) SetKeepAlive(keepalive bool) error {
	t, err := c.tcp("keep-alive")
	if err != nil {
		return err
	}
	return t.SetKeepAlive(keepalive)
}

// SetKeepAlivePeriod sets how long the connection is idle before keep-alive messages
// are sent.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	t, err := c.tcp("keep-alive")
	if err != nil {
		return err
	}
	return t.SetKeepAlivePeriod(d)
}

// SetKeepAliveConfig sets how keep-alive messages are sent.
func (c *Conn) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	t, err := c.tcp("keep-alive")
	if err != nil {
		return err
	}
	return t.SetKeepAliveConfig(config)
}

// SetLinger sets what Close does with data that is not sent yet (SO_LINGER). With 0
// it is thrown away, memory that is lent is given up, and the peer sees a reset.
func (c *Conn) SetLinger(sec int) error {
	t, err := c.tcp("linger")
	if err != nil {
		return err
	}
	if err := t.SetLinger(sec); err != nil {
		return err
	}
	c.linger.Store(sec == 0)
	return nil
}

// MultipathTCP reports whether the connection is MPTCP.
func (c *Conn) MultipathTCP() (bool, error) {
	t, err := c.tcp("multipath")
	if err != nil {
		return false, err
	}
	return t.MultipathTCP()
}
