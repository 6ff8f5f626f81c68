package ebpf

import (
	"net/netip"
	"slices"
	"time"
)

// Options say what to look at, and how closely. The zero value looks at every
// process, in the best tier there is. What is restricted in several ways is
// looked at where all of them hold.
type Options struct {
	// Tier forces one; the best that works if empty.
	Tier Tier

	// Exact looks at every send and every packet, whatever that costs.
	// Otherwise a tracer may look at a part of them where there are many, and
	// Summary.SampleEvery says which part.
	Exact bool

	// Stacks keeps the kernel stacks in which causes were seen.
	Stacks bool

	// Processes are the ids of the processes to look at, and with them of their
	// children to come; all if empty. They are ids of the initial pid namespace.
	Processes []int

	// Comm is the name of the programs to look at, as in /proc/PID/comm, of at
	// most 15 bytes; all if empty.
	Comm string

	// Cgroups are the ids of the control groups to look at, that is the inode
	// numbers of their directories in the unified hierarchy; all if empty. What
	// counts is the group in which a socket was made, and not those above it:
	// name the groups below as well. One costs less than several.
	Cgroups []uint64

	// Device is the index of the network device to look at; all if 0. A flow is
	// of the first device it goes to.
	Device int

	// Destinations are the addresses to look at; all if empty. Sockets that are
	// not connected have none, and are left out then.
	Destinations []netip.Prefix

	// Port is the port of the peer to look at; all if 0.
	Port uint16

	// Sockets is how many may be looked at in one trace; 16384 if 0. More are
	// counted as lost.
	Sockets int
}

func (o Options) takes(s Socket) bool {
	to := s.Remote.Addr().Unmap()
	if len(o.Destinations) > 0 && !slices.ContainsFunc(o.Destinations, func(p netip.Prefix) bool { return p.Contains(to) }) {
		return false
	}
	if o.Port != 0 && s.Remote.Port() != o.Port {
		return false
	}
	if len(o.Cgroups) > 0 && !slices.Contains(o.Cgroups, s.Cgroup) {
		return false
	}
	if o.Comm != "" && s.Comm != o.Comm {
		return false
	}
	return len(o.Processes) == 0 || s.PID != 0
}

// onlyCgroup is the control group that the kernel side keeps to; 0 is all.
func (o Options) onlyCgroup() uint64 {
	if len(o.Cgroups) == 1 {
		return o.Cgroups[0]
	}
	return 0
}

// settle is how long a trace waits at its end for packets that are under way on
// this machine.
const settle = 50 * time.Millisecond
