package transmit

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// A Buffer is memory of a [Pool] that the caller owns: a value, which tells one
// use of the memory from the next. It is released once, by whoever holds it last;
// copies of it are the same buffer.
//
// While a send of it is not completed the kernel reads it, and it must not be
// written; [Buffer.Release] may come at any time. Use after Release panics, even
// when the memory was given out again since; only slices taken before cannot be
// watched, and must not be used.
//
// One goroutine at a time uses a Buffer, as it would a slice; the kernel's loans
// may come back meanwhile. The zero Buffer is none.
type Buffer struct {
	slot *slot
	gen  uint64
}

// slot is the memory of a buffer, in all its uses.
type slot struct {
	pool  *Pool
	slab  *slab
	mem   []byte
	n     int           // length that the owner set
	state atomic.Uint64 // generation, abandoned, owned, loans
	dead  bool          // given up; under the pool's lock
}

// slab is memory that was mapped at once, cut into buffers.
type slab struct {
	mem   []byte
	file  *os.File // of a pool of memfds
	slots []slot
	left  int // slots not given up; under the pool's lock
	rings slabRings
	huge  bool // huge pages were asked for

	hugetlb, transparent int64 // bytes in huge pages when it was made
	noHuge               string
}

// The parts of a slot's state. 40 bits of generation last for 12 days at a
// million uses a second.
const (
	loanMask  = 1<<22 - 1
	owned     = 1 << 22
	abandoned = 1 << 23
	genShift  = 24
)

// carve cuts the memory into n buffers.
func (b *slab) carve(p *Pool, n int) {
	size := p.options.BufferBytes
	b.slots, b.left = make([]slot, n), n
	for i := range b.slots {
		s := &b.slots[i]
		s.pool, s.slab = p, b
		// A slice that grows must not run into the next buffer.
		s.mem = b.mem[i*size : (i+1)*size : (i+1)*size]
	}
}

// own gives a free slot to a caller.
func (s *slot) own() Buffer {
	gen := s.state.Load() >> genShift
	s.n = len(s.mem)
	s.state.Store(gen<<genShift | owned)
	return Buffer{slot: s, gen: gen}
}

// errReleased is what a Buffer answers after Release.
var errReleased = errors.New("transmit: buffer used after its release")

// held returns the state of a buffer that the caller owns.
func (b Buffer) held() (uint64, bool) {
	if b.slot == nil {
		return 0, false
	}
	st := b.slot.state.Load()
	return st, st>>genShift == b.gen && st&owned != 0
}

func (b Buffer) mustHold() uint64 {
	st, ok := b.held()
	if !ok {
		panic(errReleased)
	}
	return st
}

// Bytes returns the buffer's bytes, as many as [Buffer.SetLen] said or all of
// them. They are whatever the last user left, until written.
func (b Buffer) Bytes() []byte {
	b.mustHold()
	return b.slot.mem[:b.slot.n]
}

// Len is the number of bytes that Bytes returns.
func (b Buffer) Len() int { b.mustHold(); return b.slot.n }

// Cap is the size of the buffer.
func (b Buffer) Cap() int { b.mustHold(); return len(b.slot.mem) }

// SetLen says how many bytes, from the first, are to be sent. It panics if the
// buffer has not as many.
func (b Buffer) SetLen(n int) {
	b.mustHold()
	if n < 0 || n > len(b.slot.mem) {
		panic(fmt.Sprintf("transmit: length %d of a buffer of %d bytes", n, len(b.slot.mem)))
	}
	b.slot.n = n
}

// Writable reports whether the bytes may be written: the caller owns the buffer
// and the kernel does not read it. It becomes true when all sends of it are
// completed, and never again once a connection was closed before that.
func (b Buffer) Writable() bool {
	st, ok := b.held()
	return ok && st&(loanMask|abandoned) == 0
}

// File returns the file that the buffer is, in a pool with Memfd, and else nil.
// It belongs to the buffer: it is not to be closed, nor to be used after Release.
func (b Buffer) File() *os.File { b.mustHold(); return b.slot.slab.file }

// Release gives the buffer back. The pool gives it out again when the kernel has
// let go of it too. It panics if the buffer was released already.
func (b Buffer) Release() {
	s := b.slot
	for {
		st := b.mustHold()
		next := st &^ owned
		if st&loanMask == 0 {
			next = (b.gen + 1) << genShift
		}
		if s.state.CompareAndSwap(st, next) {
			if st&loanMask == 0 {
				s.pool.recycle(s, st&abandoned != 0)
			}
			return
		}
	}
}

// lend gives the buffer to the kernel as well, once more. The slot is to be told
// by its method returned, once.
func (b Buffer) lend() (*slot, error) {
	for {
		st, ok := b.held()
		switch {
		case !ok:
			return nil, errReleased
		case st&loanMask == loanMask:
			return nil, fmt.Errorf("a buffer was lent %d times", loanMask)
		}
		if b.slot.state.CompareAndSwap(st, st+1) {
			return b.slot, nil
		}
	}
}

// returned says that the kernel has let go of the slot, once for each loan, or,
// if abandoned, that it will never be known to: the memory is then not written or
// given out again.
func (s *slot) returned(lost bool) {
	for {
		st := s.state.Load()
		if st&loanMask == 0 {
			panic("transmit: a buffer came back that was not lent")
		}
		next := st - 1
		if lost {
			next |= abandoned
		}
		spoiled, last := next&abandoned != 0, next&(loanMask|owned) == 0
		if last {
			next = (st>>genShift + 1) << genShift
		}
		if s.state.CompareAndSwap(st, next) {
			if last {
				s.pool.recycle(s, spoiled)
			}
			return
		}
	}
}
