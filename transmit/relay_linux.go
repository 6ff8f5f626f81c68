package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// relayChunk is the most that one call moves: what a pipe of the pool can hold. It
// bounds how long the end of the context goes unseen.
const relayChunk = pipeBytes

// smallRelay is up to which length a relay reads and writes: two copies of so few
// bytes take less than the bookkeeping of references to them. Over loopback read and
// write of 4 KiB take 2.98 us, two splices 3.21; at 8 KiB the difference is half of
// that, and at 16 KiB there is none (Linux 6.18, 2026-11-22).
const smallRelay = 8 << 10

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
	small    bool // too small for splice

	pipe *pipe   // nil while it would be empty and src is waited for
	buf  *[]byte // the same, for reading and writing

	unwritten []byte // of buf

	n        int
	err      error
	corked   bool // dst, a socket, may hold back the end of what was spliced last
	watching bool
	unwatch  func()

	ops relayOps
}

// relayOps are the methods of a relay as functions, made once and not for each call.
type relayOps struct {
	fillPipe, emptyPipe, readSome, writeSome func(fd uintptr) bool
}

// relays holds *relay, as most of the allocations of a small relay would be this.
var relays = sync.Pool{New: func() any { return newRelay() }}

func newRelay() *relay {
	r := new(relay)
	r.ops = relayOps{r.fillPipe, r.emptyPipe, r.readSome, r.writeSome}
	return r
}

func relayStreams(ctx context.Context, dst, src syscall.Conn, n int64, o RelayOptions) (Result, error) {
	r := relays.Get().(*relay)
	r.calls, r.pipes, r.ctx, r.opts, r.left = kernelCalls(), &pipes, ctx, o, n
	res, err := r.run(dst, src)
	*r = relay{ops: r.ops}
	relays.Put(r)
	return res, err
}

func (r *relay) run(dst, src syscall.Conn) (Result, error) {
	r.src.name, r.dst.name, r.dst.write = "source", "destination", true
	if err := r.src.init(r.calls, src); err != nil {
		return Result{}, err
	}
	if err := r.dst.init(r.calls, dst); err != nil {
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
		r.pipe = nil
	}
	r.letGo()
	if err == nil && r.left > 0 && bounded != unbounded {
		err = r.src.wrap(io.ErrUnexpectedEOF)
	}
	res := Result{Bytes: r.spliced + r.copied, Backend: Splice, PlainBytes: r.copied, Cause: r.cause}
	if r.copied > r.spliced || r.opts.Backend == ReadWrite || r.small {
		res.Backend = ReadWrite
	}
	if r.spliced > 0 && r.encrypts() {
		res.PlainBytes = res.Bytes
		if res.Cause == "" {
			res.Cause, _ = encryption{}.cause()
		}
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
	if r.opts.Backend == "" && r.left <= smallRelay {
		r.small = true
		return r.readWrite()
	}
	if r.opts.Backend != ReadWrite {
		if err := r.splice(); err != nil {
			var refused *refusedError
			if !errors.As(err, &refused) {
				return err
			}
			r.downgrade(refused.cause, refused.reason, refused.err)
		} else if !r.confirmEnd() {
			return nil
		}
	}
	return r.readWrite()
}

// splice relays by splice(2) alone.
func (r *relay) splice() error {
	if r.src.kind == sys.ModeFIFO || r.dst.kind == sys.ModeFIFO {
		return r.direct()
	}
	return r.viaPipe()
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
	for r.left > 0 {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.through(&r.src, r.ops.fillPipe); err != nil {
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
			if err := r.through(&r.dst, r.ops.emptyPipe); err != nil {
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
