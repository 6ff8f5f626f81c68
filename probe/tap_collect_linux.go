package probe

import (
	"context"
	"fmt"
	"os"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// CollectTaps reads the packet sockets alone, those of every network namespace
// that can be seen, as they bear on what process pid sends; 0 is the calling
// thread. To enter another namespace takes CAP_SYS_ADMIN.
func CollectTaps(ctx context.Context, pid int) ([]TapReport, error) {
	f := &Facts{}
	err := onProbeThread(ctx, func() error {
		if err := joinNetNS(pid); err != nil {
			return err
		}
		s := liveSources()
		f.Taps = readTaps(ctx, s, findNamespaces(s))
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("packet sockets: %w", err)
	}
	return judgeTaps(f), nil
}

// joinNetNS moves the thread into the network namespace of a process, if that is
// another.
func joinNetNS(pid int) error {
	if pid == 0 {
		return nil
	}
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	theirs, err := os.Stat(path)
	if err != nil {
		return err
	}
	ours, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil || os.SameFile(ours, theirs) {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return sys.SetNetNS(f)
}
