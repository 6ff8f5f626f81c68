package scenario

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// A transfer is traffic that was sent.
type transfer struct {
	inode    uint64 // of the socket
	local    netip.AddrPort
	sent     uint64 // that the kernel took
	reported Column
	refused  []*transmit.Downgrade // what the sender did not do as it was asked
	other    uint64                // bytes that went another way than they should
	// noBuffers: the kernel answered ENOBUFS, which is its word for two limits.
	noBuffers bool
	// kept is what the peer got as it was before the source was changed; nil where it was
	// not changed.
	kept *uint64
}

// patience is how long one transfer may take.
const patience = 20 * time.Second

// send sends traffic from a place. The connection is open when it returns.
func (p *place) send(ctx context.Context, t Traffic, ring *transmit.Ring) (tr transfer, closing func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var c net.Conn
	closing = func() error { return nil }
	// All calls are made in the sender's namespace: what the kernel is asked about
	// the peer depends on where the thread is.
	err = p.doors[AtSender].Do(func() (err error) {
		if p.files {
			return tr.copyFiles(ctx, t)
		}
		if p.unix {
			closing, err = tr.exchange(ctx, p, t, ring)
			return err
		}
		to, err := p.to.of(t)
		if err != nil {
			return err
		}
		var d net.Dialer
		d.SetMultipathTCP(t.Socket.Multipath)
		if c, err = d.DialContext(ctx, t.Protocol, netip.AddrPortFrom(to, discard).String()); err != nil {
			return err
		}
		closing = c.Close
		if err := t.Socket.prepare(c); err != nil {
			return err
		}
		tr.local = addrPort(c.LocalAddr())
		if tr.inode, err = inodeOf(c); err != nil {
			return err
		}
		return p.limited(func() error { return tr.run(ctx, p, c, t, ring) })
	})
	return tr, closing, err
}

func inodeOf(c net.Conn) (inode uint64, err error) {
	err = control(c, func(fd int) (err error) { inode, err = sys.FileInode(fd); return err })
	return inode, err
}

func control(c net.Conn, fn func(fd int) error) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T: %w", c, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = fn(int(fd)) })
	return errors.Join(err, inner)
}

// options are those of a sender that does as it is asked.
func (tr *transfer) options(t Traffic, ring *transmit.Ring) transmit.Options {
	o := transmit.Options{
		Backend: transmit.Backend(t.API), OnErrqueue: func([]byte) {}, SegmentBytes: t.Segment, NoReader: true, Threshold: 1,
		OnDowngrade: func(d *transmit.Downgrade) { tr.refused = append(tr.refused, d) },
		Logger:      slog.New(slog.DiscardHandler),
	}
	if t.API == "io_uring_send" || t.API == "io_uring_send_zc" {
		o.Ring = ring
	}
	return o
}

func (tr *transfer) run(ctx context.Context, p *place, c net.Conn, t Traffic, ring *transmit.Ring) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%T: %w", c, errors.ErrUnsupported)
	}
	s, err := transmit.NewSender(sc, tr.options(t, ring))
	if err != nil {
		return err
	}
	source, err := openSource(ctx, p, t, ring)
	if err != nil {
		return err
	}
	if t.Raw || t.Source == Written {
		return errors.Join(tr.raw(c, t, source), source.close())
	}
	return errors.Join(tr.library(ctx, c, s, t, source), source.close())
}

// library sends by package transmit.
func (tr *transfer) library(ctx context.Context, c net.Conn, s *transmit.Sender, t Traffic, source *source) error {
	var open []transmit.Completion
	for i := range t.Count {
		if t.Cork > 0 && i%t.Cork == 0 {
			if err := cork(c, 1); err != nil {
				return err
			}
		}
		if source.relay != nil {
			n, err := source.relay(ctx, c)
			tr.sent += uint64(n)
			if err != nil {
				return err
			}
			continue
		}
		done, err := source.send(ctx, s, t)
		tr.sent += uint64(done.Bytes())
		if err != nil {
			return err
		}
		if done.Backend() != transmit.Backend(t.API) {
			tr.other += uint64(done.Bytes())
		}
		open = append(open, done)
		if t.Cork > 0 && (i+1)%t.Cork != 0 {
			continue
		}
		if t.Cork > 0 {
			if err := cork(c, 0); err != nil {
				return err
			}
		}
		if err := errors.Join(tr.take(ctx, open), acknowledged(ctx, c, t)); err != nil {
			return err
		}
		open = nil
	}
	return nil
}

// acknowledged waits until the peer has what was sent by TCP, so that nothing is
// thrown away on the way.
func acknowledged(ctx context.Context, c net.Conn, t Traffic) error {
	const step = time.Millisecond
	for t.Protocol == "tcp" {
		left := 0
		err := control(c, func(fd int) error {
			n, e := sys.OutQueue(fd)
			if left = n; e != 0 {
				return sys.Wrap("ioctl SIOCOUTQ", e)
			}
			return nil
		})
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d bytes are not acknowledged: %w", left, context.Cause(ctx))
		case <-time.After(step):
		}
	}
	return nil
}

// cork holds back what is sent by UDP, or lets it go as one datagram.
func cork(c net.Conn, on int) error {
	return control(c, func(fd int) error { return sys.SetsockoptInt(fd, sys.SolUDP, sys.UDPCork, on) })
}

// take waits for completions, one by one: merged ones keep the word of the first.
func (tr *transfer) take(ctx context.Context, open []transmit.Completion) error {
	for _, c := range open {
		if !c.Backend().Notifies() {
			continue
		}
		r, err := c.Wait(ctx)
		if err != nil {
			return fmt.Errorf("wait for a completion: %w", err)
		}
		tr.other += uint64(r.PlainBytes)
		if tr.reported.CopiedBytes == nil {
			tr.reported.CopiedBytes = new(uint64)
		}
		switch r.Reported {
		case transmit.Copied:
			*tr.reported.CopiedBytes += uint64(r.Bytes)
		case transmit.Mixed:
			// Which bytes is not told: the sends of one transfer are about the same size.
			*tr.reported.CopiedBytes += uint64(r.Bytes) / 2
			tr.reported.Detail = "some transfers were reported as partly copied, and are counted by half"
		}
	}
	return nil
}
