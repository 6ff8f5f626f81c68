package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// What the built-in policy makes of every check: it fits a server that sends
// files and buffers over TCP. What is in neither list does not matter to one.
var (
	builtinRequire = []string{
		"sendfile.tcp", "splice.file-tcp", "msg_zerocopy.tcp4", "msg_zerocopy.tcp6",
		"nic.tx-scatter-gather", "nic.tx-checksum-ipv4", "nic.tx-checksum-ipv6",
		"path.zero-copy", "dir.sendfile", "dir.splice", "tap.none", "limit.memlock", "limit.optmem", "limit.pipe",
		"hazard.early-completion", "hazard.udp-splice-csum-loss", "hazard.udp-sendfile-loss",
	}
	builtinWarn = []string{
		"nic.tx-tcp-segmentation", "nic.tx-tcp6-segmentation", "nic.tx-udp-segmentation",
		"io_uring", "io_uring.*", "ktls.*", "udp.gso", "msg_zerocopy.udp4", "msg_zerocopy.udp6",
		"hazard.*", "tracing.any",
	}
)

// Builtin returns the policy that is used without a file. Which address family
// a device must compute checksums for depends on where it leads to in.
func Builtin(in Input) *Policy {
	p := &Policy{Source: "built-in"}
	dir := slices.ContainsFunc(in.Report.Features, func(f probe.Feature) bool { return strings.HasPrefix(f.ID, "dir.") && f.Subject != "" })
	for _, id := range builtinRequire {
		r := Rule{Pattern: id, Level: Require}
		if id == "path.zero-copy" && len(in.Paths) == 0 || strings.HasPrefix(id, "dir.") && !dir {
			r.Level, r.Reason = Ignore, "Not asked for"
		}
		p.Rules = append(p.Rules, r)
	}
	for _, pattern := range builtinWarn {
		p.Rules = append(p.Rules, Rule{Pattern: pattern, Level: WarnAt})
	}
	p.Rules = append(p.Rules, Rule{Pattern: "*", Level: Ignore, Reason: "Does not matter to a server that sends over TCP"})
	v4, v6 := families(in.Paths)
	matter := egress(in)
	for _, n := range in.Report.NICs {
		if !slices.Contains(matter, n.Name) {
			continue
		}
		var rules []Rule
		for _, f := range []struct {
			ids    []string
			asked  bool
			routes *int
			reason string
		}{
			{[]string{"nic.tx-checksum-ipv4", "nic.tx-tcp-segmentation"}, v4, n.RoutesIPv4, "IPv4"},
			{[]string{"nic.tx-checksum-ipv6", "nic.tx-tcp6-segmentation"}, v6, n.RoutesIPv6, "IPv6"},
		} {
			reason := ""
			switch {
			case (v4 || v6) && !f.asked:
				reason = "No destination is " + f.reason
			case !v4 && !v6 && f.routes != nil && *f.routes == 0 && !carriesBelow(in.Report, n.Name):
				reason = "No " + f.reason + " route leads out of " + n.Name
			}
			for _, id := range f.ids {
				if reason != "" {
					rules = append(rules, Rule{Pattern: id, Level: Ignore, Reason: reason})
				}
			}
		}
		if rules != nil {
			p.Devices = append(p.Devices, DeviceScope{Match: quoteMeta(n.Name), Rules: rules})
		}
	}
	return p
}

// families returns the address families of the paths; neither if it cannot be told.
func families(paths []Path) (v4, v6 bool) {
	for _, p := range paths {
		a, err := netip.ParseAddr(p.Report.Local)
		switch {
		case err != nil:
			return false, false
		case a.Unmap().Is4():
			v4 = true
		default:
			v6 = true
		}
	}
	return v4, v6
}

// carriesBelow reports whether a device lies below another one: routes lead
// out of that, and it sends what that one is given.
func carriesBelow(r *probe.Report, name string) bool {
	return slices.ContainsFunc(r.NICs, func(n probe.NIC) bool { return slices.Contains(n.Lower, name) })
}

// quoteMeta returns a pattern of path.Match that matches s alone. A byte that
// is not UTF-8 cannot be written in YAML and matches any.
func quoteMeta(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch r {
		case '*', '?', '[', '\\':
			b.WriteByte('\\')
		case '\ufffd':
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
