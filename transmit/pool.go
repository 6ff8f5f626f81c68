package transmit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// PoolOptions say what memory a [Pool] is made of.
type PoolOptions struct {
	// BufferBytes is the size of each buffer, rounded up to whole pages. Required.
	BufferBytes int
	// MaxBytes bounds the memory of the pool, 64 MiB if 0: at the bound [Pool.Get]
	// waits. Buffers given up with an abandoned loan do not count.
	MaxBytes int64
	// Huge asks for huge pages of 2 MiB: from the host's reserve (vm.nr_hugepages),
	// else transparent ones, else ordinary pages. [PoolStats] says which it became.
	// Memory is faulted in when it is made, not when it is used. A [Ring] does not
	// register it. Without Huge the memory has no huge pages, whatever the host's
	// setting is.
	Huge bool
	// Memfd makes each buffer a file in memory (memfd_create(2), Linux 3.17), with a
	// descriptor of its own, so that it can be sent by sendfile as well and sealed,
	// see [Buffer.File] and [Buffer.Seal]. Huge then means transparent huge pages,
	// since the kernel's sendfile takes no others.
	Memfd bool
}

const (
	defaultPoolBytes = 64 << 20
	// slabBytes is how much memory is mapped at a time: two huge pages, so that
	// buffers that do not divide one waste little.
	slabBytes = 4 << 20
)

// Errors of a pool.
var (
	// ErrNoBuffer says that all buffers of a pool at its bound are in use.
	ErrNoBuffer = errors.New("all buffers of the pool are in use")
	// ErrPoolClosed says that a pool gives out no more buffers. It matches
	// fs.ErrClosed.
	ErrPoolClosed = fmt.Errorf("buffer pool: %w", fs.ErrClosed)
)

// A Pool holds buffers of one size, outside of Go's heap, for sending without a
// copy. A buffer is the caller's from [Pool.Get] to [Buffer.Release], and the
// kernel's from each send until its completion; the pool gives it out again when
// neither holds it. What was in it stays: buffers are not cleared.
//
// A buffer whose connection was closed with completions outstanding may still be
// read by the kernel, for minutes. It is never given out again: its memory goes
// back to the kernel, which keeps what it still reads, and the pool makes a new
// one in its place.
//
// A Pool is used by any number of goroutines, and needs [Pool.Close]: its memory
// is not the garbage collector's.
type Pool struct {
	options PoolOptions
	arena   arena
	max     int // buffers

	mu     sync.Mutex
	free   []*slot // the last one released is the first one given out: it is in the CPU's cache
	slabs  []*slab
	live   int // buffers, and those being made
	queue  waiters
	closed bool
	empty  chan struct{} // closed when closed and live is 0
	err    error         // the first that memory was given back with
	stats  PoolStats     // what is counted and not found out
}

// NewPool makes a pool. Memory is mapped when it is first needed.
func NewPool(o PoolOptions) (*Pool, error) { return newPool(o, newArena()) }

func newPool(o PoolOptions, a arena) (*Pool, error) {
	page := os.Getpagesize()
	if o.BufferBytes <= 0 || o.BufferBytes > maxInt-page {
		return nil, fmt.Errorf("a pool of buffers of %d bytes", o.BufferBytes)
	}
	if o.MaxBytes < 0 {
		return nil, fmt.Errorf("a pool of %d bytes", o.MaxBytes)
	}
	o.BufferBytes = roundUp(o.BufferBytes, page)
	if o.MaxBytes == 0 {
		o.MaxBytes = max(defaultPoolBytes, int64(o.BufferBytes))
	}
	n := o.MaxBytes / int64(o.BufferBytes)
	if n == 0 {
		return nil, fmt.Errorf("a pool of %d bytes holds no buffer of %d bytes", o.MaxBytes, o.BufferBytes)
	}
	if o.Memfd && !haveMemfd {
		return nil, fmt.Errorf("a pool of memfds: %w", errors.ErrUnsupported)
	}
	a.options = o
	return &Pool{options: o, arena: a, max: int(min(n, int64(maxInt))), empty: make(chan struct{})}, nil
}

const maxInt = int(^uint(0) >> 1)

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// BufferBytes is the size of each buffer.
func (p *Pool) BufferBytes() int { return p.options.BufferBytes }

// Get returns a buffer, all of it and with whatever it last held. At the pool's
// bound it waits for one, in the order of calls, until ctx ends; the error then
// is the cause of ctx. Where memory cannot be had the error says what the kernel
// refused, and waiting does not help.
func (p *Pool) Get(ctx context.Context) (Buffer, error) {
	for {
		b, err := p.TryGet()
		if !errors.Is(err, ErrNoBuffer) {
			return b, err
		}
		s, err := p.wait(ctx)
		if err != nil {
			return Buffer{}, err
		}
		if s != nil {
			return s.own(), nil
		}
	}
}

// TryGet is Get that does not wait: [ErrNoBuffer] at the pool's bound.
func (p *Pool) TryGet() (Buffer, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 && !p.closed {
		s := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return s.own(), nil
	}
	s, err := p.grow()
	p.mu.Unlock()
	if err != nil {
		return Buffer{}, err
	}
	return s.own(), nil
}

