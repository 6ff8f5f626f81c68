package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

func (UnixPair) do(p *place) error {
	p.unix = true
	_, err := p.room(AtSender)
	return err
}

// unixPair makes two connected stream sockets.
func unixPair() (a, b *net.UnixConn, err error) {
	fds, err := sys.Socketpair(sys.AFUnix, sys.SockStream)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "lab")
		c, e := net.FileConn(f)
		err = errors.Join(err, e, f.Close())
		if u, ok := c.(*net.UnixConn); ok {
			ends[i] = u
		}
	}
	if err == nil && (ends[0] == nil || ends[1] == nil) {
		err = fmt.Errorf("a unix socket is none to package net: %w", errors.ErrUnsupported)
	}
	return ends[0], ends[1], err
}

// exchange sends over a unix socket, changes what was sent, and lets the peer read then:
// what has changed for the peer was sent as references to the source, and what has
// not was copied before.
func (tr *transfer) exchange(ctx context.Context, p *place, t Traffic, ring *transmit.Ring) (closing func() error, err error) {
	near, far, err := unixPair()
	if err != nil {
		return func() error { return nil }, err
	}
	closing = func() error { return errors.Join(near.Close(), far.Close()) }
	s, err := transmit.NewSender(near, tr.options(t, ring))
	if err != nil {
		return closing, err
	}
	source, err := openSource(ctx, p, t, ring)
	if err != nil {
		return closing, err
	}
	err = tr.library(ctx, near, s, t, source)
	if err == nil {
		err = source.change()
	}
	if err == nil {
		err = tr.compare(far, t)
	}
	return closing, errors.Join(err, source.close())
}

// changed is what all bytes of a source become, and no pattern has.
const changed = '#'

// change overwrites what was sent.
func (s *source) change() error {
	other := bytes.Repeat([]byte{changed}, len(s.memory))
	copy(s.memory, other)
	if s.file == nil {
		return nil
	}
	n, err := s.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = s.file.WriteAt(bytes.Repeat([]byte{changed}, int(n)), 0)
	return err
}

// compare reads what the peer gets, and counts what has not changed.
func (tr *transfer) compare(peer *net.UnixConn, t Traffic) error {
	if err := peer.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	got := make([]byte, tr.sent)
	if _, err := io.ReadFull(peer, got); err != nil {
		return err
	}
	want, kept := pattern(t.Size), uint64(0)
	for i, b := range got {
		switch b {
		case want[i%t.Size]:
			kept++
		case changed:
		default:
			return fmt.Errorf("byte %d of what the peer got is %#x, which was never sent: %w", i, b, io.ErrNoProgress)
		}
	}
	tr.kept = &kept
	return nil
}
