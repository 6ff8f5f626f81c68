package transmit

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// connStream is the descriptor of a Conn.
type connStream struct {
	raw    syscall.RawConn
	device atomic.Uint64 // of the last file: 4 times its number, known, and stale
	calls  *calls
}

func (s *connStream) init(c syscall.Conn) (err error) {
	s.calls = kernelCalls()
	s.raw, err = c.SyscallConn()
	return err
}

// access returns the descriptor without what package os looks for.
func (s *connStream) access(syscall.Conn) (syscall.RawConn, error) { return rawAccess{s.raw}, nil }

// rawAccess has the methods of a RawConn and no others.
type rawAccess struct{ syscall.RawConn }

// fileCopy is the part of a copying that sends a file by sendfile(2).
type fileCopy struct {
	conn *Conn
	k    *calls
	src  int
	at   int64  // offset, if off is it
	off  *int64 // nil: the file's own position
	most int64
	size int64 // of the file
	sent int64
	err  error
	look fileLook

	stalled int // calls in a row that found the target not ready when it was

	waited, inOne bool // for room; all that was sent went in the first call

	direct bool // the file is open with O_DIRECT, if told
	crypto bool // the kernel encrypts what is sent, if told

	withSource, piece func(fd uintptr) bool
}

// fileLook is what to do with a file.
type fileLook uint8

const (
	lookSend   fileLook = iota // it is, or was, sent from
	lookRelay                  // it has no positions
	lookRead                   // made when it is read
	lookStale                  // what the page cache has may be old
	lookRefuse                 // the kernel does not
)

func (x *copying) bind() {
	x.withSource, x.piece = x.sendSource, x.sendPiece
}

// takeFile sends a file, or part of it, to the connection.
func (c *Conn) takeFile(x *copying, f *os.File, at, most int64) (int64, bool, error) {
	if c.tuned || x.file != nil {
		return c.sendBySender(x, f, at, most)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, false, nil // reading says so better
	}
	x.conn, x.k, x.sent, x.most, x.err, x.look, x.direct, x.size, x.stalled = c, c.stream.calls, 0, most, nil, lookSend, false, noEnd, 0
	x.crypto, x.waited, x.inOne = false, false, false
	if x.off = nil; at >= 0 {
		x.at, x.off = at, &x.at
	}
	if err := raw.Read(x.withSource); err != nil {
		return 0, false, nil // closed, or past its deadline
	}
	n, err := x.sent, x.err
	switch x.look {
	case lookRelay:
		if at >= 0 {
			return 0, false, nil
		}
		if x.told {
			x.came(fileName(f))
		}
		return c.takeStream(x, f, most)
	case lookSend:
		if x.told {
			x.came("file")
			x.sentFile(n)
		}
		return n, true, err
	}
	if x.told {
		x.came("file")
		x.notSent(n)
	}
	return n, false, nil
}

// sentFile notes what was sent by sendfile.
func (x *copying) sentFile(n int64) {
	if x.crypto {
		id, reason := encryption{}.cause()
		x.add(Result{Bytes: n, Backend: Sendfile, PlainBytes: n, Cause: id}, reason)
		return
	}
	if x.direct {
		x.took(n, Sendfile, "odirect-source", "the file is open with O_DIRECT, of which the kernel makes a copy")
		return
	}
	x.took(n, Sendfile, "", "")
}

// notSent notes why the rest of a file is read and written.
func (x *copying) notSent(n int64) {
	x.took(n, Sendfile, "", "")
	switch x.look {
	case lookRead:
		x.add(Result{Backend: ReadWrite, Cause: "copy-splice-read"}, "the file is made when it is read")
	case lookStale:
		x.add(Result{Backend: ReadWrite, Cause: "stale-source"}, "the page cache may not have what the file holds")
	case lookRefuse:
		x.add(Result{Backend: ReadWrite, Cause: "fast-path-refused"}, "the kernel does not do this between the file and the connection")
	}
}

// sendSource sends the file with the given descriptor.
func (x *copying) sendSource(fd uintptr) bool {
	x.src = int(fd)
	st, err := x.k.Fstat(x.src)
	if err != nil {
		x.look = lookRefuse
		return true
	}
	switch st.Mode & sys.ModeType {
	case sys.ModeRegular:
		if st.Size == 0 {
			x.look = lookRead
			return true
		}
		x.size = st.Size
		if x.conn.stream.stale(x.src, st.Device) {
			x.look = lookStale
			return true
		}
		if x.told {
			flags, err := x.k.StatusFlags(x.src)
			x.direct = err == nil && flags&sys.OpenDirect != 0
		}
	case sys.ModeBlock:
	case sys.ModeDir:
		x.look = lookRefuse
		return true
	default:
		x.look = lookRelay
		return true
	}
	if err := x.conn.stream.raw.Write(x.piece); err != nil && x.err == nil {
		x.err = innermost(err)
	}
	return true
}

