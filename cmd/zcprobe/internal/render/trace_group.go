package render

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/zcprobe/zcprobe/ebpf"
)

// grouped joins flows until a screen holds them: those to one host by one call of
// one process, and if they are still too many, those to all hosts. Otherwise a
// program with many connections would show some of them, and not by which calls
// most of its bytes went.
func grouped(flows []ebpf.Flow, most int) []ebpf.Flow {
	if len(flows) <= most {
		return flows
	}
	out := joinFlows(flows, hostOf)
	if len(out) > most {
		out = joinFlows(flows, func(ebpf.Flow) string { return "" })
	}
	return out
}

func hostOf(f ebpf.Flow) string {
	a, err := netip.ParseAddrPort(f.Remote)
	if err != nil {
		return f.Remote
	}
	return a.Addr().String()
}

func joinFlows(flows []ebpf.Flow, by func(ebpf.Flow) string) []ebpf.Flow {
	type group struct {
		pid                          int
		comm, api, protocol, dev, to string
		fixed                        bool
	}
	type sum struct {
		ebpf.Flow
		flows int
		hosts map[string]bool
	}
	sums := map[group]*sum{}
	var order []*sum
	for _, f := range flows {
		key := group{f.PID, f.Comm, f.API, f.Protocol, f.Device, by(f), f.FixedBuffers}
		s := sums[key]
		if s == nil {
			s = &sum{Flow: f, hosts: map[string]bool{}}
			s.Bytes, s.CopiedBytes, s.ZeroCopiedBytes, s.UnknownBytes = 0, 0, 0, 0
			sums[key] = s
			order = append(order, s)
		}
		s.flows++
		s.hosts[hostOf(f)] = true
		s.Bytes += f.Bytes
		s.CopiedBytes += f.CopiedBytes
		s.ZeroCopiedBytes += f.ZeroCopiedBytes
		s.UnknownBytes += f.UnknownBytes
	}
	out := make([]ebpf.Flow, 0, len(order))
	for _, s := range order {
		switch {
		case len(s.hosts) > 1:
			s.Remote = fmt.Sprintf("%d hosts, %d flows", len(s.hosts), s.flows)
		case s.flows > 1:
			s.Remote = fmt.Sprintf("%s, %d flows", cmp.Or(hostOf(s.Flow), "any"), s.flows)
		}
		out = append(out, s.Flow)
	}
	slices.SortStableFunc(out, func(a, b ebpf.Flow) int {
		return cmp.Or(cmp.Compare(b.CopiedBytes, a.CopiedBytes), cmp.Compare(b.Bytes, a.Bytes))
	})
	return out
}
