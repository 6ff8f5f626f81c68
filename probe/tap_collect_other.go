//go:build !linux

package probe

import (
	"context"
	"errors"
	"fmt"
)

// CollectTaps reads the packet sockets alone, on Linux.
func CollectTaps(context.Context, uint64) ([]TapReport, error) {
	return nil, fmt.Errorf("packet sockets: %w", errors.ErrUnsupported)
}
