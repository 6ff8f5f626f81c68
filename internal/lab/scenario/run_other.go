//go:build !linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Run answers errors.ErrUnsupported: the lab needs Linux.
func Run(context.Context, []Scenario, Options) (*Report, error) {
	return nil, fmt.Errorf("this is %s, and the lab needs Linux: %w", runtime.GOOS, errors.ErrUnsupported)
}

// kernel is the release of the running kernel: there is none that has truths.
func kernel() string { return "" }
