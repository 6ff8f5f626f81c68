package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// relayChunk is the most that one call moves: what a pipe of the pool can hold. It
// bounds how long the end of the context goes unseen.
const relayChunk = pipeBytes

// A relay is one call of [Relay]. Its methods that take a descriptor are the
// operations given to [relay.through]; they leave what happened in n and err.
type relay struct {
	calls *calls
	pipes *pipePool
	ctx   context.Context
	opts  RelayOptions

	src, dst end
	left     int64 // bytes still to be taken from src
	read     int64
	spliced  int64 // bytes that dst took
	copied   int64
	cause    string

	pipe *pipe   // nil while it would be empty and src is waited for
	buf  *[]byte // the same, for reading and writing

	unwritten []byte // of buf

	n        int
	err      error
	watching bool
	unwatch  func()
}

func relayStreams(ctx context.Context, dst, src syscall.Conn, n int64, o RelayOptions) (Result, error) {
	return (&relay{calls: kernelCalls(), pipes: &pipes, ctx: ctx, opts: o, left: n}).run(dst, src)
}

func (r *relay) run(dst, src syscall.Conn) (Result, error) {
	r.src.name, r.dst.name, r.dst.write = "source", "destination", true
	if err := errors.Join(r.src.init(r.calls, src), r.dst.init(r.calls, dst)); err != nil {
		return Result{}, err
	}
	if r.src.same(&r.dst) {
		return Result{}, fmt.Errorf("relay from a file or pipe to itself would not end: %w", syscall.EINVAL)
	}
	bounded := r.left
	err := r.move()
	if r.unwatch != nil {
		r.unwatch()
	}
	if r.pipe != nil {
		r.pipes.put(r.pipe)
	}
	r.letGo()
	if err == nil && r.left > 0 && bounded != unbounded {
		err = r.src.wrap(io.ErrUnexpectedEOF)
	}
	res := Result{Bytes: r.spliced + r.copied, Backend: Splice, PlainBytes: r.copied, Cause: r.cause}
	if r.copied > r.spliced || r.opts.Backend == ReadWrite {
		res.Backend = ReadWrite
	}
	if err != nil {
		return res, &RelayError{Read: r.read, Written: res.Bytes, Err: err}
	}
	return res, nil
}

// move relays in the best way, and in the next best from where that stopped.
func (r *relay) move() error {
	if r.left == 0 {
		return nil
	}
	if r.opts.Backend == "" && r.staleSource() {
		r.downgrade("stale-source", "the page cache may not have what the file holds", nil)
		return r.readWrite()
	}
	if r.opts.Backend != ReadWrite {
		var err error
		if r.src.kind == sys.ModeFIFO || r.dst.kind == sys.ModeFIFO {
			err = r.direct()
		} else {
			err = r.viaPipe()
		}
		var refused *refusedError
		switch {
		case errors.As(err, &refused):
			r.downgrade(refused.cause, refused.reason, refused.err)
		case err != nil || !r.confirmEnd():
			return err
		}
	}
	return r.readWrite()
}

// confirmEnd reports whether read(2) has to say whether the source has really
// ended: splice goes by the size that the page cache knows, and some files have
// none before they are read, or have grown elsewhere.
func (r *relay) confirmEnd() bool { return r.left > 0 && r.src.kind == sys.ModeRegular }

// staleSource reports whether the source is a file that is known to be spliced from
// a page cache that nobody keeps up to date.
func (r *relay) staleSource() bool {
	if r.src.kind != sys.ModeRegular {
		return false
	}
	stale := false
	if err := r.src.raw.Control(func(fd uintptr) { stale = stalePages(r.calls, int(fd)) }); err != nil {
		return false // closed: the first read will say so
	}
	return stale
}

// viaPipe splices from src into a pipe of the pool, and from there to dst.
func (r *relay) viaPipe() error {
	fill, empty := r.fillPipe, r.emptyPipe
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.through(&r.src, fill); err != nil {
			return err
		}
		if r.err != nil {
			return r.src.refusal(r.err)
		}
		if r.n == 0 {
			return nil
		}
		r.read += int64(r.n)
		r.left -= int64(r.n)
		for r.pipe.held > 0 {
			if err := r.through(&r.dst, empty); err != nil {
				return err
			}
			if r.err != nil {
				return r.dst.refusal(r.err)
			}
			r.spliced += int64(r.n)
		}
	}
	return nil
}

// fillPipe gives the pipe back before it waits: an idle relay needs none.
func (r *relay) fillPipe(fd uintptr) bool {
	if r.pipe == nil {
		if r.pipe, r.err = r.pipes.get(); r.err != nil {
			r.err = &refusedError{err: r.err, cause: "fast-path-refused", reason: "there is no pipe to splice through"}
			return true
		}
	}
	for {
		r.n, r.err = r.pipe.fill(r.calls, int(fd), nil, int(min(r.left, relayChunk)))
		switch r.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.pipes.put(r.pipe)
			r.pipe = nil
			r.watch()
			return false
		}
		return true
	}
}

func (r *relay) emptyPipe(fd uintptr) bool {
	for {
		r.n, r.err = r.pipe.empty(r.calls, int(fd), nil)
		switch {
		case r.err == syscall.EINTR:
			continue
		case r.err == syscall.EAGAIN:
			r.watch()
			return false
		case r.err == nil && r.n == 0:
			r.err = io.ErrShortWrite // the pipe holds bytes and none went
		}
		return true
	}
}
