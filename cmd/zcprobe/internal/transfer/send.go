package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// SendOptions say what is sent, where to and how.
type SendOptions struct {
	To     Address
	Source Source

	Backend transmit.Backend // "": chosen
	Env     transmit.Backend // the operator's word, before Backend

	NoChecksum    bool
	DatagramBytes int64         // payload of a datagram; 0: what the path takes in one packet
	Wait          time.Duration // for an acknowledgement, without any progress

	// Conditions says what is known of the host and the way to the peer.
	Conditions func(ctx context.Context, to net.Addr) (transmit.Conditions, error)

	// Calibration returns what was measured for a path, nil if that is nothing; nil: the
	// defaults count. The path is nil where it is not known.
	Calibration func(path *probe.PathReport) *transmit.Calibration

	// Progress is called now and then by the goroutine that sends, and StepBytes is
	// after how many bytes, at most; 0: sends are not cut up for it.
	Progress  func(Progress)
	StepBytes int64
}

// Progress is how far a transfer is.
type Progress struct {
	Bytes int64
	Total int64 // -1: not known
	Way   string
}

// A sending is one run of [Send].
type sending struct {
	o      SendOptions
	r      *Sent
	conn   Conn
	sender *transmit.Sender
	plan   transmit.Plan

	sum      hash.Hash // nil: none
	begun    time.Time
	ways     map[transmit.Backend]int64
	plain    int64 // copied by calls that the sender did not make
	last     reports
	kept     []transmit.Completion // of pieces of a file, the last ones
	ring     *transmit.Ring        // nil: the way takes none
	rotation *rotation             // nil: nothing was sent from memory of ours
}

// Send sends and reports what became of it, with an error as well.
func Send(ctx context.Context, o SendOptions) (*Sent, error) {
	x := &sending{o: o, r: newSent(&o), ways: map[transmit.Backend]int64{}}
	conn, err := Dial(ctx, o.To)
	if err != nil {
		return x.r, err
	}
	x.conn = conn
	x.r.Remote, x.r.Local = addressOf(conn.RemoteAddr()), addressOf(conn.LocalAddr())
	if err := x.prepare(ctx); err != nil {
		conn.Close() // nothing was sent
		return x.r, err
	}
	before := x.stat()
	x.begun = time.Now()
	err = x.finish(ctx, x.move(ctx))
	x.account()
	if err != nil {
		return x.r, fmt.Errorf("send to %s: %w", o.To, &BrokenError{Bytes: x.r.SentBytes, Err: plainError(err)})
	}
	x.r.Complete = true
	x.r.SourceChanged = changed(before, x.stat())
	return x.r, x.checksum(ctx)
}

// Plan answers what [Send] would do, without connecting. remote may be nil.
func Plan(ctx context.Context, o SendOptions, remote net.Addr) (*Sent, error) {
	r := newSent(&o)
	r.DryRun = true
	r.Remote = addressOf(remote)
	c, err := o.Conditions(ctx, remote)
	if err != nil {
		return r, err
	}
	if o.DatagramBytes == 0 {
		o.DatagramBytes = commonDatagram
	}
	p, err := o.plan(c, o.transferOf(o.To.Network, isIPv6(remote)))
	if err != nil {
		return r, err
	}
	r.Selection = selectionOf(&o, &p)
	return r, o.can(&p, o.To.Network)
}

func newSent(o *SendOptions) *Sent {
	return &Sent{
		Schema: SendSchema, To: o.To.String(), Protocol: o.To.Network, Source: o.Source.Info(),
		Selection: Selection{Asked: string(o.Backend), Notes: []selection.Note{}, Evidence: []probe.Evidence{}, Rejected: []selection.Rejected{}},
		Ways:      []Way{}, Downgrades: []Downgrade{}, Reported: transmit.NotReported.String(),
	}
}

// A BrokenError says how far a transfer got.
type BrokenError struct {
	Bytes int64
	Err   error
}

// Error says how far it got and why no further.
func (e *BrokenError) Error() string { return fmt.Sprintf("after %d bytes: %v", e.Bytes, e.Err) }

// Unwrap returns why.
func (e *BrokenError) Unwrap() error { return e.Err }

// errPeerClosed is EPIPE of a connection. EPIPE itself stands for standard output
// that nobody reads.
var errPeerClosed = errors.New("the peer has closed the connection")

// plainError drops what others said of how far they got: of several calls it is
// the last one's.
func plainError(err error) error {
	if f, ok := errors.AsType[*FileError](err); ok {
		return f
	}
	if u, ok := errors.AsType[*UnacknowledgedError](err); ok {
		return u
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if errno == syscall.EPIPE {
			return errPeerClosed
		}
		return errno
	}
	if r, ok := errors.AsType[*transmit.RelayError](err); ok {
		return r.Err
	}
	return err
}

