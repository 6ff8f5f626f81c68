package zctls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// ErrKeyUpdate says that crypto/tls had something to send after the kernel had taken
// over: an answer to the peer's KeyUpdate, or an alert about what it received. It was
// not sent, and nothing is any more.
var ErrKeyUpdate = errors.New("zctls: the peer asked for new keys, or sent what is no TLS, and the kernel has the key for the answer")

var errShutdown = errors.New("zctls: nothing can be sent after CloseWrite")

// A Conn is one end of a TLS connection over TCP. Its methods may be called from any
// goroutine.
type Conn struct {
	tcp   *net.TCPConn
	tls   *tls.Conn
	guard *guard
	log   *keyLog
	o     transmit.ConnOptions
	tell  func(error)

	hand sync.Mutex // for the handshake
	done atomic.Bool
	err  error          // of the handshake
	why  error          // crypto/tls goes on
	out  *transmit.Conn // nil: crypto/tls sends
	ktls *transmit.KTLS

	sending sync.RWMutex // written to by who ends it
	ended   bool
	closed  atomic.Bool
}

// Server makes the server's end of a TLS connection. config is used as tls.Server
// would, and is not changed; a KeyLogWriter in it still gets its lines. The options are
// those of what carries the sending, and their Sender.OnDowngrade or Sender.Logger is
// told if that stays with crypto/tls.
func Server(c *net.TCPConn, config *tls.Config, o transmit.ConnOptions) *Conn {
	return newConn(c, config, o, tls.Server, transmit.ServerTrafficSecret)
}

// Client makes the client's end of a TLS connection, see [Server].
func Client(c *net.TCPConn, config *tls.Config, o transmit.ConnOptions) *Conn {
	return newConn(c, config, o, tls.Client, transmit.ClientTrafficSecret)
}

func newConn(c *net.TCPConn, config *tls.Config, o transmit.ConnOptions, end func(net.Conn, *tls.Config) *tls.Conn, label string) *Conn {
	x := &Conn{tcp: c, guard: &guard{Conn: c}, o: o, why: transmit.KTLSAvailable()}
	x.tell = x.downgraded
	if x.why == nil {
		x.log = &keyLog{label: label}
		config = x.log.listen(config)
	}
	x.tls = end(x.guard, config)
	return x
}

// Handshake shakes hands, if that was not done, and hands the sending to the kernel.
// The first Read or Write does it as well.
func (c *Conn) Handshake() error { return c.HandshakeContext(context.Background()) }

// HandshakeContext is Handshake with a context that can end it.
func (c *Conn) HandshakeContext(ctx context.Context) error {
	if c.done.Load() {
		return c.err
	}
	c.hand.Lock()
	defer c.hand.Unlock()
	if c.done.Load() {
		return c.err
	}
	if c.err = c.tls.HandshakeContext(ctx); c.err == nil && c.why == nil {
		c.why = c.handOver()
	}
	c.log.forget()
	if c.err == nil && c.why != nil {
		c.tell(c.why)
	}
	c.done.Store(true)
	return c.err
}

// handOver gives the kernel the key. Nothing was sent under it: a server of crypto/tls
// sends no application data by itself, and its tickets are switched off; a client
// sends none at all.
func (c *Conn) handOver() error {
	state := c.tls.ConnectionState()
	if state.Version != tls.VersionTLS13 {
		return fmt.Errorf("zctls: %s was negotiated: %w", tls.VersionName(state.Version), errors.ErrUnsupported)
	}
	secret, err := c.log.secret()
	if err != nil {
		return err
	}
	keys, err := transmit.DeriveKTLSKeys(state.CipherSuite, secret)
	if err != nil {
		return err
	}
	defer clear(keys.Key)
	c.guard.shut(true)
	k, err := transmit.EnableKTLS(c.tcp, keys)
	if err != nil {
		c.guard.shut(false)
		return err
	}
	c.ktls = k
	if c.out, err = transmit.Wrap(c.tcp, c.o); err != nil {
		c.err = err // cannot be: it is TCP, and nobody can send any more
	}
	return nil
}

