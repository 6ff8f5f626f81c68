package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A Sender sends on one connection in the best way it has, and keeps account of
// the memory that the kernel holds meanwhile.
//
// It takes an ordinary *net.TCPConn, *net.UDPConn (connected), *net.UnixConn or
// *os.File, and leaves reading to the application. Others may write to the
// connection between its sends, but not with MSG_ZEROCOPY: the kernel numbers
// those sends, and two who count would mistake each other's.
//
// Its methods may be called from any goroutine; sends are made one after another
// in the order of the calls.
type Sender struct {
	conn  syscall.Conn
	raw   syscall.RawConn
	k     *socketCalls
	calls *calls // what files are read with
	pipes *pipePool
	kind  kind
	to    target // if it is an *os.File
	near  near   // if the peer is on this machine
	tls   encryption
	o     Options

	turn chan struct{} // who holds the token sends
	job  job           // of who holds it
	ctx  watch
	file *fileSend // the file that is under way, nil if there never was one
	vm   vmsend
	ru   *ringUse // nil without a ring

	unyielded int64         // bytes since the scheduler ran, of who holds the token
	sent      atomic.Uint64 // bytes of the stream that were taken from us
	told      map[string]bool
	news      []news

	followed atomic.Bool  // by the watcher
	waiting  atomic.Int32 // goroutines that wait for a completion

	mu       sync.Mutex // for what follows
	led      ledger
	zc       lending
	stats    Stats
	reapFrom uint32 // unfinished sends from which on a send looks for completions
	oob      [256]byte
	ee       [4]sys.ErrqueueEntry
	closed   bool
	poll     polling

	step, try func(fd uintptr) bool // bound once, so that calls allocate nothing
	reap      func(fd uintptr)
	memory    func(fd int) verdict
	datagram  func(fd int) verdict
	filePiece func(fd int) verdict
	pages     func(fd int) verdict
	fileOpen  func(fd uintptr)
}

// kind is what a Sender sends to.
type kind uint8

const (
	kindTCP kind = iota
	kindUDP
	kindUnixStream
	kindUnixDatagram
	kindFile // pipes, too
)

func (k kind) String() string {
	return [...]string{"tcp", "udp", "unix stream", "unix datagram", "file"}[k]
}

// datagrams reports whether one call sends one datagram, whole or not at all.
func (k kind) datagrams() bool { return k == kindUDP || k == kindUnixDatagram }

// NewSender makes a Sender for a connection, which stays the caller's to read
// from, and to close with [Sender.Close]. No system call changes the socket
// before memory is lent; SO_ZEROCOPY is set then, and left set.
//
// The error matches errors.ErrUnsupported for what cannot be sent to.
func NewSender(c syscall.Conn, o Options) (*Sender, error) {
	return newSender(c, o, kernelSocketCalls())
}

func newSender(c syscall.Conn, o Options, k *socketCalls) (*Sender, error) {
	o.choose()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	s := &Sender{conn: c, raw: raw, k: k, calls: kernelCalls(), pipes: &pipes, o: o, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	s.step, s.reap, s.memory, s.datagram = s.attempt, s.drain, s.sendMemory, s.sendDatagram
	s.pages = s.sendPages
	s.joinRing()
	s.try = func(fd uintptr) bool { s.attempt(fd); return true }
	ctl := raw.Control(func(fd uintptr) { err = s.identify(int(fd)) })
	if err := errors.Join(ctl, err); err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return s, nil
}

// identify finds out what the descriptor is, and whether memory can be lent to
// it.
func (s *Sender) identify(fd int) error {
	if _, ok := s.conn.(*os.File); ok {
		s.kind = kindFile
		if err := s.to.look(s.calls, fd); err != nil {
			return err
		}
		s.zc.refuse("non-zc-proto", "files and pipes take no MSG_ZEROCOPY", nil)
		return nil
	}
	typ, err := s.k.GetInt(fd, sys.SolSocket, sys.SoType)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotAConn, err)
	}
	domain, err := s.k.GetInt(fd, sys.SolSocket, sys.SoDomain)
	if err != nil {
		return err
	}
	proto, err := s.k.GetInt(fd, sys.SolSocket, sys.SoProtocol)
	if err != nil {
		return err
	}
	switch {
	case domain == sys.AFUnix && typ == sys.SockStream:
		s.kind = kindUnixStream
	case domain == sys.AFUnix:
		s.kind = kindUnixDatagram
	case typ == sys.SockStream:
		s.kind = kindTCP
	case typ == sys.SockDgram:
		s.kind = kindUDP
	default:
		return fmt.Errorf("%w: socket type %d: %w", errNotAConn, typ, errors.ErrUnsupported)
	}
	if s.kind == kindTCP {
		s.near.look(s.conn)
		s.lookTLS(fd)
	}
	switch {
	case s.tls.on: // nothing is lent
	case domain == sys.AFUnix:
		s.zc.refuse("non-zc-proto", "unix sockets take no MSG_ZEROCOPY", nil)
	case proto == sys.ProtoMPTCP:
		s.zc.refuse("mptcp", "the connection is MPTCP, which takes no MSG_ZEROCOPY", nil)
	case proto != sys.ProtoTCP && proto != sys.ProtoUDP:
		s.zc.refuse("non-zc-proto", fmt.Sprintf("protocol %d takes no MSG_ZEROCOPY", proto), nil)
	case s.o.Backend == "" && local(s.conn):
		s.zc.refuse("loopback-delivery", "the peer is on this machine, where the kernel copies on receipt", nil)
		s.zc.expected = true
	default:
		s.zc.begin(s, fd)
	}
	return nil
}

