package transmit

import (
	"net/netip"
	"runtime"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// Conditions is what selecting needs to know of the host and of the path. What
// is not in it is unknown, and counts as that.
//
// It shares what it holds with the report that it was made from: neither may be
// changed while the other is in use.
type Conditions struct {
	OS string // as GOOS; "": as this program's

	// Features is the state of the kernel's features by id, and of those of a
	// directory that was tested ("dir.sendfile").
	Features map[string]probe.Feature

	// Hazards is by id, the gravest where several directories were looked at.
	Hazards map[string]probe.Hazard

	// Limits are those of the process that will send; nil: not known.
	Limits *probe.Limits

	// Path is the way to the destination with the predictions for every call;
	// nil: not known.
	Path *probe.PathReport

	// Uplinks are the devices that lead out of the host. They stand in for a
	// path that is not known; nil: not known either.
	Uplinks []Uplink

	// Local says whether the receiver is on this machine; nil: not known. A
	// path says it too.
	Local *bool
}

// ConditionsOf returns what a report says of the host, and of the path if it has
// one.
func ConditionsOf(r *probe.Report) Conditions {
	c := Conditions{
		OS: r.Host.OS, Limits: &r.Limits,
		Features: make(map[string]probe.Feature, len(r.Features)),
		Hazards:  make(map[string]probe.Hazard, len(r.Hazards)),
	}
	for _, f := range r.Features {
		if old, ok := c.Features[f.ID]; !ok || worseFeature(f.Status, old.Status) {
			c.Features[f.ID] = f
		}
	}
	for _, h := range r.Hazards {
		if old, ok := c.Hazards[h.ID]; !ok || old.Status.Worse(h.Status) != old.Status {
			c.Hazards[h.ID] = h
		}
	}
	if r.Path != nil && r.Path.Error == "" {
		c.Path = r.Path
		c.Local = pathLocal(r.Path)
	} else {
		c.Uplinks = uplinks(r)
	}
	return c
}

// worseFeature orders the states of one feature of several devices or
// directories: what works everywhere is better than what may not.
func worseFeature(a, b probe.FeatureStatus) bool { return featureRank(a) > featureRank(b) }

func featureRank(s probe.FeatureStatus) int {
	switch s {
	case probe.Supported:
		return 1
	case probe.SkippedFeature:
		return 0
	case probe.Unsupported, probe.Disabled, probe.Denied:
		return 3
	}
	return 2
}

// KernelConditions returns what [probe.Kernel] says: whether the kernel has the
// calls, and whether splicing to UDP loses data. Limits, devices and paths are
// not in it. k is nil where the system is not Linux.
func KernelConditions(k *probe.KernelFeatures) Conditions {
	c := Conditions{OS: runtime.GOOS, Features: map[string]probe.Feature{}, Hazards: map[string]probe.Hazard{}}
	if k == nil {
		return c
	}
	for f := range k.All() {
		c.Features[f.ID] = f
	}
	for _, id := range []string{"udp-splice-csum-loss", "udp-sendfile-loss"} {
		if h, ok := k.Hazard(id); ok {
			c.Hazards[id] = h
		}
	}
	return c
}

// pathLocal says whether a path ends on this machine: lent pages are then
// copied on delivery, which the prediction names.
func pathLocal(p *probe.PathReport) *bool {
	known := false
	for _, a := range p.APIs {
		if a.API != string(MsgZerocopy) || a.Protocol != string(TCP) {
			continue
		}
		if slices.ContainsFunc(a.Causes, func(c probe.PathCause) bool { return c.ID == "loopback-delivery" }) {
			return new(true)
		}
		known = known || a.ZeroCopy == probe.ZeroCopyYes
	}
	if known {
		return new(false)
	}
	return nil
}

// ipv6 reports whether a transfer goes over IPv6.
func (c *Conditions) ipv6(t Transfer) bool {
	if c.Path != nil {
		if a, err := netip.ParseAddr(c.Path.Local); err == nil {
			return a.Unmap().Is6()
		}
	}
	return t.IPv6
}

// prediction returns what the path says of a call for a send of size bytes; nil
// if nothing. Paths are judged for two sizes over TCP: one packet, and what one
// GSO packet holds; over UDP for a datagram that is one packet, for one that is
// more, and for a batch that the kernel cuts (UDP_SEGMENT).
func (c *Conditions) prediction(api, protocol, source string, size int64, segments bool) *probe.APIReport {
	if c.Path == nil {
		return nil
	}
	var rows []*probe.APIReport
	for i := range c.Path.APIs {
		if a := &c.Path.APIs[i]; a.API == api && a.Protocol == protocol && a.Source == source {
			rows = append(rows, a)
		}
	}
	slices.SortStableFunc(rows, func(a, b *probe.APIReport) int {
		switch {
		case a.SizeBytes < b.SizeBytes:
			return -1
		case a.SizeBytes > b.SizeBytes:
			return 1
		}
		return 0
	})
	if len(rows) == 0 {
		return nil
	}
	if protocol == string(UDP) {
		return datagramRow(rows, size, segments)
	}
	last := rows[len(rows)-1]
	if size == 0 {
		return last
	}
	best := rows[0]
	for _, r := range rows[1:] {
		if r.SizeBytes <= uint64(size) {
			best = r
		}
	}
	return best
}

func datagramRow(rows []*probe.APIReport, size int64, segments bool) *probe.APIReport {
	switch {
	case segments && len(rows) > 2:
		return rows[len(rows)-1]
	case segments:
		return nil // not judged
	case uint64(size) <= rows[0].SizeBytes || len(rows) == 1:
		return rows[0]
	}
	return rows[1]
}
