package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/zcprobe/zcprobe/transmit"
)

// file sends a range of a regular file on a stream.
func (x *sending) file(ctx context.Context) error {
	s := &x.o.Source
	if _, err := s.File.Seek(s.Offset, io.SeekStart); err != nil {
		return fileError(s.Name, err)
	}
	b := x.plan.Backend
	switch {
	case b == transmit.Splice, b == transmit.ReadWrite:
	case x.forced():
		return &RefusedError{Backend: b, Reason: "files are not sent by it here"}
	default:
		b = ""
	}
	err := x.relay(ctx, s.File, s.Length, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fileError(s.Name, &transmit.TruncatedError{Sent: x.r.SentBytes, Want: s.Length})
	}
	return err
}