// local reports whether the peer is this machine, as far as addresses tell.
func local(c syscall.Conn) bool {
	nc, ok := c.(net.Conn)
	if !ok {
		return false
	}
	l, r := addrOf(nc.LocalAddr()), addrOf(nc.RemoteAddr())
	return r.IsLoopback() || l.IsValid() && l == r
}

// Stats returns what was counted so far.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Outstanding = s.led.out
	for i := range s.led.entries {
		if e := &s.led.entries[i]; e.out {
			st.OutstandingBytes += e.result.Bytes
		}
	}
	st.BackedOff = s.zc.adapt.backedOff()
	return st
}

// Drain waits until the kernel holds no memory of earlier sends. The error is the
// context's, or that of a connection that was closed meanwhile.
func (s *Sender) Drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		last := -1
		for i := range s.led.entries {
			if s.led.entries[i].out {
				last = i
				break
			}
		}
		if last < 0 {
			s.mu.Unlock()
			return nil
		}
		c := Completion{s: s, entry: last, gen: s.led.entries[last].gen}
		s.mu.Unlock()
		if _, err := s.await(ctx, c); err != nil && !errors.Is(err, ErrUnacknowledged) {
			return err
		}
	}
}

// Close drains and then closes the connection. It waits until the context or
// Options.DrainTimeout ends; what the kernel still holds then is abandoned, its
// memory stays referenced and is never used again by a [Pool], and the error
// matches [ErrAbandoned]. A send that is under way ends first.
func (s *Sender) Close(ctx context.Context) (Abandoned, error) {
	timeout := s.o.DrainTimeout
	if timeout == 0 {
		timeout = defaultDrainTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var errs []error
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		// Closing the connection below ends the send.
		errs = append(errs, fmt.Errorf("transmit: close during a send: %w", context.Cause(ctx)))
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return Abandoned{}, fmt.Errorf("transmit: %w", errClosed)
	}
	s.closed = true
	s.mu.Unlock()
	drained := s.Drain(ctx)
	s.ctx.stop()
	if c, ok := s.conn.(io.Closer); ok {
		if err := c.Close(); err != nil {
			errs = append(errs, fmt.Errorf("transmit: %w", err))
		}
	}
	a := s.abandon()
	if a.Transfers > 0 {
		errs = append(errs, fmt.Errorf("transmit: %w: %d transfers of %d bytes: %w", ErrAbandoned, a.Transfers, a.Bytes, drained))
	}
	return a, errors.Join(errs...)
}

// abandon gives up what is out: the descriptor is closed.
func (s *Sender) abandon() Abandoned {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	n, bytes := s.led.abandon(ErrAbandoned)
	return Abandoned{Transfers: n, Bytes: bytes}
}

// noteCause keeps why the transfer under way does not take the way it might, and
// has it told the first time.
func (s *Sender) noteCause(from, to Backend, cause, reason string, err error, expected bool) {
	if s.job.mapped && from == MsgZerocopy {
		from, to = MmapZerocopy, s.file.next(MmapZerocopy)
	}
	if s.job.result.Cause == "" {
		s.job.result.Cause = cause
	}
	if s.told[reason] {
		return
	}
	if s.told == nil {
		s.told = map[string]bool{}
	}
	s.told[reason] = true
	s.news = append(s.news, news{Downgrade{From: from, To: to, Cause: cause, Reason: reason, Err: err}, expected})
}

// news is a downgrade that is to be told when no lock is held.
type news struct {
	Downgrade
	expected bool
}

func (s *Sender) tell() {
	for _, n := range s.news {
		tellDowngrade(s.o.OnDowngrade, s.o.Logger, &n.Downgrade, n.expected)
	}
	s.news = nil
}
