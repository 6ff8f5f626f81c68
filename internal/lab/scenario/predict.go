package scenario

import (
	"fmt"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// asNIC makes a device one that packets leave the machine by.
func asNIC(f *probe.Facts, device string) {
	for i := range f.Networks {
		for j := range f.Networks[i].Links {
			if l := &f.Networks[i].Links[j]; f.Networks[i].ID == "" && l.Name == device {
				l.Kind, l.HasDev, l.Parent, l.ParentN = "", true, 0, ""
			}
		}
	}
}

// Predicted is what a path's report says of traffic, and whether it leaves open how
// often the payload is summed.
func Predicted(r *probe.PathReport, t Traffic) (c Column, passesUnknown bool) {
	if r.Error != "" {
		return Column{Causes: []string{}, Detail: r.Error}, true
	}
	row, ok := rowOf(r.APIs, t, r.MTU)
	if !ok {
		return Column{Causes: []string{}, Detail: fmt.Sprintf("the path's report has no row for %v", t)}, true
	}
	var causes []string
	for _, c := range row.Causes {
		causes = append(causes, c.ID)
	}
	c = Column{Causes: named(causes), Detail: row.Detail}
	switch {
	case row.Copies == nil || row.Supported != nil && !*row.Supported:
	case *row.Copies > 0:
		c.CopiedBytes = new(t.Bytes())
	default:
		c.CopiedBytes = new(uint64)
	}
	return c, row.ChecksumPasses == nil
}

// rowOf finds the row of a report that traffic is like: of the same API, and of the
// size next below it.
func rowOf(rows []probe.APIReport, t Traffic, mtu int) (best probe.APIReport, ok bool) {
	source := "file"
	switch {
	case t.Source == Written:
		source = "pipe"
	case t.Source == Connected:
		source = "socket"
	case t.memory() || t.called() != t.API:
		source = "memory"
	}
	// The rows of datagrams are one of the MTU, one of a byte more, and one of
	// segments; all that is larger than the MTU is like the second.
	size := uint64(t.Size)
	if whole := datagram(t, mtu); t.Protocol == "udp" && t.Segment == 0 {
		size = min(size, whole+1)
	}
	for _, r := range rows {
		if r.API != t.called() || r.Protocol != t.Protocol || r.Source != source {
			continue
		}
		if segments := r.Protocol == "udp" && r.SizeBytes > datagram(t, mtu)+1; segments != (t.Segment > 0) {
			continue
		}
		if !ok || near(r.SizeBytes, size) < near(best.SizeBytes, size) || near(r.SizeBytes, size) == near(best.SizeBytes, size) && r.SizeBytes < best.SizeBytes {
			best, ok = r, true
		}
	}
	return best, ok
}

func near(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// datagram is the payload of the largest datagram that is one packet.
func datagram(t Traffic, mtu int) uint64 {
	headers := 20 + 8
	if t.IPv6 {
		headers = 40 + 8
	}
	return uint64(max(mtu-headers, 0))
}

// anyTap reports whether a set-up has a packet socket on any device.
func anyTap(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { t, ok := s.(Tap); return ok && t.Device == "" })
}
