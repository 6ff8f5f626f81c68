package transfer

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// The ways of receiving that are no backends of package transmit.
const (
	wayRead    = "read"    // read, and not kept
	wayDiscard = "discard" // dropped by the kernel, with MSG_TRUNC
)

// streamOf receives a stream until it ends.
func (x *receipt) streamOf(ctx context.Context, c Conn) error {
	most := int64(math.MaxInt64)
	if x.o.MaxBytes > 0 {
		most = x.o.MaxBytes
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var err error
	switch {
	case x.sum != nil:
		err = x.readStream(c, most)
	case x.out.file != nil:
		err = x.spliceStream(ctx, c, x.out.file, most)
	case x.r.Protocol == "tcp":
		err = x.discardStream(c, most)
	default:
		err = x.spliceAway(ctx, c, most)
	}
	if err != nil || x.r.ReceivedBytes < most {
		return err
	}
	var one [1]byte
	if n, err := c.Read(one[:]); n > 0 {
		return ErrTooMuch
	} else if err != io.EOF {
		return plainOp(err)
	}
	return nil
}

// readStream brings everything into the process.
func (x *receipt) readStream(c Conn, most int64) error {
	x.r.Way = wayRead
	if x.out.file != nil {
		x.r.Way = string(transmit.ReadWrite)
	}
	buf := make([]byte, readBytes)
	for x.r.ReceivedBytes < most {
		n, err := c.Read(buf[:min(int64(len(buf)), most-x.r.ReceivedBytes)])
		if terr := x.take(buf[:n]); terr != nil {
			return terr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return plainOp(err)
		}
	}
	return nil
}

// spliceStream relays to a file or stream without reading.
func (x *receipt) spliceStream(ctx context.Context, c Conn, f *os.File, most int64) error {
	x.r.Way = string(transmit.Splice)
	if err := x.firstByte(c); err != nil {
		return err
	}
	for x.r.ReceivedBytes < most {
		want := most - x.r.ReceivedBytes
		if x.o.StepBytes > 0 {
			want = min(want, x.o.StepBytes)
		}
		res, err := transmit.Relay(ctx, f, c, want, transmit.RelayOptions{OnDowngrade: x.downgraded})
		if res.PlainBytes > 0 {
			x.r.Way = string(res.Backend)
			x.r.ReadBytes += res.PlainBytes
		}
		x.arrived(res.Bytes)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// spliceAway drops a stream without reading it, by way of /dev/null.
func (x *receipt) spliceAway(ctx context.Context, c Conn, most int64) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return x.spliceStream(ctx, c, null, most)
}

// firstByte waits for something to arrive, so that the wait is no part of the rate.
func (x *receipt) firstByte(c Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		got, perr := sys.Poll(int(fd), sys.PollIn, 0)
		return got != 0 || perr != nil && !interrupted(perr)
	})
	x.begun = time.Now()
	return err
}

// discardStream has the kernel drop what arrives on a TCP connection: with
// MSG_TRUNC nothing is copied; tcp(7).
func (x *receipt) discardStream(c Conn, most int64) error {
	x.r.Way = wayDiscard
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for x.r.ReceivedBytes < most {
		var n int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, rerr = sys.Recv(int(fd), buf[:min(int64(len(buf)), most-x.r.ReceivedBytes)], sys.MsgTrunc|sys.MsgDontwait)
			return !errors.Is(rerr, syscall.EAGAIN)
		})
		switch {
		case err != nil:
			return plainOp(err)
		case interrupted(rerr):
		case rerr != nil:
			return rerr
		case n == 0:
			return nil
		}
		x.arrived(int64(n))
	}
	return nil
}
