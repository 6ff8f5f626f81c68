package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// collectHost looks at this host.
func collectHost(ctx context.Context, o probe.Options) (*probe.Facts, error) {
	return probe.Collect(ctx, o)
}

// movesBytes says why send and recv do not work here.
func movesBytes() error { return nil }

// receiving are the capabilities that receiving can need: to give a file its name in a
// directory of others, and for pipes as large as they are for root.
var receiving = []int{sys.CapDACOverride, sys.CapDACReadSearch, sys.CapFowner, sys.CapSysResource}

// confine gives up, for good, what the process may do beyond receiving. What it
// receives comes from strangers.
func confine() error {
	have, err := sys.ThreadCaps()
	if err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	var keep uint64
	for _, c := range receiving {
		keep |= 1 << c
	}
	less := sys.Caps{Effective: have.Effective & keep, Permitted: have.Permitted & keep}
	if less == have {
		return nil
	}
	// No program is started and no user changed afterwards: nothing gives them back.
	if err := sys.SetProcessCaps(less); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("give up privileges: %w", err)
	}
	return nil
}
