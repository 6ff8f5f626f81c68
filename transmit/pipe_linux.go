package transmit

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const (
	// pipeBytes is what a pipe is enlarged to: the default of fs.pipe-max-size,
	// above which only CAP_SYS_RESOURCE may go. A pipe that starts with 64 KiB
	// takes 16 times as many calls.
	pipeBytes = 1 << 20

	// smallestPipe is the size below which enlarging is not tried: a new pipe has
	// it, 16 pages, unless the user is over fs.pipe-user-pages-soft.
	smallestPipe = 128 << 10

	// maxIdlePipes bounds what the pool keeps. A pipe of 1 MiB counts 256 pages
	// against fs.pipe-user-pages-soft, 16384 by default, which all processes of an
	// ordinary user share: this is a quarter of it.
	maxIdlePipes = 16

	// pipeIdle is how long a pipe that nobody needs is kept, at least; twice as
	// long at most.
	pipeIdle = 5 * time.Second

	// growEvery is after how many uses a pipe that could not be enlarged is tried
	// again: the limit may be relieved by then.
	growEvery = 64
)

// A pipe is where bytes are on their way from one descriptor to another.
type pipe struct {
	r, w int
	size int // bytes it was enlarged to, 0 if it has what it was made with
	held int // bytes in it
	uses int
}

// A pipePool keeps empty pipes for the next user. The last one that came back goes
// out first, and those that nobody needed for a while are closed.
type pipePool struct {
	calls *calls

	// last is the pipe that came back last, if nobody had come before it: one at a
	// time is the common case, and needs no lock.
	last    atomic.Pointer[pipe]
	looking atomic.Bool // the timer of the next look runs

	mu     sync.Mutex
	free   []*pipe // the longest unused first
	unused int     // pipes at the start of free that nobody took since the last look
	timer  *time.Timer
}

// pipes is the cache of the process.
var pipes = pipePool{calls: &kernel}

// get returns an empty pipe.
func (pp *pipePool) get() (*pipe, error) {
	p := pp.last.Swap(nil)
	if p == nil {
		p = pp.pop()
	}
	if p == nil {
		return pp.make()
	}
	if p.uses++; p.size < pipeBytes && p.uses%growEvery == 0 {
		pp.grow(p)
	}
	return p, nil
}

func (pp *pipePool) pop() (p *pipe) {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	if top := len(pp.free) - 1; top >= 0 {
		p, pp.free = pp.free[top], pp.free[:top]
		pp.unused = min(pp.unused, top)
	}
	return p
}

// put takes back a pipe. One that holds bytes is closed, and the bytes are lost.
func (pp *pipePool) put(p *pipe) {
	if p.held > 0 || !pp.last.CompareAndSwap(nil, p) && !pp.push(p) {
		pp.close(p)
		return
	}
	if !pp.looking.Load() && pp.looking.CompareAndSwap(false, true) {
		pp.lookLater()
	}
}

func (pp *pipePool) push(p *pipe) bool {
	pp.mu.Lock()
	defer pp.mu.Unlock()
	if len(pp.free) >= maxIdlePipes {
		return false
	}
	pp.free = append(pp.free, p)
	return true
}

func (pp *pipePool) lookLater() {
	pp.mu.Lock()
	pp.timer = time.AfterFunc(pipeIdle, pp.age)
	pp.mu.Unlock()
}

// age closes the pipes that nobody took since it was called last, and sees to being
// called again while there are others.
func (pp *pipePool) age() {
	pp.mu.Lock()
	old := slices.Clone(pp.free[:pp.unused])
	pp.free = slices.Delete(pp.free, 0, pp.unused)
	if p := pp.last.Swap(nil); p != nil {
		pp.free = append(pp.free, p)
	}
	pp.unused = len(pp.free)
	// A pipe that comes back from here on sees that nobody looks.
	pp.looking.Store(false)
	again := pp.unused > 0 && pp.looking.CompareAndSwap(false, true)
	pp.mu.Unlock()
	for _, p := range old {
		pp.close(p)
	}
	if again {
		pp.lookLater()
	}
}

func (pp *pipePool) make() (*pipe, error) {
	fds, err := pp.calls.Pipe()
	if err != nil {
		return nil, err
	}
	p := &pipe{r: fds[0], w: fds[1]}
	pp.grow(p)
	return p, nil
}

// grow enlarges the pipe as far as the limits allow: EPERM above
// fs.pipe-max-size, or when the user is over fs.pipe-user-pages-soft. A small pipe
// works as well, with more calls.
func (pp *pipePool) grow(p *pipe) {
	for size := pipeBytes; size >= smallestPipe && size > p.size; size /= 2 {
		if n, err := pp.calls.SetPipeSize(p.w, size); err == nil {
			p.size = n
			return
		}
	}
}

// close lets go of a pipe and of what it holds. There is no one to tell of an
// error, and close(2) frees the descriptor in any case.
func (pp *pipePool) close(p *pipe) {
	_ = pp.calls.Close(p.r)
	_ = pp.calls.Close(p.w)
}

// fill splices up to n bytes from in into the pipe, and never waits for room.
func (p *pipe) fill(c *calls, in int, off *int64, n int) (int, error) {
	m, err := c.Splice(in, off, p.w, nil, n, sys.SpliceNonblock)
	if err == nil {
		p.held += m
	}
	return m, err
}

// empty splices what the pipe holds to out.
func (p *pipe) empty(c *calls, out int, off *int64) (int, error) {
	m, err := c.Splice(p.r, nil, out, off, p.held, sys.SpliceNonblock)
	if err == nil {
		p.held -= m
	}
	return m, err
}

// read takes what the pipe holds by a copy.
func (p *pipe) read(c *calls, b []byte) (int, error) {
	m, err := c.Read(p.r, b[:min(len(b), p.held)])
	if err == nil {
		p.held -= m
	}
	return m, err
}
