package transmit

import (
	"context"
	"fmt"
	"syscall"
)

// sendBody sends n bytes of a body from off on, as Send does with memory of its
// caller. The body counts the send until its completion is released.
func (s *Sender) sendBody(ctx context.Context, b *Body, off, n int64) (Completion, error) {
	if err := s.begin(ctx); err != nil {
		return Completion{}, err
	}
	defer s.end()
	p, err := b.lend()
	if err != nil {
		return Completion{}, err
	}
	if off < 0 || n < 0 || off > int64(len(p))-n {
		b.returned(false)
		return Completion{}, fmt.Errorf("transmit: %d bytes at %d are not in a body of %d: %w", n, off, len(p), syscall.EINVAL)
	}
	s.job.parts, s.job.loan = append(s.job.parts[:0], p[off:off+n:off+n]), b
	return s.transfer(ctx)
}