// grow maps memory for more buffers and returns the first. The lock is held, and
// let go in the meantime.
func (p *Pool) grow() (*slot, error) {
	if p.closed {
		return nil, ErrPoolClosed
	}
	n := min(p.max-p.live, p.arena.perSlab())
	if n == 0 {
		return nil, ErrNoBuffer
	}
	p.live += n
	p.mu.Unlock()
	b, err := p.arena.slab(n)
	p.mu.Lock()
	if err != nil {
		p.live -= n
		p.room(n)
		return nil, fmt.Errorf("memory for %d buffers of %d bytes: %w", n, p.options.BufferBytes, err)
	}
	b.carve(p, n)
	p.slabs = append(p.slabs, b)
	for i := 1; i < n; i++ {
		p.put(&b.slots[i])
	}
	if p.closed {
		p.put(&b.slots[0])
		return nil, ErrPoolClosed
	}
	return &b.slots[0], nil
}

// put takes a buffer that nobody holds any more. The lock is held.
func (p *Pool) put(s *slot) {
	if p.closed {
		p.drop(s, false)
		return
	}
	if !p.queue.hand(s) {
		p.free = append(p.free, s)
	}
}

// recycle takes a buffer that its last holder let go; spoiled says that the
// kernel may still read it.
func (p *Pool) recycle(s *slot, spoiled bool) {
	p.mu.Lock()
	if spoiled {
		p.stats.Abandoned++
		p.stats.AbandonedBytes += int64(len(s.mem))
		p.drop(s, true)
	} else {
		p.put(s)
	}
	p.mu.Unlock()
}

// drop gives up a buffer for good. The lock is held.
func (p *Pool) drop(s *slot, spoiled bool) {
	b := s.slab
	s.dead = true
	b.left--
	var err error
	if b.left == 0 || spoiled {
		b.rings.leave(b.mem)
	}
	switch {
	case b.left == 0:
		err = p.arena.unmap(b)
		p.forget(b)
	case spoiled:
		// The pages go back to the kernel now, and a use after release is caught.
		// Where it fails they go with the slab.
		err = p.arena.discard(s.mem, b)
	}
	if p.err == nil {
		p.err = err
	}
	p.gone(1)
}

// forget takes a slab out of the book. The lock is held.
func (p *Pool) forget(b *slab) {
	if i := slices.Index(p.slabs, b); i >= 0 {
		p.slabs = slices.Delete(p.slabs, i, i+1)
	}
}

// gone counts buffers that are no more. The lock is held.
func (p *Pool) gone(n int) {
	p.live -= n
	p.room(n)
}

// room tells those who wait that n buffers can be made. The lock is held.
func (p *Pool) room(n int) {
	if p.closed {
		if p.live == 0 {
			close(p.empty)
		}
		return
	}
	for range n {
		if !p.queue.hand(nil) {
			return
		}
	}
}

// Close ends the pool: it gives out no more buffers, and those who wait for one
// get [ErrPoolClosed]. It waits until all buffers are released and back from the
// kernel, or until ctx ends; the error is then a [*PoolBusyError]. Their memory is
// given back in any case, later when each comes back. Drain the senders first.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		for p.queue.hand(nil) {
		}
		if p.live == 0 {
			close(p.empty)
		}
		for _, s := range p.free {
			p.drop(s, false)
		}
		p.free = nil
	}
	p.mu.Unlock()
	select {
	case <-p.empty:
	default:
		select {
		case <-p.empty:
		case <-ctx.Done():
			st := p.Stats()
			return &PoolBusyError{Owned: st.InUse - st.lentOnly, Lent: st.Lent,
				Bytes: int64(st.InUse) * int64(p.options.BufferBytes), Err: context.Cause(ctx)}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// A PoolBusyError says that a pool was closed with buffers in use.
type PoolBusyError struct {
	Owned int   // buffers that the caller did not release
	Lent  int   // buffers that the kernel holds, some of them among Owned
	Bytes int64 // memory of all of them
	Err   error // why the wait ended
}

// Error says how many there are.
func (e *PoolBusyError) Error() string {
	return fmt.Sprintf("close buffer pool: %d buffers not released, %d lent to the kernel (%d bytes): %v", e.Owned, e.Lent, e.Bytes, e.Err)
}

// Unwrap returns why the wait ended.
func (e *PoolBusyError) Unwrap() error { return e.Err }

// PoolStats say what a pool holds.
type PoolStats struct {
	Buffers int // in all; Free and InUse are their parts
	Free    int
	InUse   int // not released by the caller, or lent to the kernel
	Lent    int // of InUse, lent to the kernel

	Bytes            int64 // of memory mapped
	HugetlbBytes     int64 // of Bytes, in pages of the host's reserve
	TransparentBytes int64 // of Bytes, in transparent huge pages when they were made
	// NoHuge says why memory is not in huge pages though they were asked for; "" if
	// it is.
	NoHuge string

	Abandoned      int64 // buffers given up since the pool was made, as the kernel may still read them
	AbandonedBytes int64
	Waits          int64 // calls of Get that had to wait

	lentOnly int // of Lent, released by the caller
}

// Stats returns what the pool holds now.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	st.Waits = p.queue.waits
	for _, b := range p.slabs {
		st.Bytes += int64(len(b.mem))
		st.HugetlbBytes += b.hugetlb
		st.TransparentBytes += b.transparent
		if b.noHuge != "" {
			st.NoHuge = b.noHuge
		}
		for i := range b.slots {
			s := &b.slots[i]
			if s.dead {
				continue
			}
			st.Buffers++
			switch state := s.state.Load(); {
			case state&loanMask != 0:
				st.Lent++
				st.InUse++
				if state&owned == 0 {
					st.lentOnly++
				}
			case state&owned != 0:
				st.InUse++
			default:
				st.Free++
			}
		}
	}
	return st
}
