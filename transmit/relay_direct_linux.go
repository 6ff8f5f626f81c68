package transmit

import (
	"errors"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// direct splices between two ends of which one is a pipe already.
func (r *relay) direct() error {
	busy, once := 0, r.spliceOnce()
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.awaitBlocking(); err != nil {
			return err
		}
		if err := once(); err != nil {
			return err
		}
		switch r.err {
		case nil:
			if r.n == 0 {
				return r.uncork()
			}
			busy = 0
			r.corked = r.dst.kind == sys.ModeSocket && int64(r.n) < r.ask()
			r.read += int64(r.n)
			r.spliced += int64(r.n)
			r.left -= int64(r.n)
		case syscall.EAGAIN:
			waited, err := r.awaitEither()
			if err != nil {
				return err
			}
			if busy++; waited {
				busy = 0
			} else if busy > 1 {
				time.Sleep(time.Millisecond) // both seem ready, and splice says otherwise
			}
		default:
			return r.dst.refusal(r.err)
		}
	}
	return nil
}

// spliceOnce returns a function that makes one call from end to end.
func (r *relay) spliceOnce() func() error {
	var src int
	var inner error
	toDst := func(fd uintptr) bool {
		for {
			r.n, r.err = r.calls.Splice(src, nil, int(fd), nil, int(r.ask()), sys.SpliceNonblock)
			if r.err != syscall.EINTR {
				return true
			}
		}
	}
	fromSrc := func(fd uintptr) bool {
		src = int(fd)
		inner = r.hold(&r.dst, toDst)
		return true
	}
	return func() error {
		if err := r.hold(&r.src, fromSrc); err != nil {
			return err
		}
		return inner
	}
}

// socketBatch is how many bytes of a pipe's full pages the kernel hands to a socket at
// a time: 16 buffers of 4 KiB (splice_to_socket).
const socketBatch = 16 * 4096

// ask returns how many bytes to splice. To a socket they are no more than a batch:
// while a call lasts nobody can write to the pipe.
func (r *relay) ask() int64 {
	if r.src.kind == sys.ModeFIFO && r.dst.kind == sys.ModeSocket {
		return min(r.left, socketBatch)
	}
	return min(r.left, relayChunk)
}

// uncork makes dst send what it may hold back. When the kernel has handed a batch from
// a pipe to a socket, and more was asked for, it takes it that more follows, as by
// MSG_MORE, even if the pipe is empty now (splice_to_socket, Linux 6.5 on): the last
// segment would wait for an acknowledgement, 40 ms at worst. Setting TCP_NODELAY sends
// it. Where the application has not set that it wants to wait.
func (r *relay) uncork() error {
	if !r.corked {
		return nil
	}
	r.corked = false
	return r.hold(&r.dst, func(fd uintptr) bool {
		if encrypted(r.calls, int(fd)) {
			closeRecord(r.calls.Sendmsg, int(fd))
		}
		if on, err := r.calls.GetsockoptInt(int(fd), sys.SolTCP, sys.TCPNoDelay); err == nil && on != 0 {
			// Not a TCP socket, or gone: then nothing is held back.
			_ = r.calls.SetsockoptInt(int(fd), sys.SolTCP, sys.TCPNoDelay, 1)
		}
		return true
	})
}

// awaitEither waits after an EAGAIN, which doesn't say of which end it is, and
// reports whether there was something to wait for.
func (r *relay) awaitEither() (waited bool, err error) {
	if err := r.uncork(); err != nil {
		return false, err
	}
	if waited, err = r.waitFor(&r.src); waited || err != nil {
		return waited, err
	}
	return r.waitFor(&r.dst)
}

// awaitBlocking waits for ends that would hold the thread: SPLICE_F_NONBLOCK is for
// pipes alone.
func (r *relay) awaitBlocking() error {
	for _, e := range []*end{&r.src, &r.dst} {
		if e.blocking && e.kind != sys.ModeFIFO {
			if _, err := r.waitFor(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold runs op on the descriptor once, under the lock that readers or writers of it
// take, and if its deadline has not passed. op returns true.
func (r *relay) hold(e *end, op func(fd uintptr) bool) error {
	if !e.blocking {
		err := e.run(op)
		if err == nil {
			return nil
		}
		if final := r.waitError(e, err); final != nil {
			return final
		}
	}
	if err := e.raw.Control(func(fd uintptr) { op(fd) }); err != nil {
		return e.wrap(closedError(err))
	}
	return nil
}

// waitFor waits until poll(2) finds the descriptor ready, and reports whether it was
// not from the start.
func (r *relay) waitFor(e *end) (waited bool, err error) {
	asked := false
	terr := r.through(e, func(fd uintptr) bool {
		if asked {
			waited = true // what was spurious comes back here
			return true
		}
		asked = true
		var got int16
		if got, err = r.calls.Poll(int(fd), e.ready(), 0); err != nil {
			err = e.wrap(err)
			return true
		}
		if got&e.ready() != 0 || got != 0 && e.kind == sys.ModeFIFO {
			return true // of a pipe the other end being closed is ready, too
		}
		r.watch()
		return false
	})
	return waited, errors.Join(terr, err)
}
