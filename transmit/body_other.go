//go:build !linux

package transmit

import "context"

// sendBody sends n bytes of a body from off on, by a copy.
func (s *Sender) sendBody(ctx context.Context, b *Body, off, n int64) (Completion, error) {
	p, err := b.borrow()
	if err != nil {
		return Completion{}, err
	}
	defer b.drop(false)
	return s.Send(ctx, p[off:off+n])
}
