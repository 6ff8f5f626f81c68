package transfer

import (
	"context"
	"fmt"
	"io"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

const (
	// commonDatagram is the payload of a datagram that fits an Ethernet packet
	// over IPv4: 1500 bytes less the headers of IP and UDP.
	commonDatagram = 1472
	// MostDatagram is the payload of the longest one over IPv4.
	MostDatagram = 65507

	headers4, headers6 = 28, 48 // IP without options, and UDP
)

// setDatagram finds the size of a datagram: what was asked for, or what goes in
// one packet on the path, and on Ethernet.
func (x *sending) setDatagram() error {
	if x.o.DatagramBytes == 0 {
		x.o.DatagramBytes = commonDatagram
		level, option, headers := sys.SolIP, sys.IPMTU, headers4
		if isIPv6(x.conn.RemoteAddr()) {
			level, option, headers = sys.SolIPv6, sys.IPv6MTU, headers6
			x.o.DatagramBytes = commonDatagram + headers4 - headers6
		}
		var mtu int
		var err error
		if cerr := control(x.conn, func(fd int) { mtu, err = sys.GetsockoptInt(fd, level, option) }); cerr != nil {
			return cerr
		}
		if err == nil && mtu > headers {
			x.o.DatagramBytes = min(x.o.DatagramBytes, int64(mtu-headers))
		}
	}
	x.r.DatagramBytes, x.r.Datagrams = new(x.o.DatagramBytes), new(int64(0))
	return nil
}

// datagrams sends the source in datagrams of one size; the last may be shorter.
func (x *sending) datagrams(ctx context.Context) error {
	s := &x.o.Source
	r, err := x.newRotation(x.o.DatagramBytes)
	if err != nil {
		return err
	}
	if s.Kind == transmit.SourceFile {
		if _, err := s.File.Seek(s.Offset, io.SeekStart); err != nil {
			return fileError(s.Name, err)
		}
	}
	for at := int64(0); s.Length < 0 || at < s.Length; {
		b, err := r.take(ctx, x)
		if err != nil {
			return err
		}
		p := b.buf.Bytes()[:x.o.DatagramBytes]
		if s.Length >= 0 {
			p = p[:min(int64(len(p)), s.Length-at)]
		}
		n, err := x.load(ctx, p, at)
		if err != nil || n == 0 {
			return err
		}
		if x.sum != nil && s.Kind != transmit.SourceFile {
			x.sum.Write(p[:n])
		}
		if err := x.send(ctx, b, p[:n]); err != nil {
			return fmt.Errorf("datagram %d: %w", *x.r.Datagrams+1, err)
		}
		*x.r.Datagrams++
		at += int64(n)
	}
	return nil
}

// load fills p with what stands at a place of the source, all of it unless the
// source ends.
func (x *sending) load(ctx context.Context, p []byte, at int64) (int, error) {
	s := &x.o.Source
	if s.Kind == transmit.SourceMemory {
		fill(p, at&^7)
		return len(p), nil
	}
	for n := 0; ; {
		left := int64(-1)
		if s.Length >= 0 {
			left = s.Length - at - int64(n)
		}
		m, err := x.read(ctx, p[n:], left)
		n += m
		if err != nil || m == 0 || n == len(p) {
			return n, err
		}
	}
}
