//go:build !linux

package transmit

import "os"

const haveMemfd = false

// arena makes the memory of a pool: of Go's heap, since nothing is lent to the
// kernel here.
type arena struct{ options PoolOptions }

func newArena() arena { return arena{} }

func (a *arena) perSlab() int { return max(1, slabBytes/a.options.BufferBytes) }

func (a *arena) slab(n int) (*slab, error) {
	b := &slab{mem: make([]byte, n*a.options.BufferBytes), file: (*os.File)(nil)}
	if a.options.Huge {
		b.noHuge = "huge pages are not supported on this system"
	}
	return b, nil
}

func (a *arena) discard([]byte, *slab) error { return nil }

func (a *arena) unmap(*slab) error { return nil }
