//go:build !linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Collect needs Linux: the error matches errors.ErrUnsupported.
func Collect(context.Context, Options) (*Facts, error) {
	return nil, fmt.Errorf("probe: look at a host that runs %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
