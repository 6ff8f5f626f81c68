//go:build !linux

package transmit

import (
	"errors"
	"fmt"
)

func newImage(_ arena, size int, _ func([]byte) error) (*SealedImage, error) {
	return nil, fmt.Errorf("an image of %d bytes: %w", size, errors.ErrUnsupported)
}

func (b Buffer) seal() (*SealedImage, error) {
	return nil, fmt.Errorf("seal a buffer: %w", errors.ErrUnsupported)
}
