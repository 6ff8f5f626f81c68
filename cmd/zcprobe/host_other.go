//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/zcprobe/zcprobe/probe"
)

// collectHost cannot look at this host; records of others can be judged here.
func collectHost(context.Context, probe.Options) (*probe.Facts, error) {
	return nil, fmt.Errorf("this is %s, and zcprobe looks at Linux: judge a record with --from-record: %w", runtime.GOOS, errors.ErrUnsupported)
}

// movesBytes says why send and recv do not work here.
func movesBytes() error {
	return fmt.Errorf("this is %s: send and recv need Linux: %w", runtime.GOOS, errors.ErrUnsupported)
}
