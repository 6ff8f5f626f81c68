package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// datagrams receives what the first sender sends, until an empty datagram comes
// or nothing for a while. Datagrams of others are counted and dropped.
func (x *receipt) datagrams(ctx context.Context, c *net.UDPConn) error {
	x.r.Way = wayRead
	if x.out.file != nil {
		x.r.Way = string(transmit.ReadWrite)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := x.series(ctx, c)
	x.countDrops(c)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("receive on %s: %w", x.r.Local, &BrokenError{Bytes: x.r.ReceivedBytes, Err: err})
	}
	return nil
}

func (x *receipt) series(ctx context.Context, c *net.UDPConn) error {
	buf := make([]byte, 64<<10)
	var peer netip.AddrPort
	for {
		if err := x.waitIdle(ctx, c, peer); err != nil {
			return err
		}
		n, from, err := c.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && context.Cause(ctx) == nil:
			x.r.EndedBy = "idle"
			return nil
		case err != nil:
			return plainOp(err)
		case peer.IsValid() && from != peer:
			*x.r.Foreign++
			continue
		case n == 0 && peer.IsValid():
			x.r.EndedBy = "end"
			return nil
		case n == 0:
			continue // the mark of a transfer that ended before
		case !peer.IsValid():
			peer = from
			x.r.Peer = from.String()
		}
		if x.o.MaxBytes > 0 && x.r.ReceivedBytes+int64(n) > x.o.MaxBytes {
			return ErrTooMuch
		}
		*x.r.Datagrams++
		if err := x.take(buf[:n]); err != nil {
			return err
		}
	}
}

// waitIdle bounds the wait for the next datagram once there was one.
func (x *receipt) waitIdle(ctx context.Context, c *net.UDPConn, peer netip.AddrPort) error {
	if !peer.IsValid() {
		return nil
	}
	if err := c.SetReadDeadline(time.Now().Add(x.o.Idle)); err != nil {
		return err
	}
	return context.Cause(ctx) // which may have ended just before the deadline was set
}

// countDrops asks the socket how many datagrams found no room.
func (x *receipt) countDrops(c *net.UDPConn) {
	var info [9 * 4]byte // SK_MEMINFO_*, linux/sock_diag.h
	n, err := 0, error(nil)
	cerr := control(c, func(fd int) { n, err = sys.GetsockoptBytes(fd, sys.SolSocket, sys.SoMeminfo, info[:]) })
	if cerr != nil || err != nil || n < len(info) {
		x.r.Dropped = nil
		return
	}
	*x.r.Dropped = int64(binary.NativeEndian.Uint32(info[sys.MeminfoDrops*4:]))
}
