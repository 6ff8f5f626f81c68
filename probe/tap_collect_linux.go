package probe

import (
	"context"
	"fmt"
	"io/fs"
)

// CollectTaps reads the packet sockets alone, those of every network namespace
// that can be seen, as they bear on what is sent in one: that whose inode number
// is netns, or that of the calling thread if it is 0. To enter another takes
// CAP_SYS_ADMIN. The error matches fs.ErrNotExist where no process and no file
// leads to the namespace.
func CollectTaps(ctx context.Context, netns uint64) ([]TapReport, error) {
	f := &Facts{}
	err := onProbeThread(ctx, func() error {
		s := liveSources()
		read := func() error {
			f.Taps = readTaps(ctx, s, findNamespaces(s))
			return ctx.Err()
		}
		ns := findNamespaces(s)
		for _, e := range ns.list() {
			switch {
			case e.inode != netns && netns != 0:
			case e.label == "":
				return read()
			case netns != 0:
				return ns.in(e.label, read)
			}
		}
		return fmt.Errorf("network namespace %d: %w", netns, fs.ErrNotExist)
	})
	if err != nil {
		return nil, fmt.Errorf("packet sockets: %w", err)
	}
	return judgeTaps(f), nil
}
