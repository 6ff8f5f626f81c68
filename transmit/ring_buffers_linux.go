package transmit

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// ringBuffers is the table of memory that is registered with a ring. Each place is a
// slab of a pool.
//
// What is registered is the pages, not the addresses: memory that is mapped anew must
// be taken out first, or else the ring would send what was there before.
type ringBuffers struct {
	r *Ring

	mu     sync.Mutex
	free   []int
	next   int // places from here on were never used
	places int
	bytes  int64
	used   int
	gone   bool  // the ring is given back
	err    error // why nothing can be registered

	failed error     // why the last was not
	again  time.Time // when it is tried again
}

// registerAgain is after which time memory that was refused is tried again: trying
// pins it all.
const registerAgain = time.Second

// registration is the place that a slab has in the table of a ring.
type registration struct {
	r     *Ring
	place int
}

// slabRings is with which rings a slab is registered.
type slabRings struct {
	list atomic.Pointer[[]registration]

	mu      sync.Mutex
	spoiled bool // part of it is no memory any more, or it is not to be registered
}

func (b *ringBuffers) begin(r *Ring) {
	b.r = r
	if r.noZC != nil {
		b.err = r.noZC
		return
	}
	if b.err = r.k.Sparse(r.fd, uint32(r.o.Buffers)); b.err == nil {
		b.places = r.o.Buffers
	}
}

func (b *ringBuffers) count() (buffers int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.bytes
}

// end says that the ring goes, and all places with it.
func (b *ringBuffers) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone, b.used, b.bytes = true, 0, 0
}

// errTableFull says that the ring's table of buffers is full.
var errTableFull = errors.New("the ring's table of registered buffers is full")

// put registers memory.
func (b *ringBuffers) put(mem []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return 0, b.err
	case b.gone, b.r.broken.Load():
		return 0, ErrRingClosed
	case b.failed != nil && time.Now().Before(b.again):
		return 0, b.failed
	}
	place := b.next
	if n := len(b.free); n > 0 {
		place = b.free[n-1]
	} else if place == b.places {
		return 0, errTableFull
	}
	if err := b.r.k.SetBuffer(b.r.fd, uint32(place), mem); err != nil {
		b.failed, b.again = err, time.Now().Add(registerAgain)
		return 0, err
	}
	b.failed = nil
	if place == b.next {
		b.next++
	} else {
		b.free = b.free[:len(b.free)-1]
	}
	b.used++
	b.bytes += int64(len(mem))
	return place, nil
}

// take takes memory out of the table. What is in flight stays as it is.
func (b *ringBuffers) take(place int, mem []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return
	}
	b.used--
	b.bytes -= int64(len(mem))
	if b.r.broken.Load() {
		return // and nothing is sent by it any more
	}
	if err := b.r.k.SetBuffer(b.r.fd, uint32(place), nil); err != nil {
		// The place is lost, and so is the memory until the ring is closed.
		b.err = err
		return
	}
	b.free = append(b.free, place)
}

// in returns the place of a slab in the table of a ring.
func (g *slabRings) in(r *Ring) (int, bool) {
	if l := g.list.Load(); l != nil {
		for _, x := range *l {
			if x.r == r {
				return x.place, true
			}
		}
	}
	return 0, false
}

// errSpoiled says that a slab is not registered again.
var errSpoiled = errors.New("a buffer next to it was given up")

// join registers a slab with a ring.
func (g *slabRings) join(r *Ring, mem []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if place, ok := g.in(r); ok {
		return place, nil
	}
	if g.spoiled {
		return 0, errSpoiled
	}
	place, err := r.bufs.put(mem)
	if err != nil {
		return 0, err
	}
	list := []registration{{r, place}}
	if l := g.list.Load(); l != nil {
		for _, x := range *l {
			if !x.r.bufs.isGone() {
				list = append(list, x)
			}
		}
	}
	g.list.Store(&list)
	return place, nil
}

func (b *ringBuffers) isGone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// leave takes a slab out of all rings, for good: its memory is about to go.
func (g *slabRings) leave(mem []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spoiled = true
	if l := g.list.Swap(nil); l != nil {
		for _, x := range *l {
			x.r.bufs.take(x.place, mem)
		}
	}
}

// notForRings returns why a slab is never registered, "" if it can be. Kernels that
// register a huge page as one piece charge every send to the send buffer with all of
// the page that lies before it (io_sg_from_iter, io_uring/net.c, adds the offset to
// truesize), so that a buffer of 800 KiB was full after 64 KiB (Linux 6.12 and 7.3).
func (b *slab) notForRings() string {
	switch {
	case b.file != nil:
		return "a memfd that is registered could not be sealed"
	case b.huge:
		return "of huge pages a send takes more of the send buffer than it is long"
	}
	return ""
}

// Register registers the memory that a buffer of a [Pool] is part of, 4 MiB or the
// buffer, which the first send of it would do otherwise: it takes a millisecond or two.
// Buffers that are files are not registered, since they could not be sealed then, nor
// are those of huge pages, of which the kernel charges a send too much: the error
// matches errors.ErrUnsupported.
func (r *Ring) Register(b Buffer) error {
	b.mustHold()
	if why := b.slot.slab.notForRings(); why != "" {
		return fmt.Errorf("transmit: register a buffer: %s: %w", why, errors.ErrUnsupported)
	}
	if _, err := b.slot.slab.rings.join(r, b.slot.slab.mem); err != nil {
		return fmt.Errorf("transmit: register a buffer: %w", err)
	}
	return nil
}

// registerBuffer makes the buffer that is about to be sent known to the ring.
func (s *Sender) registerBuffer(m *slot) {
	u := s.ru
	if u == nil || u.refused || m.n < s.threshold() || s.zc.refused {
		return
	}
	u.fixed, u.why = -1, nil
	if m.slab.notForRings() != "" {
		return
	}
	place, ok := m.slab.rings.in(u.r)
	if !ok {
		var err error
		if place, err = m.slab.rings.join(u.r, m.slab.mem); err != nil {
			u.why = err
			return
		}
	}
	u.fixed = place
}

// notRegistered tells why memory is sent that is not registered.
func (s *Sender) notRegistered(err error) {
	cause, reason := "fast-path-refused", "the buffer cannot be registered with the ring"
	switch {
	case errors.Is(err, ErrRingClosed):
		return // the send will say so
	case errors.Is(err, syscall.ENOMEM):
		cause, reason = "memlock-limit", "the locked memory of this user does not allow to register the buffer with the ring"
	}
	s.noteCause(IoUringSendZC, IoUringSendZC, cause, reason, sys.Wrap("io_uring_register", err), false)
}
