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
func collectHost(ctx context.Context, o probe.Options) (*probe.Facts, error) {
	f, err := probe.Collect(ctx, o)
	if err != nil {
		err = fmt.Errorf("this is %s, and zcprobe looks at Linux: judge a record with --from-record: %w", runtime.GOOS, err)
	}
	return f, err
}

// movesBytes says why send and recv do not work here.
func movesBytes() error {
	return fmt.Errorf("this is %s: send and recv need Linux: %w", runtime.GOOS, errors.ErrUnsupported)
}

// confine has nothing to give up where recv does not work.
func confine() error { return nil }
