package transmit

import (
	"os"
	"sync/atomic"
)

// FaultIn reads n bytes at off of the file into memory, where they are not yet, and
// enters them in the page table, so that a send from the mapping finds them. It
// takes a few microseconds for each megabyte in the page cache (once: what was
// faulted in is remembered) and blocks an OS thread for the disk otherwise: ask
// [Mapping.Resident] first.
//
// Where the file ends before the range now, or its disk fails, the error is EFAULT;
// what is before that is faulted in.
func (m Mapping) FaultIn(off, n int64) error {
	r, mem, err := m.span(off, n)
	if err != nil || len(mem) == 0 || r.isFaulted(off, n) {
		return err
	}
	if err := r.ops.faultIn(mem); err != nil {
		return err
	}
	r.setFaulted(off, n)
	return nil
}

// span returns whole pages around a part of the mapping. They stay mapped as the
// caller holds the reference.
func (m Mapping) span(off, n int64) (*region, []byte, error) {
	r := m.lock()
	defer r.mu.Unlock()
	mem, err := r.pages(off, n, os.Getpagesize())
	return r, mem, err
}

// Resident returns how many of n bytes at off of the file are in memory, so that a
// send of them does not wait for a disk. f is the file that is mapped: it is asked
// where the kernel does not tell this process of a mapping, since the file is
// another user's and may not be written; the answer is then an estimate from some
// of the pages. Memory can be reclaimed, so the answer is of a moment ago. It
// matches errors.ErrUnsupported where neither way tells, with some network file
// systems.
func (m Mapping) Resident(f *os.File, off, n int64) (int64, error) {
	r, mem, err := m.span(off, n)
	if err != nil || n == 0 {
		return 0, err
	}
	if !r.told {
		return r.ops.sample(f, off, n)
	}
	return r.resident(mem, off, n)
}

// Prefetch starts to read n bytes at off of the file into memory and does not wait
// for them, unless the disk's queue is full.
func (m Mapping) Prefetch(off, n int64) error {
	r, mem, err := m.span(off, n)
	if err != nil || len(mem) == 0 {
		return err
	}
	return r.ops.prefetch(mem)
}

// faultChunk is what is remembered at a time as faulted in: the size of a send from
// which on mappings pay.
const faultChunk = 256 << 10

// chunks returns the chunks of a part of the mapping: those that it touches, or
// those that it covers.
func (r *region) chunks(off, n int64, covered bool) (first, end int64) {
	from, to := off-r.start, off-r.start+n
	if !covered {
		return from / faultChunk, (to + faultChunk - 1) / faultChunk
	}
	first, end = (from+faultChunk-1)/faultChunk, to/faultChunk
	if to == int64(len(r.mem)) {
		end = (to + faultChunk - 1) / faultChunk
	}
	if off == r.off {
		first = from / faultChunk
	}
	return first, end
}

// forgetFaults makes the book of what was faulted in.
func (r *region) forgetFaults() {
	r.faulted = make([]atomic.Uint64, (len(r.mem)/faultChunk+64)/64)
}

func (r *region) isFaulted(off, n int64) bool {
	first, end := r.chunks(off, n, false)
	for i := first; i < end; i++ {
		if r.faulted[i/64].Load()>>(i%64)&1 == 0 {
			return false
		}
	}
	return true
}

func (r *region) setFaulted(off, n int64) {
	first, end := r.chunks(off, n, true)
	for i := first; i < end; i++ {
		r.faulted[i/64].Or(1 << (i % 64))
	}
}
