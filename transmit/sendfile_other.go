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
)

// SendFile sends length bytes of a file from offset on, or with length -1 all from
// there to its end. Outside Linux it reads and writes: the file may change again
// when it returns. Everything is one write, and so one datagram, on connections
// with messages. Errors are those of the file and the connection, and a
// [*TruncatedError] where the file ends before the range.
func (s *Sender) SendFile(ctx context.Context, f *os.File, offset, length int64, o FileOptions) (Completion, error) {
	if err := checkRange(offset, length); err != nil {
		return Completion{}, fileError(f, err)
	}
	if f == nil {
		return Completion{}, fileError(f, os.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return Completion{}, fmt.Errorf("transmit: %w", err)
	}
	r := Result{Backend: ReadWrite}
	err := s.readWrite(ctx, f, offset, length, o, &r)
	r.PlainBytes = r.Bytes
	s.stats.Transfers++
	s.stats.Bytes += r.Bytes
	s.stats.PlainBytes += r.Bytes
	if err != nil {
		err = fmt.Errorf("transmit: after %d bytes: %w", r.Bytes, err)
	}
	return Completion{s: s, sent: r}, err
}

func (s *Sender) readWrite(ctx context.Context, f *os.File, offset, length int64, o FileOptions, r *Result) error {
	rest, most := length, int64(128<<10)
	if length < 0 {
		rest = 1<<63 - 1 - offset
	}
	_, datagram := s.conn.(*net.UDPConn)
	parts := append(net.Buffers{}, o.Header...)
	b, sent := make([]byte, most), int64(0)
	for done := false; !done; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(io.NewSectionReader(f, offset+sent, rest-sent), b[:min(most, rest-sent)])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		switch {
		case err != nil && !end:
			return err
		case end && length > sent+int64(n):
			err = &TruncatedError{Sent: sent + int64(n), Want: length}
		default:
			err = nil
		}
		if done = end || sent+int64(n) == rest; datagram && (!done || err != nil) {
			if err == nil {
				err = fmt.Errorf("more than a datagram: %w", syscall.EMSGSIZE)
			}
			return err
		}
		parts = append(parts, b[:n])
		if done && err == nil {
			parts = append(parts, o.Trailer...)
		}
		m, werr := parts.WriteTo(s.w)
		r.Bytes += m
		if werr = errors.Join(werr, err); werr != nil {
			return werr
		}
		sent, parts = sent+int64(n), parts[:0]
	}
	return nil
}
