package transmit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// pollSlice is how long a descriptor that Go's poller does not watch is waited for
// before the context is looked at again.
const pollSlice = 100 * time.Millisecond

// An end is one of the two descriptors of a relay.
type end struct {
	name  string // "source" or "destination"
	write bool   // it is written to
	raw   syscall.RawConn
	conn  interface {
		SetReadDeadline(time.Time) error
		SetWriteDeadline(time.Time) error
	}
	kind uint32 // sys.Mode*

	// blocking says that a read or write may hold the thread: the descriptor is in
	// blocking mode, so Go's poller does not watch it either.
	blocking bool
	device   uint64 // with inode, which file it is; not known of a net.Conn
	inode    uint64
}

// init looks at what c is.
func (e *end) init(k *calls, c syscall.Conn) error {
	switch c := c.(type) {
	case *net.TCPConn:
		e.conn, e.kind = c, sys.ModeSocket
	case *net.UnixConn:
		e.conn, e.kind = c, sys.ModeSocket
		if a := c.LocalAddr(); a == nil || a.Network() != "unix" {
			return fmt.Errorf("%s: a unix socket without a stream: %w", e.name, errNotForStreams)
		}
	case *os.File:
		e.conn = c
	default:
		return fmt.Errorf("%s: %T is neither *net.TCPConn nor *net.UnixConn nor *os.File: %w", e.name, c, errNotForStreams)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return e.wrap(err)
	}
	if e.raw = raw; e.kind != 0 {
		return nil
	}
	return e.initFile(k)
}

func (e *end) initFile(k *calls) (err error) {
	if cerr := e.raw.Control(func(fd uintptr) { err = e.look(k, int(fd)) }); cerr != nil {
		err = closedError(cerr)
	}
	if err != nil {
		return e.wrap(err)
	}
	return nil
}

// look finds out what an *os.File stands for.
func (e *end) look(k *calls, fd int) error {
	st, err := k.Fstat(fd)
	if err != nil {
		return err
	}
	e.kind, e.device, e.inode = st.Mode&sys.ModeType, st.Device, st.Inode
	switch e.kind {
	case sys.ModeDir:
		return syscall.EISDIR
	case sys.ModeRegular, sys.ModeBlock:
		return nil
	case sys.ModeSocket:
		if typ, err := k.GetsockoptInt(fd, sys.SolSocket, sys.SoType); err != nil {
			return err
		} else if typ != sys.SockStream {
			return fmt.Errorf("a socket without a stream: %w", errNotForStreams)
		}
	}
	flags, err := k.StatusFlags(fd)
	e.blocking = err == nil && flags&sys.OpenNonblock == 0
	return err
}

// same reports whether what is written to one end comes out of the other. A
// connection and a terminal may well be both ends.
func (e *end) same(o *end) bool {
	return e.inode != 0 && e.inode == o.inode && e.device == o.device && (e.kind == sys.ModeFIFO || e.kind == sys.ModeRegular)
}

// ready returns the poll(2) events to wait for.
func (e *end) ready() int16 {
	if e.write {
		return sys.PollOut
	}
	return sys.PollIn
}

// through runs op on the descriptor, waiting for it to be ready each time op returns
// false, for as long as the context and the deadlines allow.
func (r *relay) through(e *end, op func(fd uintptr) bool) error {
	for !e.blocking {
		err := e.run(op)
		if err == nil {
			return nil
		}
		if final := r.waitError(e, err); final != nil {
			return final
		}
		// Go's poller does not wait for this descriptor: it is of a kind that
		// epoll does not take, or an entry in the error queue is pending.
		if done, err := r.slice(e, op); done || err != nil {
			return err
		}
	}
	for {
		if done, err := r.slice(e, op); done || err != nil {
			return err
		}
	}
}

// run runs op as a reader or writer does, waiting as long as op returns false.
func (e *end) run(op func(fd uintptr) bool) error {
	if e.write {
		return e.raw.Write(op)
	}
	return e.raw.Read(op)
}

// waitError returns what a failure of RawConn.Read or Write means, nil if only that
// the poller does not watch the descriptor.
func (r *relay) waitError(e *end, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if r.watching && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		return e.wrap(err)
	case errors.Is(err, net.ErrClosed), errors.Is(err, fs.ErrClosed):
		return e.wrap(err)
	}
	return nil
}

// slice waits for the descriptor, for a while, without the help of Go's poller.
func (r *relay) slice(e *end, op func(fd uintptr) bool) (done bool, err error) {
	if err := r.ctx.Err(); err != nil {
		return true, err
	}
	cerr := e.raw.Control(func(fd uintptr) {
		var got int16
		got, err = r.calls.Poll(int(fd), e.ready(), int(pollSlice/time.Millisecond))
		if errors.Is(err, syscall.EINTR) {
			err = nil
		} else if err != nil {
			err = e.wrap(err)
		} else if got != 0 {
			done = op(fd)
			if !done {
				// Ready, and yet not: another thread was faster, or poll sees an
				// error that the operation does not.
				time.Sleep(time.Millisecond)
			}
		}
	})
	if cerr != nil {
		return true, e.wrap(closedError(cerr))
	}
	return done, err
}

// closedError gives the error of a closed *os.File its name: its RawConn has
// another.
func closedError(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, fs.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", fs.ErrClosed, err)
}

func (e *end) wrap(err error) error { return fmt.Errorf("%s: %w", e.name, err) }

// watch makes the end of the context wake whoever waits for an end. It is called
// when a wait is about to begin, and stays for the rest of the relay.
func (r *relay) watch() {
	if r.watching || r.ctx.Done() == nil {
		return
	}
	r.watching = true
	woken := make(chan struct{})
	stop := context.AfterFunc(r.ctx, func() {
		defer close(woken)
		past := time.Unix(1, 0)
		// An end that knows no deadlines is looked after in slices.
		_ = r.src.conn.SetReadDeadline(past)
		_ = r.dst.conn.SetWriteDeadline(past)
	})
	r.unwatch = func() {
		if stop() {
			return
		}
		<-woken
		_ = r.src.conn.SetReadDeadline(time.Time{})
		_ = r.dst.conn.SetWriteDeadline(time.Time{})
	}
}