// whole reports whether all of the file was sent, from its start to its end as it is
// now. To look is cheaper than a call that finds nothing more, and what went in one
// call was as long when the copy began, which was no time ago.
func (x *copying) whole() bool {
	if x.sent != x.size {
		return false
	}
	if x.inOne {
		return true
	}
	st, err := x.k.Fstat(x.src)
	if err != nil || st.Size > x.size {
		x.size = noEnd
		return false
	}
	return true
}

// stale is stalePages with the answer kept for the last device.
func (s *connStream) stale(fd int, device uint64) bool {
	if known := s.device.Load(); known>>2 == device && known&2 != 0 {
		return known&1 != 0
	}
	key, old := device<<2|2, stalePages(s.calls, fd)
	if old {
		key |= 1
	}
	s.device.Store(key)
	return old
}

// sendPiece sends until there is no room or nothing left. With false the runtime
// calls it again when there is room.
func (x *copying) sendPiece(fd uintptr) bool {
	if x.told && x.sent == 0 {
		x.crypto = encrypted(x.k, int(fd))
	}
	for x.sent < x.most {
		if x.whole() {
			return true
		}
		// Never more than the file has, where it is sent from its start: kernels before
		// 6.5 keep the last packet back for what does not come (splice_direct_to_actor).
		ask := min(x.most, x.size) - x.sent
		n, err := x.k.Sendfile(int(fd), x.src, x.off, int(min(ask, pieceBytes)))
		switch {
		case err == nil && n == 0:
			x.push(int(fd))
			return true
		case err == nil:
			x.inOne = x.sent == 0 && !x.waited
			x.sent += int64(n)
			x.stalled = 0
		case err == syscall.EAGAIN:
			// Which does not say that it is the target that is not ready.
			got, perr := x.k.Poll(int(fd), sys.PollOut, 0)
			if perr != nil || got&sys.PollOut == 0 {
				x.waited = true
				return false
			}
			if x.stalled++; x.stalled > mostStalled {
				x.look = lookRefuse
				return true
			}
		case err == syscall.EINTR:
		case refuses(err), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EIO):
			x.look = lookRefuse // what is wrong with the file, reading finds too
			return true
		default:
			x.err = callError("sendfile", err)
			return true
		}
	}
	return true
}

// callError is err as package net has it.
func callError(call string, err error) error {
	if err = innermost(err); errors.As(err, new(syscall.Errno)) {
		return os.NewSyscallError(call, err)
	}
	return err
}

// push sends what the kernel may keep back, before Linux 6.5, as more was asked for
// than the file had. An application that corked the connection wants that.
func (x *copying) push(fd int) {
	if x.sent == 0 || x.conn.kind != "tcp" {
		return
	}
	if encrypted(x.k, fd) {
		closeRecord(x.k.Sendmsg, fd)
	}
	if on, err := x.k.GetsockoptInt(fd, sys.SolTCP, sys.TCPNoDelay); err == nil && on != 0 {
		_ = x.k.SetsockoptInt(fd, sys.SolTCP, sys.TCPNoDelay, 1) // then it goes out a little later
	}
}

// innermost returns what is wrong without where.
func innermost(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, fs.ErrClosed):
		return fs.ErrClosed
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

// takeStream relays what has no positions.
func (c *Conn) takeStream(x *copying, src io.Reader, most int64) (int64, bool, error) {
	o := RelayOptions{OnDowngrade: c.o.Sender.OnDowngrade}
	switch c.way {
	case Splice, ReadWrite:
		o.Backend = c.way
	case Write, Writev:
		o.Backend = ReadWrite
	}
	return x.relay(c.nc.(syscall.Conn), src, most, o, &c.downs)
}

func (x *copying) relay(dst syscall.Conn, src io.Reader, most int64, o RelayOptions, downs *downgrades) (int64, bool, error) {
	from, ok := src.(syscall.Conn)
	if !ok {
		return 0, false, nil
	}
	n := most
	if n == unbounded {
		n = -1
	}
	res, err := Relay(context.Background(), dst, from, n, o)
	lost, done, err := relayed(res, err)
	if !done {
		return 0, false, nil
	}
	x.lost += lost
	if x.told {
		reason := downs.reason(res.Cause)
		if f, ok := x.to.(*fileSink); ok && res.Cause == "fast-path-refused" && f.appends() {
			reason = appendReason
		}
		if res.Backend == ReadWrite && reason == "" {
			if res.Cause = "small-splice"; most > smallRelay {
				res.Cause = "copy-loop"
			}
			reason = "so few bytes take less by two copies"
			if most > smallRelay {
				reason = "it was asked for"
			}
		}
		x.add(res, reason)
	}
	if err != nil {
		err = callError("splice", err)
	}
	return res.Bytes, true, err
}

func (f *fileSink) takeStream(x *copying, src io.Reader, most int64) (int64, bool, error) {
	return x.relay(f.File, src, most, RelayOptions{OnDowngrade: f.downs.hear}, f.downs)
}
