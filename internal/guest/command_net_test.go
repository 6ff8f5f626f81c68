package guest_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// devices compares with ethtool and ip: every device, every feature.
func (r commandRun) devices(t *testing.T) {
	for _, step := range []string{"probe", "probe as nobody", "probe without anything"} {
		rep := r.report(t, step)
		agreeOnLinks(t, rep, r.steps["tool: links"].Stdout)
		for _, nic := range rep.NICs {
			if nic.Name == "lo" || nic.Name == "eth0" {
				agreeOnFeatures(t, step, nic, r.steps["tool: features "+nic.Name].Stdout)
			}
		}
	}
	drivers := map[string]string{"e1000e": "e1000e", "ne2k_pci": "ne2k-pci"}
	nics := r.report(t, "probe").NICs
	if i := slices.IndexFunc(nics, func(n probe.NIC) bool { return n.Name == "eth0" }); i < 0 || nics[i].Driver != drivers[r.nic] {
		t.Errorf("eth0 with driver %s was not found in %+v", drivers[r.nic], nics)
	}
}

// agreeOnLinks compares the devices of a report with what ip lists.
func agreeOnLinks(t *testing.T, rep probe.Report, listed string) {
	t.Helper()
	var links []struct {
		Name string `json:"ifname"`
		MTU  int    `json:"mtu"`
	}
	if err := json.Unmarshal([]byte(listed), &links); err != nil {
		t.Fatal(err)
	}
	if len(rep.NICs) != len(links) {
		t.Errorf("%d devices, ip lists %d", len(rep.NICs), len(links))
	}
	for i, nic := range rep.NICs {
		if i < len(links) && (nic.Name != links[i].Name || nic.MTU != links[i].MTU) {
			t.Errorf("%s with MTU %d, ip says %s with %d", nic.Name, nic.MTU, links[i].Name, links[i].MTU)
		}
	}
}

// agreeOnFeatures compares one device's features with ethtool's, and returns how many
// it compared.
func agreeOnFeatures(t *testing.T, step string, nic probe.NIC, listed string) int {
	t.Helper()
	var tables []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(listed), &tables); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for name, raw := range tables[0] {
		var want struct{ Active, Fixed, Requested *bool }
		if json.Unmarshal(raw, &want) != nil || want.Active == nil {
			continue // "ifname"
		}
		got, ok := nic.Features[name]
		if !ok {
			// ethtool also prints sums of features under names of its own.
			if !slices.Contains(sums, name) {
				t.Errorf("%s: %s lacks feature %s", step, nic.Name, name)
			}
			continue
		}
		compared++
		fixed := got.NeverChanged || !got.Available
		if got.Active != *want.Active || got.Requested != *want.Requested || fixed != *want.Fixed {
			t.Errorf("%s: %s %s is %+v, ethtool says active %v, requested %v, fixed %v",
				step, nic.Name, name, got, *want.Active, *want.Requested, *want.Fixed)
		}
	}
	if compared < 40 {
		t.Errorf("%s: only %d features of %s could be compared", step, compared, nic.Name)
	}
	return compared
}

// sums are ethtool's old names, each for one or several features.
var sums = []string{
	"rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload", "generic-segmentation-offload",
	"generic-receive-offload", "large-receive-offload", "rx-vlan-offload", "tx-vlan-offload", "ntuple-filters", "receive-hashing",
}

// paths: e1000e gathers and sums by itself, ne2k does neither, and e1000e with
// scatter-gather off is no better.
func (r commandRun) paths(t *testing.T) {
	for _, step := range []string{"path", "path as nobody", "path without anything", "path with sg off"} {
		p := r.path(t, step)
		able := r.nic == "e1000e" && step != "path with sg off"
		// Without /proc nobody can say whether a packet tap copies.
		blind := step == "path without anything"
		if len(p.Hops) != 1 || p.Hops[0].Device != "eth0" || p.Hops[0].ScatterGather == nil || *p.Hops[0].ScatterGather != able {
			t.Errorf("%s: hops %+v, want eth0 with scatter-gather %v", step, p.Hops, able)
			continue
		}
		seen := 0
		for _, a := range p.APIs {
			if a.Protocol != "tcp" || a.API != "sendfile" && a.API != "msg_zerocopy" || a.Supported != nil && !*a.Supported {
				continue
			}
			seen++
			blamed := slices.ContainsFunc(a.Causes, func(c probe.PathCause) bool { return c.ID == "no-scatter-gather" && c.Device == "eth0" })
			switch {
			case able && blind && a.ZeroCopy == probe.ZeroCopyUnknown:
			case able && (a.ZeroCopy != probe.ZeroCopyYes || a.Copies == nil || *a.Copies != 0):
				t.Errorf("%s: %s from %s of %d: zero-copy %q, want yes: %+v", step, a.API, a.Source, a.SizeBytes, a.ZeroCopy, a)
			case !able && (a.ZeroCopy != probe.ZeroCopyNo || a.Copies == nil || *a.Copies < 1 || !blamed):
				t.Errorf("%s: %s from %s of %d: zero-copy %q, want no for lack of scatter-gather: %+v", step, a.API, a.Source, a.SizeBytes, a.ZeroCopy, a)
			}
		}
		if seen == 0 {
			t.Errorf("%s: no row for a zero-copy API over TCP: %+v", step, p.APIs)
		}
	}
	if own := r.path(t, "path to itself"); len(own.Hops) == 0 || own.Hops[0].Device != "lo" {
		t.Errorf("the path to an address of its own: %+v", own.Hops)
	}
	if s := r.steps["path without a route"]; s.Status == 0 {
		p := r.path(t, "path without a route")
		if p.Verdict.Status == probe.Pass || p.Verdict.Status == probe.Warn {
			t.Errorf("a path without a route: %+v", p.Verdict)
		}
	} else if s.Status != 2 {
		t.Errorf("a path without a route: status %d, %s", s.Status, s.Stderr)
	}
}
