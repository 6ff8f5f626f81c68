//go:build !linux

package probe

import (
	"context"
	"errors"
	"fmt"
)

func kernelChoice() []string { return nil }

func knownKernelID(string) bool { return true }

func probeKernel(context.Context, []string) (map[string]triedFeature, error) {
	return nil, fmt.Errorf("probe the kernel: %w", errors.ErrUnsupported)
}