func (c *Conn) downgraded(why error) {
	d := &transmit.Downgrade{From: transmit.Sendfile, To: transmit.ReadWrite, Reason: "crypto/tls encrypts in the process", Err: why}
	if tell := c.o.Sender.OnDowngrade; tell != nil {
		tell(d)
		return
	}
	log := c.o.Sender.Logger
	if log == nil {
		log = slog.Default()
	}
	log.LogAttrs(context.Background(), slog.LevelInfo, "the kernel does not encrypt", slog.Any("error", d))
}

// Fallback returns why crypto/tls does the sending, nil if the kernel does. Before the
// handshake only a kernel without TLS is known.
func (c *Conn) Fallback() error {
	c.hand.Lock()
	defer c.hand.Unlock()
	return c.why
}

// Read reads what the peer sent, decrypted by crypto/tls.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	if c.guard.tripped.Load() {
		return 0, ErrKeyUpdate
	}
	return c.tls.Read(p)
}

// send runs fn if something can be sent by the kernel, or in the process.
func (c *Conn) send(process, kernel func() error) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	if c.out == nil {
		return process()
	}
	c.sending.RLock()
	defer c.sending.RUnlock()
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.ended:
		return errShutdown
	case c.guard.tripped.Load():
		return ErrKeyUpdate
	}
	return kernel()
}

// Write sends p, which is the caller's again when it returns.
func (c *Conn) Write(p []byte) (n int, err error) {
	err = c.send(func() error { n, err = c.tls.Write(p); return err },
		func() error { n, err = c.out.Write(p); return err })
	return n, err
}

// ReadFrom sends what a reader has, files by sendfile, see [transmit.Conn.ReadFrom];
// io.Copy and net/http call it.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	err = c.send(func() error { n, err = io.Copy(struct{ io.Writer }{c.tls}, r); return err },
		func() error { n, err = c.out.ReadFrom(r); return err })
	return n, err
}

// SendFile sends a part of a file as [transmit.Sender.SendFile] does. Where crypto/tls
// does the sending the error matches errors.ErrUnsupported: ReadFrom works with both.
func (c *Conn) SendFile(ctx context.Context, f *os.File, offset, length int64, o transmit.FileOptions) (done transmit.Completion, err error) {
	err = c.send(func() error { return fmt.Errorf("zctls: %w", errors.Join(c.why, errors.ErrUnsupported)) }, func() error {
		s, err := c.out.Sender()
		if err == nil {
			done, err = s.SendFile(ctx, f, offset, length, o)
		}
		return err
	})
	return done, err
}

// CloseWrite tells the peer that nothing more follows, by the alert close_notify. The
// TCP connection stays open in both directions.
func (c *Conn) CloseWrite() error {
	if !c.done.Load() || c.err != nil {
		return errors.New("zctls: CloseWrite before the handshake was complete")
	}
	if c.out == nil {
		return c.tls.CloseWrite()
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	c.ended = true
	return c.ktls.CloseNotify()
}

// alertTimeout is how long Close waits for room for an alert, as that of crypto/tls.
const alertTimeout = 5 * time.Second

// Close sends close_notify, unless something else is being sent, and closes the
// connection. Memory and files that the kernel holds come back as [transmit.Conn.Close]
// says.
func (c *Conn) Close() error {
	if !c.done.Load() { // an alert now would be numbered by crypto/tls
		return c.tcp.Close()
	}
	if c.out == nil {
		return c.tls.Close()
	}
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	var alert error
	if c.sending.TryLock() {
		if !c.ended && !c.guard.tripped.Load() {
			_ = c.tcp.SetWriteDeadline(time.Now().Add(alertTimeout))
			alert = c.ktls.CloseNotify()
		}
		c.ended = true
		c.sending.Unlock()
	}
	if err := c.out.Close(); err != nil {
		return err
	}
	return alert
}

// ConnectionState returns what the handshake agreed on.
func (c *Conn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// NetConn returns the TCP connection below. What is written to it once the kernel
// encrypts is application data.
func (c *Conn) NetConn() net.Conn { return c.tcp }

// LocalAddr returns the local address.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr returns the address of the peer.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// SetDeadline sets the read and write deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.tls.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.tls.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of sends. One that passes in the process leaves
// the connection broken, as with crypto/tls; in the kernel what was sent is intact.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tls.SetWriteDeadline(t) }

var _ net.Conn = (*Conn)(nil)
