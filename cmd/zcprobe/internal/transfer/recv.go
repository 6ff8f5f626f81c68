package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// RecvOptions say where is listened, and how what arrives is taken.
type RecvOptions struct {
	Listen     Address
	NoChecksum bool
	MaxBytes   int64         // more of one connection is an error; 0: no bound
	Idle       time.Duration // over UDP, after how long of silence it has ended

	Progress  func(Progress)
	StepBytes int64
}

// A Listener takes connections, or datagrams.
type Listener struct {
	o      RecvOptions
	stream net.Listener
	packet *net.UDPConn
}

// Listen begins to listen.
func Listen(ctx context.Context, o RecvOptions) (*Listener, error) {
	l := &Listener{o: o}
	var err error
	switch o.Listen.Network {
	case "udp":
		var p net.PacketConn
		if p, err = new(net.ListenConfig).ListenPacket(ctx, "udp", o.Listen.Addr); err == nil {
			l.packet = p.(*net.UDPConn)
			// As much as the limit allows (net.core.rmem_max): what finds no room is lost.
			_ = l.packet.SetReadBuffer(8 << 20)
		}
	default:
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false) // splices and discards are TCP's
		l.stream, err = lc.Listen(ctx, o.Listen.Network, o.Listen.Addr)
	}
	if err != nil {
		e := connectError(o.Listen, err).(*ConnectError)
		e.Listen = true
		return nil, e
	}
	return l, nil
}

// Close stops listening.
func (l *Listener) Close() error {
	if l.packet != nil {
		return l.packet.Close()
	}
	return l.stream.Close()
}

// Address is where it listens.
func (l *Listener) Address() string {
	if l.packet != nil {
		return addressOf(l.packet.LocalAddr())
	}
	return addressOf(l.stream.Addr())
}

// Report is the line that says where it listens.
func (l *Listener) Report(out *Output) *Received {
	return newReceived(Listening, l.o.Listen, l.Address(), out)
}

// WouldListen is the same without listening.
func WouldListen(a Address, out Out) *Received {
	r := newReceived(Listening, a, a.String(), &Output{info: out})
	r.DryRun = true
	return r
}

func newReceived(typ string, a Address, local string, out *Output) *Received {
	r := &Received{Schema: RecvSchema, Type: typ, Protocol: a.Network, Local: local, Out: out.info, Downgrades: []Downgrade{}}
	if a.Network == "udp" {
		r.Datagrams, r.Dropped, r.Foreign = new(int64(0)), new(int64(0)), new(int64(0))
	}
	return r
}

// A receipt is one connection, or one series of datagrams, that is received.
type receipt struct {
	o   RecvOptions
	r   *Received
	out *Output

	sum, whole hash.Hash // of what arrives, of the resumed file; nil: none
	begun      time.Time // when the first byte was seen
	ended      time.Time
}

// ErrTooMuch says that a peer sent more than was allowed.
var ErrTooMuch = errors.New("the peer sends more than --max-bytes allows")

// Receive takes the next connection, or series of datagrams, and returns when it
// has ended. With last nothing else is listened for from the connection on. What
// arrives is kept only without an error, except by an output that resumes.
func (l *Listener) Receive(ctx context.Context, out *Output, last bool) (*Received, error) {
	x := &receipt{o: l.o, r: newReceived(ReceivedAll, l.o.Listen, l.Address(), out), out: out}
	if !l.o.NoChecksum {
		x.sum = sha256.New()
		if out.info.Resume {
			x.whole = sha256.New()
			if err := out.before(ctx, x.whole); err != nil {
				out.Abort()
				return x.r, err
			}
		}
	}
	err := l.receive(ctx, x, last)
	if x.r.ReceivedBytes > 0 {
		x.r.DurationNS = x.ended.Sub(x.begun).Nanoseconds()
		x.r.RateBytesPerS = rate(x.r.ReceivedBytes, x.r.DurationNS)
	}
	if err != nil {
		out.Abort()
		x.r.EndedBy = "error"
		if errors.Is(err, ErrTooMuch) {
			x.r.EndedBy = "max-bytes"
		}
		return x.r, err
	}
	if err := out.Commit(); err != nil {
		return x.r, err
	}
	x.r.Complete = true
	x.sums()
	return x.r, nil
}

func (x *receipt) sums() {
	x.r.Checksum = "not asked for"
	if x.sum != nil {
		x.r.Checksum = "of what arrived"
		x.r.SHA256 = sumText(x.sum)
	}
	if x.whole != nil {
		x.r.FileSHA256 = sumText(x.whole)
	}
}

func (l *Listener) receive(ctx context.Context, x *receipt, last bool) error {
	defer func() { x.ended = time.Now() }()
	if l.packet != nil {
		return x.datagrams(ctx, l.packet)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.stream.Close() })
	c, err := l.stream.Accept()
	if !stop() {
		if c != nil {
			c.Close()
		}
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("accept on %s: %w", x.r.Local, plainOp(err))
	}
	if last {
		_ = l.stream.Close() // whoever else comes is to be refused, not to wait
	}
	defer c.Close()
	x.r.Peer = addressOf(c.RemoteAddr())
	if err := x.streamOf(ctx, c.(Conn)); err != nil {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the peer is to know that it was not all taken
		}
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = cause
		}
		return fmt.Errorf("receive on %s: %w", x.r.Local, &BrokenError{Bytes: x.r.ReceivedBytes, Err: plainError(err)})
	}
	x.r.EndedBy = "end"
	return nil
}

func plainOp(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// arrived takes in that bytes did.
func (x *receipt) arrived(n int64) {
	if x.begun.IsZero() && n > 0 {
		x.begun = time.Now()
	}
	x.r.ReceivedBytes += n
	if x.o.Progress != nil {
		x.o.Progress(Progress{Bytes: x.r.ReceivedBytes, Total: -1, Way: x.r.Way})
	}
}

// take keeps bytes that are in the process.
func (x *receipt) take(p []byte) error {
	x.arrived(int64(len(p)))
	x.r.ReadBytes += int64(len(p))
	if x.sum != nil {
		x.sum.Write(p)
	}
	if x.whole != nil {
		x.whole.Write(p)
	}
	if x.out.file == nil {
		return nil
	}
	if _, err := x.out.file.Write(p); err != nil {
		return fileError(x.out.info.Name, err)
	}
	return nil
}

func (x *receipt) downgraded(d *transmit.Downgrade) {
	x.r.Downgrades = append(x.r.Downgrades, downgradeOf(d))
}
