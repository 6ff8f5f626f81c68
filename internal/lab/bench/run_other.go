//go:build !linux

package bench

import (
	"context"
	"errors"
	"fmt"
)

// Run needs Linux: the error matches errors.ErrUnsupported.
func Run(context.Context, Options) (*Report, error) {
	return nil, fmt.Errorf("measuring the ways to send needs Linux: %w", errors.ErrUnsupported)
}
