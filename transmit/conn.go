package transmit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ConnOptions change how a [Conn] copies. The zero value is a good one.
type ConnOptions struct {
	// Sender holds the options of the [Sender] that the Conn makes when it lends
	// memory, or sends files otherwise than by plain sendfile(2). Its backend, or else
	// that of the environment (see [Environment]), is used for copies, too.
	Sender Options

	// File says how files are sent: Snapshot for files that change while they are
	// sent, Mappings for a program that keeps mappings of those it sends often. Header
	// and Trailer are left out.
	File FileOptions

	// OnCopy is told of every copy by [Conn.ReadFrom] and [Conn.WriteTo], and so of
	// each io.Copy, when it has ended. It is called by the goroutine that copies. A
	// copy between two Conns is told to the one that is written to.
	OnCopy func(CopyReport)
}

// A CopyReport says which way a copy went, and why not a better one.
type CopyReport struct {
	Result

	// Source and Target are what the bytes came from and went to: "file", "pipe",
	// "tcp", "unix", "memory", or the Go type of what is none of these.
	Source, Target string

	// Way moved the bytes; where several did, it is the one that moved most. "" is
	// not known: somebody else's ReadFrom made the copy.
	Way Backend

	// Reason is why the copy did not go a better way, in one clause, and Cause its id
	// in the catalogue if it has one. Both are "" where there is no better way.
	Reason string
	Cause  string

	Err error // what the copy returned
}

// A Conn is a stream connection that keeps the fast paths of the kernel where a
// wrapper loses them, and finds them where package net and io.Copy do not: files and
// connections inside other readers, pipes, unix sockets.
//
// Use it in place of the connection that it wraps: io.Copy, io.CopyN and package
// net/http find [Conn.ReadFrom] and [Conn.WriteTo] by themselves. What a copy
// returns, and how far everything that it read from has advanced, is what io.Copy
// would have returned from a loop of Read and Write.
//
// A file must not change until the peer has what was sent from it: sendfile(2)
// sends references to its pages, here as in package net (explain live-source).
// FileOptions.Snapshot is for files that do.
//
// Copies and writes of several goroutines come one after another as on the connection
// itself: a file that is sent by one call is not broken up by a Write, a copy in pieces
// may be.
type Conn struct {
	nc     net.Conn
	kind   string // "tcp" or "unix"
	o      ConnOptions
	tuned  bool // files are sent by the Sender
	way    Backend
	stream connStream

	downs downgrades

	mu     sync.Mutex // for making the Sender
	sender atomic.Pointer[Sender]
	closed atomic.Bool
	linger atomic.Bool // SetLinger(0): Close is to reset the connection
}

// Wrap makes a Conn of a *net.TCPConn or of a *net.UnixConn with a stream, which
// it makes no system call on. The error of anything else matches
// errors.ErrUnsupported. A *Conn comes back as it is.
func Wrap(c net.Conn, o ConnOptions) (*Conn, error) {
	var kind string
	switch c := c.(type) {
	case *Conn:
		return c, nil
	case *net.TCPConn:
		if c != nil {
			kind = "tcp"
		}
	case *net.UnixConn:
		if c != nil && isStream(c) {
			kind = "unix"
		}
	}
	if kind == "" {
		return nil, fmt.Errorf("transmit: wrap a %T: neither TCP nor a unix stream: %w", c, errors.ErrUnsupported)
	}
	o.Sender.choose()
	w := &Conn{nc: c, kind: kind, o: o, way: o.File.Backend}
	w.downs.o = o.Sender
	w.o.Sender.OnDowngrade = w.downs.hear
	if w.way == "" {
		w.way = o.Sender.Backend
	}
	f := &w.o.File
	f.Header, f.Trailer = nil, nil
	w.tuned = f.Snapshot || f.Lease || f.Mapping.region != nil || f.Mappings != nil || w.way != ""
	if err := w.stream.init(c.(syscall.Conn)); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return w, nil
}

// isStream reports whether a unix socket is one of bytes, not of messages.
func isStream(c *net.UnixConn) bool {
	a := c.LocalAddr()
	return a != nil && a.Network() == "unix"
}

// NetConn returns the connection that c wraps. Others may read from it, and write to
// it as long as no memory is lent.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if err != nil && c.closed.Load() {
		err = c.opError("read", net.ErrClosed)
	}
	return n, err
}

// Write writes p, by a copy: p is the caller's again when Write returns.
func (c *Conn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, c.opError("write", net.ErrClosed)
	}
	if s := c.sender.Load(); s != nil {
		if n, err, done := s.writeCopied(p); done {
			return n, c.sentError("write", err)
		}
	}
	return c.nc.Write(p)
}

// Sender returns the Sender of the connection, through which memory is lent. It is
// made when it is first asked for. Its Close closes the connection.
func (c *Conn) Sender() (*Sender, error) {
	if s := c.sender.Load(); s != nil {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sender.Load(); s != nil {
		return s, nil
	}
	if c.closed.Load() {
		return nil, c.opError("write", net.ErrClosed)
	}
	s, err := NewSender(c.nc.(syscall.Conn), c.o.Sender)
	if err == nil {
		c.sender.Store(s)
	}
	return s, err
}

// SyscallConn returns access to the descriptor. Package os does not find the
// descriptor behind it, as it would send files by itself.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	return c.stream.access(c.nc.(syscall.Conn))
}

// LocalAddr returns the local address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// SetDeadline sets the read and write deadlines, which hold for copies, too.
func (c *Conn) SetDeadline(t time.Time) error { return c.ifOpen(c.nc.SetDeadline, t) }

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.ifOpen(c.nc.SetReadDeadline, t) }

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.ifOpen(c.nc.SetWriteDeadline, t) }

func (c *Conn) ifOpen(set func(time.Time) error, t time.Time) error {
	if c.closed.Load() {
		return c.opError("set", net.ErrClosed)
	}
	return set(t)
}

// opError names the connection of an error as package net does.
func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.kind, Source: c.nc.LocalAddr(), Addr: c.nc.RemoteAddr(), Err: err}
}

// sentError is opError for what a Sender or Relay says; nil stays nil.
func (c *Conn) sentError(op string, err error) error {
	if err == nil {
		return nil
	}
	return c.opError(op, err)
}

var (
	_ net.Conn      = (*Conn)(nil)
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
	_ syscall.Conn  = (*Conn)(nil)
)
