package transmit

import (
	"errors"
	"fmt"
	"os"
)

// A SealedImage is memory that nobody can change any more, this process included:
// a file in memory with the seals F_SEAL_WRITE, F_SEAL_SHRINK and F_SEAL_GROW
// (Linux 3.17). It may be sent to any number of peers, by sendfile from
// [SealedImage.File], or from its mapping, and what arrives cannot be mixed.
type SealedImage struct {
	file    *os.File
	mapping Mapping
	bytes   []byte
}

// NewSealedImage makes an image of size bytes that fill writes; p is not to be kept.
// An error of fill is returned as it is.
func NewSealedImage(size int, fill func(p []byte) error) (*SealedImage, error) {
	if size < 0 || size > maxInt-os.Getpagesize() {
		return nil, fmt.Errorf("an image of %d bytes", size)
	}
	return newImage(newArena(), size, fill)
}

// Seal makes an image of the buffer, which must be of a pool with Memfd, as long as
// [Buffer.Len] says. The buffer is then used up, as by Release, and the pool makes
// another in its place; slices of it show the image, and writing to them ends the
// program.
//
// On an error the buffer is the caller's as before, but for the bytes after Len.
// EBUSY: a send of it is not completed; errors.ErrUnsupported: the pool is one
// without Memfd.
func (b Buffer) Seal() (*SealedImage, error) {
	b.mustHold()
	if b.slot.slab.file == nil {
		return nil, fmt.Errorf("seal a buffer: the pool is not made of memfds: %w", errors.ErrUnsupported)
	}
	return b.seal()
}

// detach takes a buffer of its own slab out of the pool, for good.
func (b Buffer) detach() {
	s := b.slot
	s.state.Store((b.gen + 1) << genShift)
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	s.dead = true
	p.forget(s.slab)
	p.gone(1)
}

// File returns the image as a file, from which any number of senders may read at
// once, at offsets. It belongs to the image, and writing to it fails with EPERM.
func (i *SealedImage) File() *os.File { return i.file }

// Bytes returns the image's bytes, which may be read until Close and not written.
func (i *SealedImage) Bytes() []byte { return i.bytes }

// Mapping returns a reference to the image's mapping, for sending. The caller
// releases it, also after Close.
func (i *SealedImage) Mapping() Mapping { return i.mapping.Acquire() }

// Close gives the memory back, when the last reference to its mapping is released
// and the last send completed. It panics the second time.
func (i *SealedImage) Close() error {
	i.mapping.Release()
	return i.file.Close()
}