// prepare chooses the way.
func (x *sending) prepare(ctx context.Context) error {
	c, err := x.o.Conditions(ctx, x.conn.RemoteAddr())
	if err != nil {
		return err
	}
	if x.r.Protocol == "udp" {
		if err := x.setDatagram(); err != nil {
			return err
		}
	}
	if x.plan, err = x.o.plan(c, x.o.transferOf(x.r.Protocol, isIPv6(x.conn.RemoteAddr()))); err != nil {
		return err
	}
	x.r.Selection = selectionOf(&x.o, &x.plan)
	if err := x.o.can(&x.plan, x.r.Protocol); err != nil {
		return err
	}
	if usesRing(x.plan.Backend) {
		if x.ring, err = transmit.NewRing(transmit.RingOptions{}); err != nil {
			return &RefusedError{Backend: x.plan.Backend, Reason: err.Error()}
		}
	}
	x.sender, err = transmit.NewSender(x.conn, transmit.Options{
		Backend: x.senderBackend(), Ring: x.ring, Threshold: x.threshold(), OnDowngrade: x.downgraded, DrainTimeout: closeTimeout,
	})
	return err
}

// usesRing reports whether a backend is one of io_uring.
func usesRing(b transmit.Backend) bool {
	return b == transmit.IoUringSend || b == transmit.IoUringSendZC
}

// senderBackend is what the Sender is told: what was asked for, and a copy where
// that is the plan. What it chooses by itself it may also give up by itself.
func (x *sending) senderBackend() transmit.Backend {
	switch {
	case x.o.Source.Kind != transmit.SourceMemory && x.o.Source.Kind != transmit.SourceFile:
		return transmit.Write // it sends only what was read
	case x.forced(), x.plan.Backend.Copies():
		return x.plan.Backend
	}
	return ""
}

// forced reports whether somebody asked for the backend that is planned.
func (x *sending) forced() bool { return x.o.Env != "" || x.o.Backend != "" }

func (x *sending) threshold() int {
	if x.forced() || x.plan.ThresholdBytes == transmit.Never {
		return 0
	}
	return int(min(x.plan.ThresholdBytes, 1<<30))
}

func (x *sending) downgraded(d *transmit.Downgrade) {
	x.r.Downgrades = append(x.r.Downgrades, downgradeOf(d))
}

// move sends everything.
func (x *sending) move(ctx context.Context) error {
	if !x.o.NoChecksum {
		x.sum = sha256.New()
	}
	switch {
	case x.r.Protocol == "udp":
		return x.datagrams(ctx)
	case x.o.Source.Kind == transmit.SourceMemory:
		return x.memory(ctx)
	case x.o.Source.Kind == transmit.SourceFile:
		return x.file(ctx)
	}
	return x.stream(ctx)
}

// went takes in that bytes went by a way.
func (x *sending) went(b transmit.Backend, n int64) {
	x.r.SentBytes += n
	if n > 0 {
		x.ways[b] += n
	}
	if x.o.Progress != nil {
		x.o.Progress(Progress{Bytes: x.r.SentBytes, Total: x.o.Source.Length, Way: string(b)})
	}
}

// step is how much of left goes in one call of the library.
func (x *sending) step(left int64) int64 {
	if x.o.StepBytes > 0 && (left < 0 || left > x.o.StepBytes) {
		return x.o.StepBytes
	}
	return left
}

// relay sends n bytes of a file, from where it stands, or with -1 until it ends.
func (x *sending) relay(ctx context.Context, f *os.File, n int64, b transmit.Backend) error {
	for left := n; left != 0; {
		want := x.step(left)
		res, err := transmit.Relay(ctx, x.conn, f, want, transmit.RelayOptions{Backend: b, OnDowngrade: x.downgraded})
		x.plain += res.PlainBytes
		x.went(res.Backend, res.Bytes)
		if n < 0 && (err == nil && want < 0 || errors.Is(err, io.ErrUnexpectedEOF)) {
			return nil
		}
		if err != nil {
			return err
		}
		if left > 0 {
			left -= res.Bytes
		}
	}
	return nil
}

// checksum makes the checksum of a file after it was sent: reading it before would
// change what is measured.
func (x *sending) checksum(ctx context.Context) error {
	s := &x.o.Source
	switch {
	case x.o.NoChecksum:
		x.r.Checksum = "not asked for"
		return nil
	case x.sum == nil:
		return nil // who dropped it said why
	case s.Kind != transmit.SourceFile:
		x.r.Checksum = "of what was sent"
	default:
		x.r.Checksum = "of the file, read again after it was sent"
		if err := hashFile(ctx, x.sum, s.File, s.Offset, x.r.SentBytes); err != nil {
			return fileError(s.Name, fmt.Errorf("read it again for its checksum: %w", err))
		}
	}
	x.r.SHA256 = sumText(x.sum)
	return nil
}

func sumText(h hash.Hash) *string { return new(hex.EncodeToString(h.Sum(nil))) }

// hashFile reads a range of a file into a checksum.
func hashFile(ctx context.Context, h hash.Hash, f *os.File, off, n int64) error {
	buf := make([]byte, 256<<10)
	for n > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		m, err := f.ReadAt(buf[:min(n, int64(len(buf)))], off)
		h.Write(buf[:m])
		off, n = off+int64(m), n-int64(m)
		if m == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// stat returns what tells whether a file was changed, nil of other sources.
func (x *sending) stat() os.FileInfo {
	if x.o.Source.Kind != transmit.SourceFile {
		return nil
	}
	st, err := x.o.Source.File.Stat()
	if err != nil {
		return nil
	}
	return st
}

func changed(a, b os.FileInfo) bool {
	return a != nil && b != nil && (a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()))
}

func isIPv6(a net.Addr) bool {
	if a == nil {
		return false
	}
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().Is6()
}

func interrupted(err error) bool { return errors.Is(err, syscall.EINTR) }
