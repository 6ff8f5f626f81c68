package transfer

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// readBytes is what is read at a time where bytes go through the process.
const readBytes = 256 << 10

// stream sends what a pipe, a socket or a device gives.
//
// The checksum needs the bytes. Of a pipe tee(2) has them twice, so that those
// that are sent need not be touched; other sources are read, unless splice was
// asked for.
func (x *sending) stream(ctx context.Context) error {
	s := &x.o.Source
	splices := x.plan.Backend == transmit.Splice
	switch {
	case x.sum == nil:
		return x.relay(ctx, s.File, s.Length, x.plan.Backend)
	case splices && s.Kind == transmit.SourcePipe && !s.Device:
		err := x.tee(ctx)
		if !errors.Is(err, errNoTee) {
			return err
		}
	case splices && x.forced():
		x.sum = nil
		x.r.Checksum = "none: what is spliced never comes into the process"
		return x.relay(ctx, s.File, s.Length, transmit.Splice)
	}
	if splices {
		x.r.Downgrades = append(x.r.Downgrades, Downgrade{From: string(transmit.Splice), To: string(transmit.ReadWrite),
			Reason: "the checksum needs the bytes in the process; --no-checksum goes without"})
	}
	return x.readAndSend(ctx)
}

// readAndSend brings the bytes into the process for their checksum.
func (x *sending) readAndSend(ctx context.Context) error {
	buf := make([]byte, readBytes)
	for left := x.o.Source.Length; left != 0; {
		n, err := x.read(ctx, buf, left)
		if n == 0 {
			return err
		}
		x.sum.Write(buf[:n])
		c, err := x.sender.Send(ctx, buf[:n])
		x.went(transmit.ReadWrite, c.Bytes())
		if err != nil {
			return err
		}
		if left > 0 {
			left -= int64(n)
		}
	}
	return nil
}

// read reads some of the source, at most left bytes unless that is -1. At the end
// it returns neither bytes nor an error, if it was allowed to end.
func (x *sending) read(ctx context.Context, buf []byte, left int64) (int, error) {
	s := &x.o.Source
	if left > 0 {
		buf = buf[:min(left, int64(len(buf)))]
	}
	if err := awaitInput(ctx, s.File); err != nil {
		return 0, err
	}
	n, err := s.File.Read(buf)
	switch {
	case n > 0:
		return n, nil
	case err == io.EOF && left > 0:
		return 0, fileError(s.Name, &transmit.TruncatedError{Sent: x.r.SentBytes, Want: s.Length})
	case err == io.EOF:
		return 0, nil
	}
	return 0, fileError(s.Name, err)
}

// errNoTee says that the bytes of the pipe cannot be had twice.
var errNoTee = errors.New("tee")

// tee sends what a pipe has by splice, and reads what tee(2) keeps of it for the
// checksum.
func (x *sending) tee(ctx context.Context) error {
	s := &x.o.Source
	p, err := sys.Pipe()
	if err != nil {
		return errNoTee
	}
	r, w := os.NewFile(uintptr(p[0]), "tee"), os.NewFile(uintptr(p[1]), "tee")
	defer r.Close()
	defer w.Close()
	size, err := sys.SetPipeSize(p[1], 1<<20)
	if err != nil {
		size = 64 << 10 // as pipes are made; pipe(7)
	}
	buf := make([]byte, size)
	for left := s.Length; left != 0; {
		want := size
		if left > 0 {
			want = int(min(left, int64(size)))
		}
		n, err := x.teeSome(ctx, p[1], want)
		if err != nil {
			return err
		}
		if n == 0 {
			if left > 0 {
				return fileError(s.Name, &transmit.TruncatedError{Sent: x.r.SentBytes, Want: s.Length})
			}
			return nil
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		x.sum.Write(buf[:n])
		if err := x.relay(ctx, s.File, int64(n), transmit.Splice); err != nil {
			return err
		}
		if left > 0 {
			left -= int64(n)
		}
	}
	return nil
}

// teeSome waits for the source and has up to n bytes of it twice; 0 is its end.
func (x *sending) teeSome(ctx context.Context, to, n int) (int, error) {
	for {
		if err := awaitInput(ctx, x.o.Source.File); err != nil {
			return 0, err
		}
		var got int
		var err error
		if cerr := control(x.o.Source.File, func(fd int) { got, err = sys.Tee(fd, to, n, sys.SpliceNonblock) }); cerr != nil {
			return 0, cerr
		}
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		case x.r.SentBytes == 0:
			return 0, errNoTee
		default:
			return 0, fileError(x.o.Source.Name, err)
		}
	}
}
