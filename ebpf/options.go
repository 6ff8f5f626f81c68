package ebpf

import (
	"net/netip"
	"time"
)

// Options say what to look at. The zero value looks at every process, in the
// best tier there is, exactly.
type Options struct {
	// Tier forces one; the best that works if empty.
	Tier Tier

	// Processes are the ids of the processes to look at, and with them of their
	// children to come; all if empty.
	Processes []int

	// Comm is the name of the programs to look at, as in /proc/PID/comm; all if
	// empty.
	Comm string

	// Cgroup is the id of the control group to look at, that is the inode number
	// of its directory; all if 0.
	Cgroup uint64

	// Device is the index of the network device to look at; all if 0. A flow is
	// of the first device it goes to.
	Device int

	// Destination are the addresses to look at; all if it is the zero Prefix.
	Destination netip.Prefix

	// Sockets is how many may be looked at in one trace; 16384 if 0. More are
	// counted as lost.
	Sockets int
}

const defaultSockets = 1 << 14

func (o Options) takes(s Socket) bool {
	if o.Comm != "" && s.Comm != o.Comm {
		return false
	}
	if o.Destination.IsValid() && !o.Destination.Contains(s.Remote.Addr().Unmap()) {
		return false
	}
	return len(o.Processes) == 0 || s.PID != 0
}

// settle is how long a trace waits at its end for packets that are under way on
// this machine.
const settle = 50 * time.Millisecond
