package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// EgressDevices returns the names of the devices that payload leaves the host
// by, in the order of r.NICs: those on the path if the report has one, else
// those that are up, are no loopback and have routes (or might have, where the
// routes could not be read), and every device below them. Of a report about one
// device it is that and what is below it, in whatever state.
func (r *Report) EgressDevices() []string {
	matters := map[string]bool{}
	if r.dev != "" {
		for _, n := range r.NICs {
			matters[n.Name] = true
		}
	} else if r.Path != nil && len(r.Path.Hops) > 0 {
		for _, h := range r.Path.Hops {
			if h.NetNS == "" {
				matters[h.Device] = true
			}
		}
	} else {
		for _, n := range r.NICs {
			if n.leadsOut() {
				r.addLower(matters, n)
			}
		}
	}
	var names []string
	for _, n := range r.NICs {
		if matters[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}

func (n *NIC) leadsOut() bool {
	return n.Up && n.Kind != "loopback" && (n.RoutesIPv4 == nil || n.RoutesIPv6 == nil || *n.RoutesIPv4+*n.RoutesIPv6 > 0)
}

func (r *Report) addLower(matters map[string]bool, n NIC) {
	if matters[n.Name] {
		return // stacks are loops in hostile records only
	}
	matters[n.Name] = true
	for _, lower := range n.Lower {
		if i := slices.IndexFunc(r.NICs, func(n NIC) bool { return n.Name == lower }); i >= 0 {
			r.addLower(matters, r.NICs[i])
		}
	}
}

// judgeEgress notes on every device how many routes lead out of it.
func judgeEgress(f *Facts, nics []NIC) {
	if len(f.Networks) == 0 || f.Networks[0].Egress == nil {
		return
	}
	for i := range nics {
		n := &nics[i]
		n.RoutesIPv4, n.RoutesIPv6 = new(0), new(0)
		for _, d := range f.Networks[0].Egress.Devices {
			if d.Index == n.Index {
				*n.RoutesIPv4, *n.RoutesIPv6 = d.IPv4, d.IPv6
			}
		}
	}
}

// list joins names for people: "a", "a and b", "a, b and 3 more".
func list(names []string) string {
	const most = 3
	switch n := len(names); {
	case n == 0:
		return "none"
	case n == 1:
		return names[0]
	case n > most:
		return strings.Join(names[:most-1], ", ") + fmt.Sprintf(" and %d more", n-most+1)
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// neededFeatures are what a server that sends files and buffers over TCP builds
// on; those of a directory are skipped if none was asked for.
var neededFeatures = []string{"sendfile.tcp", "splice.file-tcp", "msg_zerocopy.tcp4", "dir.sendfile", "dir.splice"}

// judgeBlockers gathers what stands in the way of zero-copy, the gravest first.
// Among equals a hazard of TCP comes first, and those of UDP last: most of what
// is sent is TCP.
func judgeBlockers(r *Report) []Check {
	var out, udp []Check
	for _, h := range r.Hazards {
		if strings.HasPrefix(h.ID, "udp-") {
			udp = append(udp, h.Check())
		} else {
			out = append(out, h.Check())
		}
	}
	if r.Path != nil {
		out = append(out, r.Path.Check())
	}
	out = append(out, deviceBlockers(r)...)
	out = append(out, r.TapChecks...)
	for _, f := range r.Features {
		if slices.Contains(neededFeatures, f.ID) {
			out = append(out, f.Check())
		}
	}
	out = slices.Concat(out, r.Limits.Checks, udp)
	out = slices.DeleteFunc(out, func(c Check) bool { return c.Status.rank() <= Pass.rank() })
	slices.SortStableFunc(out, func(a, b Check) int { return cmp.Compare(b.Status.rank(), a.Status.rank()) })
	return out
}

// Check is hazard.ID.
func (h Hazard) Check() Check {
	return Check{ID: "hazard." + h.ID, Status: h.Status, Subject: h.Subject, Detail: h.Detail,
		Evidence: append([]Evidence{}, h.Evidence...), Causes: []string{h.ID}, Remedy: h.Remedy}
}

// Check is path.zero-copy for the destination of p.
func (p *PathReport) Check() Check {
	c := Check{ID: "path.zero-copy", Subject: p.Destination, Status: p.Verdict.Status, Detail: p.Verdict.Summary,
		Evidence: append([]Evidence{}, p.Evidence...), Causes: []string{}}
	if c.Status == Pass {
		return c
	}
	for _, b := range p.Blockers {
		if !slices.Contains(c.Causes, b.ID) {
			c.Causes = append(c.Causes, b.ID)
		}
		c.Remedy = cmp.Or(c.Remedy, b.Remedy)
	}
	return c
}

// Check reads a feature as a condition that must hold.
func (f Feature) Check() Check {
	return Check{ID: f.ID, Status: f.Status.check(), Subject: f.Subject, Detail: f.Detail,
		Evidence: append([]Evidence{}, f.Evidence...), Causes: []string{}, Remedy: f.Remedy}
}

// check is what a feature's status means where the feature is required. What a
// process may not find out is as unknown as what it could not.
func (s FeatureStatus) check() CheckStatus {
	switch s {
	case Supported:
		return Pass
	case Unsupported, Disabled:
		return Fail
	case SkippedFeature:
		return Skipped
	}
	return Unknown
}

// deviceBlockers are missing features of devices that payload leaves by. Where
// it can leave by another device that is in order, with all below it, they are
// warnings: the host can, if not on every way out.
func deviceBlockers(r *Report) []Check {
	var out []Check
	egress := r.EgressDevices()
	for _, n := range r.NICs {
		if slices.Contains(egress, n.Name) {
			out = append(out, r.missingOf(n)...)
		}
	}
	if r.Path == nil && slices.ContainsFunc(r.NICs, func(n NIC) bool { return n.leadsOut() && r.soundFrom(n, out) }) {
		for i := range out {
			out[i].Status = Warn
		}
	}
	return out
}

// soundFrom reports whether neither a device nor one below it is blocked.
func (r *Report) soundFrom(n NIC, blocked []Check) bool {
	chain := map[string]bool{}
	r.addLower(chain, n)
	return !slices.ContainsFunc(blocked, func(c Check) bool { return chain[c.Subject] })
}

// missingOf returns the features that a device lacks. Scatter-gather comes
// before checksums and hides them, as in the kernel.
func (r *Report) missingOf(n NIC) []Check {
	needs := []string{"nic.tx-scatter-gather", "nic.tx-checksum-ipv4"}
	if n.RoutesIPv6 != nil && *n.RoutesIPv6 > 0 {
		needs = append(needs, "nic.tx-checksum-ipv6")
	}
	var out []Check
	for _, id := range needs {
		i := slices.IndexFunc(r.Features, func(f Feature) bool { return f.ID == id && f.Subject == n.Name })
		if i < 0 {
			continue
		}
		c := r.Features[i].Check()
		if c.Status.rank() <= Pass.rank() {
			continue
		}
		if id == "nic.tx-scatter-gather" {
			c.Causes = []string{"no-scatter-gather"}
			return []Check{c}
		}
		c.Causes = []string{"no-tx-csum"}
		out = append(out, c)
	}
	return out
}

// judgeVerdict puts the answer in one line an operator understands.
func judgeVerdict(r *Report) Verdict {
	egress := r.EgressDevices()
	status := Pass
	for _, b := range r.Blockers {
		status = status.Worse(b.gravity())
	}
	if len(egress) == 0 && status != Fail {
		return Verdict{Unknown, "No device that leads out of this host is up, so nothing can be said about sending from it."}
	}
	to := "over " + list(egress)
	works := slices.DeleteFunc(slices.Clone(egress), func(dev string) bool {
		return slices.ContainsFunc(r.Blockers, func(c Check) bool { return c.Subject == dev && strings.HasPrefix(c.ID, "nic.") })
	})
	over := "over " + list(works)
	if r.Path != nil {
		over = "to " + r.Path.Destination
		to = over
	}
	i := slices.IndexFunc(r.Blockers, func(b Check) bool { return b.gravity() == status })
	if i < 0 {
		return Verdict{Pass, "Nothing stands in the way of zero-copy " + over + "."}
	}
	first := r.Blockers[i]
	why := clause(first) + more(r.Blockers, status)
	switch {
	case status == Fail:
		return Verdict{Fail, lead(first) + why}
	case status == Unknown:
		return Verdict{Unknown, "Could not tell whether zero-copy works " + to + ": " + why}
	case first.udpHazard():
		return Verdict{Warn, "Zero-copy over TCP works " + over + ", but over UDP can lose data: " + why}
	}
	return Verdict{Warn, "Zero-copy works " + over + ", but: " + why}
}

// udpHazard reports whether c is a way in which UDP alone loses data.
func (c Check) udpHazard() bool { return strings.HasPrefix(c.ID, "hazard.udp-") }

// gravity is what a blocker means for the one line about the host. UDP that
// loses data is a failure of its own, in the list and in preflight, but leaves
// TCP as good as it was.
func (c Check) gravity() CheckStatus {
	if c.udpHazard() && c.Status == Fail {
		return Warn
	}
	return c.Status
}

// lead says what a failed condition does to zero-copy.
func lead(c Check) string {
	switch {
	case strings.HasPrefix(c.ID, "hazard."):
		return "Zero-copy can send wrong data: "
	case c.ID == "limit.memlock" || c.ID == "limit.optmem":
		return "Zero-copy will fail under load: "
	}
	return "Zero-copy is blocked: "
}

// clause is what a check found as part of a sentence.
func clause(c Check) string {
	s := strings.TrimSuffix(c.Detail, ".")
	if what, ok := deviceWords[c.ID]; ok {
		// The detail is about a device that it does not name.
		return what + " of " + c.Subject + " is " + s
	}
	if s == "" {
		s = c.ID
		if c.Subject != "" {
			s += " of " + c.Subject
		}
	}
	return s
}

// deviceWords are the features of devices that can be blockers.
var deviceWords = map[string]string{
	"nic.tx-scatter-gather": "scatter-gather",
	"nic.tx-checksum-ipv4":  "checksum offload for IPv4",
	"nic.tx-checksum-ipv6":  "checksum offload for IPv6",
}

// more counts the blockers of a status beyond the first, and ends the sentence.
func more(bs []Check, s CheckStatus) string {
	n := -1
	for _, b := range bs {
		if b.gravity() == s {
			n++
		}
	}
	if n > 0 {
		return fmt.Sprintf("; and %d more.", n)
	}
	return "."
}
