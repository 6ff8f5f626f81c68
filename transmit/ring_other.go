//go:build !linux

package transmit

import (
	"context"
	"errors"
	"fmt"
)

// A Ring is an io_uring(7) of Linux.
type Ring struct{}

// NewRing returns an error that matches errors.ErrUnsupported.
func NewRing(RingOptions) (*Ring, error) {
	return nil, fmt.Errorf("transmit: io_uring: %w", errors.ErrUnsupported)
}

// Close does nothing.
func (r *Ring) Close(context.Context) error { return nil }

// Stats returns nothing.
func (r *Ring) Stats() RingStats { return RingStats{} }

// ZeroCopy returns an error that matches errors.ErrUnsupported.
func (r *Ring) ZeroCopy() error { return errors.ErrUnsupported }

// slabRings is with which rings a slab is registered: there are none.
type slabRings struct{}

func (slabRings) leave([]byte) {}

// Register returns an error that matches errors.ErrUnsupported.
func (r *Ring) Register(Buffer) error { return errors.ErrUnsupported }

type (
	batch     struct{}
	batchSend struct{}
)

// NewBatch makes a Batch that sends one after another.
func (r *Ring) NewBatch() *Batch { return &Batch{} }

func (b *Batch) flush(ctx context.Context) {
	for _, it := range b.items[:b.n] {
		it.send(ctx)
	}
}
