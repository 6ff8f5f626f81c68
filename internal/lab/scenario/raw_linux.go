package scenario

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// raw sends by system calls of our own.
func (tr *transfer) raw(c net.Conn, t Traffic, s *source) error {
	return control(c, func(fd int) error {
		if t.API == "msg_zerocopy" {
			if err := sys.SetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy, 1); err != nil {
				return err
			}
			tr.reported.CopiedBytes = new(uint64)
		}
		for range t.Count {
			n, err := tr.call(fd, t, s)
			tr.sent += uint64(n)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// call makes one send, of the whole of it.
func (tr *transfer) call(fd int, t Traffic, s *source) (done int, err error) {
	end := time.Now().Add(patience)
	for off := int64(0); done < t.Size; {
		var n int
		switch t.API {
		case "sendfile":
			n, err = sys.Sendfile(fd, int(s.file.Fd()), &off, t.Size-done)
		case "msg_zerocopy":
			n, err = sys.Send(fd, s.memory[done:], sys.MsgZerocopy|sys.MsgDontwait|sys.MsgNosignal)
			if err == nil {
				err = tr.completion(fd, n)
			}
		default:
			return done, fmt.Errorf("%s by system calls: %w", t.API, errors.ErrUnsupported)
		}
		switch {
		case errors.Is(err, syscall.EAGAIN) && time.Now().Before(end):
			if _, err := sys.Poll(fd, sys.PollOut, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, syscall.EINTR) {
				return done, err
			}
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return done + n, err
		case n == 0:
			return done, fmt.Errorf("%s took nothing: %w", t.API, syscall.EIO)
		}
		done += n
	}
	return done, nil
}

// completion waits for the completion of one send.
func (tr *transfer) completion(fd, n int) error {
	var oob [256]byte
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, m, err := sys.RecvErrqueue(fd, nil, oob[:])
		switch {
		case errors.Is(err, syscall.EAGAIN):
			// POLLERR is told without being asked for.
			if _, err := sys.Poll(fd, 0, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, syscall.EINTR) {
				return err
			}
			continue
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		}
		entries, err := sys.ParseErrqueue(oob[:m])
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Origin != sys.OriginZerocopy {
				continue
			}
			if e.Code == sys.ZerocopyCopied {
				*tr.reported.CopiedBytes += uint64(n)
			}
			return nil
		}
	}
	return fmt.Errorf("no completion after %v: %w", patience, syscall.ETIMEDOUT)
}
