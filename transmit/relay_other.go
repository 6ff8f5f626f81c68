//go:build !linux

package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// relayStreams copies: what else there is outside Linux is io.Copy's business.
func relayStreams(ctx context.Context, dst, src syscall.Conn, n int64, o RelayOptions) (Result, error) {
	if o.Backend == Splice {
		return Result{}, fmt.Errorf("splice: %w", errors.ErrUnsupported)
	}
	for _, c := range []syscall.Conn{dst, src} {
		switch c.(type) {
		case *net.TCPConn, *net.UnixConn, *os.File:
		default:
			return Result{}, fmt.Errorf("%T is neither *net.TCPConn nor *net.UnixConn nor *os.File: %w", c, errNotForStreams)
		}
	}
	type deadlines interface {
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		past := time.Unix(1, 0)
		_ = src.(deadlines).SetReadDeadline(past)
		_ = dst.(deadlines).SetWriteDeadline(past)
	})
	from := &countingReader{r: src.(io.Reader)}
	written, err := io.Copy(dst.(io.Writer), io.LimitReader(from, n))
	if !stop() {
		<-woken
		_ = src.(deadlines).SetReadDeadline(time.Time{})
		_ = dst.(deadlines).SetWriteDeadline(time.Time{})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = ctx.Err()
		}
	}
	if err == nil && written < n && n != unbounded {
		err = io.ErrUnexpectedEOF
	}
	res := Result{Bytes: written, Backend: ReadWrite, PlainBytes: written}
	if err != nil {
		return res, &RelayError{Read: from.n, Written: written, Err: err}
	}
	return res, nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
