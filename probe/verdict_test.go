package probe

import (
	"slices"
	"strings"
	"testing"
)

// sound is a report with nothing in the way: eth0 leads out, over IPv4 alone.
func sound() *Report {
	r := &Report{
		NICs: []NIC{
			{Name: "lo", Kind: "loopback", Up: true, RoutesIPv4: new(0), RoutesIPv6: new(0)},
			{Name: "eth0", Up: true, RoutesIPv4: new(1), RoutesIPv6: new(0)},
			{Name: "eth1", Up: true, RoutesIPv4: new(0), RoutesIPv6: new(0)},
		},
		TapChecks: []Check{{ID: "tap.none", Status: Pass}},
	}
	for _, id := range neededFeatures {
		r.Features = append(r.Features, Feature{ID: id, Status: Supported})
	}
	for _, dev := range []string{"lo", "eth0", "eth1"} {
		for _, id := range []string{"nic.tx-scatter-gather", "nic.tx-checksum-ipv4", "nic.tx-checksum-ipv6"} {
			r.Features = append(r.Features, Feature{ID: id, Subject: dev, Status: Supported})
		}
	}
	return r
}

func (r *Report) set(id, subject string, s FeatureStatus, detail string) {
	for i := range r.Features {
		if f := &r.Features[i]; f.ID == id && f.Subject == subject {
			f.Status, f.Detail = s, detail
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(*Report)
		want    CheckStatus
		summary string
	}{
		{"sound", func(*Report) {}, Pass, "Nothing stands in the way of zero-copy over eth0."},
		{"no scatter-gather", func(r *Report) { r.set("nic.tx-scatter-gather", "eth0", Disabled, "off: switched off on request") },
			Fail, "Zero-copy is blocked: scatter-gather of eth0 is off: switched off on request."},
		{"no scatter-gather hides no checksum", func(r *Report) {
			r.set("nic.tx-scatter-gather", "eth0", Disabled, "off")
			r.set("nic.tx-checksum-ipv4", "eth0", Disabled, "off")
		}, Fail, "Zero-copy is blocked: scatter-gather of eth0 is off."},
		{"no checksum", func(r *Report) { r.set("nic.tx-checksum-ipv4", "eth0", Unsupported, "off") }, Fail, "checksum offload for IPv4"},
		{"no IPv6 checksum, and no IPv6", func(r *Report) { r.set("nic.tx-checksum-ipv6", "eth0", Unsupported, "off") }, Pass, ""},
		{"no IPv6 checksum", func(r *Report) {
			r.NICs[1].RoutesIPv6 = new(1)
			r.set("nic.tx-checksum-ipv6", "eth0", Unsupported, "off")
		}, Fail, "checksum offload for IPv6"},
		{"a device without routes", func(r *Report) { r.set("nic.tx-scatter-gather", "eth1", Unsupported, "off") }, Pass, ""},
		{"a device below", func(r *Report) {
			r.NICs[1].Lower = []string{"eth1"}
			r.set("nic.tx-scatter-gather", "eth1", Unsupported, "off")
		}, Fail, "Zero-copy is blocked: scatter-gather of eth1 is off."},
		{"another way out", func(r *Report) {
			r.NICs[2].RoutesIPv4 = new(1)
			r.set("nic.tx-scatter-gather", "eth1", Unsupported, "off")
		}, Warn, "Zero-copy works over eth0, but: scatter-gather of eth1 is off."},
		{"devices below each other", func(r *Report) { r.NICs[1].Lower, r.NICs[2].Lower = []string{"eth1"}, []string{"eth0"} }, Pass, "eth0 and eth1"},
		{"routes not read", func(r *Report) { r.NICs[2].RoutesIPv4, r.NICs[2].RoutesIPv6 = nil, nil }, Pass, "over eth0 and eth1."},
		{"not read", func(r *Report) { r.set("nic.tx-scatter-gather", "eth0", UnknownFeature, "EPERM") }, Unknown, "Could not tell"},
		{"one device was asked for", func(r *Report) {
			r.dev, r.NICs = "eth1", r.NICs[2:]
			r.NICs[0].Up = false
		}, Pass, "over eth1."},
		{"nothing is up", func(r *Report) { r.NICs[1].Up, r.NICs[2].Up = false, false }, Unknown, "No device that leads out"},
		{"nothing at all", func(r *Report) { *r = Report{} }, Unknown, "No device that leads out"},
		{"tap", func(r *Report) {
			r.TapChecks[0] = Check{ID: "tap.none", Status: Fail, Detail: "lldpd (pid 8) captures on eth0"}
		}, Fail, "Zero-copy is blocked: lldpd (pid 8) captures on eth0."},
		{"tap that cannot be told", func(r *Report) { r.TapChecks[0].Status = Unknown }, Unknown, "Could not tell"},
		{"limit", func(r *Report) { r.Limits.Checks = []Check{{ID: "limit.memlock", Status: Fail, Detail: "64 KiB"}} },
			Fail, "Zero-copy will fail under load: 64 KiB."},
		{"denied", func(r *Report) { r.set("msg_zerocopy.tcp4", "", Denied, "EPERM") }, Unknown, "Could not tell"},
		{"a hazard", func(r *Report) { r.Hazards = []Hazard{{ID: "early-completion", Status: Fail, Detail: "x"}} }, Fail, "Zero-copy can send wrong data: x."},
		{"a hazard of UDP comes last", func(r *Report) {
			r.Hazards = []Hazard{{ID: "udp-sendfile-loss", Status: Fail, Detail: "x"}}
			r.TapChecks[0].Status = Fail
		}, Fail, "Zero-copy is blocked: tap.none."},
		{"a hazard of UDP leaves TCP as good as it was", func(r *Report) {
			r.Hazards = []Hazard{{ID: "udp-sendfile-loss", Status: Fail, Detail: "x"}}
		}, Warn, "Zero-copy over TCP works over eth0, but over UDP can lose data: x."},
		{"a hazard of UDP does not hide what is unknown", func(r *Report) {
			r.Hazards = []Hazard{{ID: "udp-sendfile-loss", Status: Fail, Detail: "x"}}
			r.TapChecks[0] = Check{ID: "tap.none", Status: Unknown, Detail: "y"}
		}, Unknown, "Could not tell whether zero-copy works over eth0: y."},
		{"fail before unknown before warn", func(r *Report) {
			r.Limits.Checks = []Check{{ID: "limit.pipe", Status: Warn}, {ID: "limit.optmem", Status: Unknown}, {ID: "limit.memlock", Status: Fail, Detail: "m"}}
		}, Fail, "Zero-copy will fail under load: m."},
		{"the path decides which devices matter", func(r *Report) {
			r.Path = &PathReport{Destination: "peer", Hops: []Hop{{Device: "eth1"}}, Verdict: Verdict{Pass, ""}}
			r.set("nic.tx-scatter-gather", "eth0", Unsupported, "off")
		}, Pass, "Nothing stands in the way of zero-copy to peer."},
		{"a path that copies", func(r *Report) {
			r.Path = &PathReport{Destination: "peer", Hops: []Hop{{Device: "eth0"}}, Verdict: Verdict{Fail, "Nothing can be sent."}}
		}, Fail, "Zero-copy is blocked: Nothing can be sent."},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sound()
			c.edit(r)
			r.Blockers = judgeBlockers(r)
			v := judgeVerdict(r)
			if v.Status != c.want || !strings.Contains(v.Summary, c.summary) {
				t.Errorf("%s %q, want %s %q", v.Status, v.Summary, c.want, c.summary)
			}
			if !slices.IsSortedFunc(r.Blockers, func(a, b Check) int { return b.Status.rank() - a.Status.rank() }) {
				t.Errorf("not the gravest first: %+v", r.Blockers)
			}
		})
	}
}

func TestEgressOfFacts(t *testing.T) {
	nics := []NIC{{Name: "lo", Index: 1}, {Name: "eth0", Index: 2}}
	judgeEgress(&Facts{Networks: []Network{{Egress: &Egress{Devices: []EgressDevice{{Index: 2, IPv4: 3, IPv6: 1}, {Index: 9}}}}}}, nics)
	if *nics[0].RoutesIPv4 != 0 || *nics[1].RoutesIPv4 != 3 || *nics[1].RoutesIPv6 != 1 {
		t.Errorf("%+v", nics)
	}
	unread := []NIC{{Name: "eth0", Index: 2}}
	judgeEgress(&Facts{Networks: []Network{{EgressError: "EPERM"}}}, unread)
	if unread[0].RoutesIPv4 != nil {
		t.Error("routes of a list that was not read")
	}
}

func TestList(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{{nil, "none"}, {[]string{"a"}, "a"}, {[]string{"a", "b"}, "a and b"}, {[]string{"a", "b", "c"}, "a, b and c"},
		{[]string{"a", "b", "c", "d"}, "a, b and 2 more"}} {
		if got := list(c.in); got != c.want {
			t.Errorf("%v: %q, want %q", c.in, got, c.want)
		}
	}
}
