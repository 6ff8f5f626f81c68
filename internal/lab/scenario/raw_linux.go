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
		if t.API == "msg_zerocopy" && !t.Socket.NoOption {
			if err := sys.SetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy, 1); err != nil {
				return err
			}
			tr.reported.CopiedBytes = new(uint64)
		}
		defer func() {
			if tr.noBuffers {
				tr.reported.CopiedBytes = nil // of what is lent
			}
		}()
		call, end, err := tr.caller(t, s)
		if err != nil {
			return err
		}
		defer end()
		for range t.Count {
			n, err := whole(fd, t.Size, call)
			tr.sent += uint64(n)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// A caller sends what is left of a send behind done bytes, and says how much of it
// the kernel took.
type caller func(fd, done int) (int, error)

// caller returns the system call of an API, and what ends its use.
func (tr *transfer) caller(t Traffic, s *source) (call caller, end func(), err error) {
	none := func() {}
	switch t.API {
	case "msg_zerocopy":
		return tr.lend(t, s), none, nil
	case "sendfile":
		return func(fd, done int) (int, error) {
			off := int64(done)
			return sys.Sendfile(fd, int(s.file.Fd()), &off, t.Size-done)
		}, none, nil
	case "splice", "vmsplice":
		if t.Source == Written {
			return func(fd, done int) (int, error) { return s.pour(fd, t.Size-done) }, none, nil
		}
		pipe, err := sys.Pipe()
		if err != nil {
			return nil, none, err
		}
		end = func() { _, _ = sys.Close(pipe[0]), sys.Close(pipe[1]) } // nothing is left in it
		return throughPipe(pipe, t, s), end, nil
	}
	return nil, none, fmt.Errorf("%s by system calls: %w", t.API, errors.ErrUnsupported)
}

// lend sends memory that the kernel keeps until it says so. Where it takes nothing
// into its keeping the rest of the send is written: a part of it could be lent, but it
// is the whole that is refused.
func (tr *transfer) lend(t Traffic, s *source) caller {
	flags, refused := sys.MsgDontwait|sys.MsgNosignal, false
	return func(fd, done int) (int, error) {
		if refused = refused && done > 0; refused {
			return sys.Send(fd, s.memory[done:], flags)
		}
		n, err := sys.Send(fd, s.memory[done:], flags|sys.MsgZerocopy)
		switch {
		case errors.Is(err, syscall.ENOBUFS): // nothing is outstanding that it would help to wait for
			tr.noBuffers, refused = true, true
			return sys.Send(fd, s.memory[done:], flags)
		case err == nil && !t.Socket.NoOption:
			err = tr.completion(fd, n)
		}
		return n, err
	}
}

// throughPipe fills a pipe with references, and empties it into the socket.
func throughPipe(pipe [2]int, t Traffic, s *source) caller {
	held := 0
	return func(fd, done int) (int, error) {
		if held == 0 {
			var err error
			if t.API == "splice" {
				off := int64(done)
				held, err = sys.Splice(int(s.file.Fd()), &off, pipe[1], t.Size-done, 0)
			} else {
				held, err = sys.Vmsplice(pipe[1], [][]byte{s.memory[done:]}, 0)
			}
			if err != nil {
				return 0, err
			}
		}
		n, err := sys.Splice(pipe[0], nil, fd, held, 0)
		held -= max(n, 0)
		return n, err
	}
}

// whole makes one send, of size bytes.
func whole(fd, size int, call caller) (done int, err error) {
	for end := time.Now().Add(patience); done < size; {
		n, err := call(fd, done)
		n = max(n, 0)
		switch {
		case errors.Is(err, syscall.EAGAIN) && time.Now().Before(end):
			if _, err := sys.Poll(fd, sys.PollOut, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, syscall.EINTR) {
				return done, err
			}
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return done + n, err
		case n == 0:
			return done, fmt.Errorf("the kernel took nothing: %w", syscall.EIO)
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
