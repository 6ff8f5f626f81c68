package probe

import (
	"fmt"
	"maps"
	"slices"
)

// tapChecks makes the check tap.none: one for each device on which packets are,
// or may be, copied for a tap ("" is any device), and one without a subject
// that says whether all taps were seen. Taps of the loopback device are left
// out: what is sent there is copied for its receiver anyway.
func tapChecks(f *Facts) []Check {
	const loopback = 1 // LOOPBACK_IFINDEX of net/net_namespace.h, in every namespace
	byDevice := make(map[string][]TapReport)
	for i, r := range judgeTaps(f) {
		copies := r.CopiesOutgoing == nil || *r.CopiesOutgoing
		if copies && f.Taps.Taps[i].Ifindex != loopback {
			byDevice[r.Device] = append(byDevice[r.Device], r)
		}
	}
	var out []Check
	for _, device := range slices.Sorted(maps.Keys(byDevice)) {
		out = append(out, deviceTapCheck(device, byDevice[device]))
	}
	whole := Check{ID: "tap.none", Evidence: tapEvidence(&f.Taps), Causes: []string{}}
	switch gap := tapGap(f, ""); {
	case gap != "" && len(byDevice[""]) == 0:
		whole.Status, whole.Detail = Unknown, gap
		out = slices.Insert(out, 0, whole)
	case len(out) == 0:
		whole.Status, whole.Detail = Pass, "no packet socket copies what this host sends"
		out = append(out, whole)
	}
	return out
}

func deviceTapCheck(device string, taps []TapReport) Check {
	c := Check{ID: "tap.none", Subject: device, Evidence: []Evidence{}, Causes: []string{}}
	sure := slices.DeleteFunc(slices.Clone(taps), func(t TapReport) bool { return t.CopiesOutgoing == nil })
	for _, t := range taps {
		c.Evidence = append(c.Evidence, Evidence{Source: "/proc/net/packet", Value: tapName(t) + " " + t.Detail})
	}
	where := "any device"
	if device != "" {
		where = device
	}
	if len(sure) == 0 {
		c.Status = Unknown
		c.Detail = tapNames(taps) + " " + plural(len(taps), "captures", "capture") + " on " + where + ", and could not tell whether outgoing packets too; run as root"
		return c
	}
	c.Status, c.Causes = Fail, []string{"packet-tap"}
	c.Detail = tapNames(sure) + " " + plural(len(sure), "captures", "capture") + " on " + where + ": every zero-copy packet sent there is copied"
	c.Remedy = tapRemedy(sure[0])
	return c
}

func tapRemedy(t TapReport) string {
	const otherwise = "; or let it set PACKET_IGNORE_OUTGOING, or capture with XDP or eBPF"
	switch {
	case t.PID != 0:
		return fmt.Sprintf("kill %d (of a service: systemctl status %d names the unit to stop)", t.PID, t.PID) + otherwise
	case t.Handler != "":
		return "unload the module that registered " + t.Handler
	}
	return "find the process with: ss -0 -p, as root, and stop it" + otherwise
}

func tapEvidence(t *TapFacts) []Evidence {
	e := []Evidence{{Source: "network namespaces looked into", Value: fmt.Sprintf("%d, hidden %d", t.NamespacesSeen, t.NamespacesHidden)}}
	if t.GlobalListSource != "" {
		e = append(e, Evidence{Source: "one any-device list for all namespaces", Value: t.GlobalListSource})
	}
	return e
}
