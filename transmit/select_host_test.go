package transmit

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

// transfersOf are some of every kind.
func transfersOf() []Transfer {
	var out []Transfer
	for _, src := range SourceKinds() {
		for _, p := range Protocols() {
			for _, n := range []int64{0, 1, 1400, 4096, 64 << 10, 1 << 20, 5 << 30} {
				out = append(out, Transfer{Source: src, Protocol: p, SizeBytes: n})
			}
		}
	}
	return out
}

func hasFeature(f *probe.Facts, name string) bool {
	for _, l := range f.Networks[0].Links {
		if l.HasDev {
			return l.Features[name].Active
		}
	}
	return false
}

// What is chosen on recorded hosts follows from their kernel and network card.
func TestSelectOnRecordedHosts(t *testing.T) {
	chosen := map[Backend]int{}
	hosttest.Each(t, func(t *testing.T, f *probe.Facts) {
		to := f.Paths[0].Asked
		here := to == "localhost"
		good := !here && hasFeature(f, "tx-scatter-gather") && (hasFeature(f, "tx-checksum-ip-generic") || hasFeature(f, "tx-checksum-ipv4"))
		for _, o := range []probe.Options{{To: to}, {}} {
			r := probe.Judge(f, o)
			c := ConditionsOf(r)
			if again := ConditionsOf(r); !reflect.DeepEqual(c, again) {
				t.Error("two extractions of one report differ")
			}
			for _, tr := range transfersOf() {
				p := Select(c, tr, SelectOptions{})
				checkPlan(t, c, tr, SelectOptions{}, p)
				chosen[p.Backend]++
			}
			if o.To == "" && here {
				continue // a machine that was not looked at for where it sends
			}
			lim := r.Limits
			lent := good && (lim.MemlockExempt || lim.MemlockBytes == nil || *lim.MemlockBytes >= 1<<20+8192)
			p := Select(c, Transfer{Source: SourceMemory, Protocol: TCP, SizeBytes: 1 << 20}, SelectOptions{})
			if (p.Backend == MsgZerocopy) != lent {
				t.Errorf("to %q memory goes by %s: %s", o.To, p.Backend, p.Reason)
			}
			if p := Select(c, Transfer{Source: SourceFile, Protocol: TCP, SizeBytes: 1 << 20}, SelectOptions{}); p.Backend != Sendfile {
				t.Errorf("to %q a file goes by %s: %s", o.To, p.Backend, p.Reason)
			}
		}
	})
	for _, b := range []Backend{Write, ReadWrite, Sendfile, Splice, MsgZerocopy, CopyFileRange} {
		if chosen[b] == 0 {
			t.Errorf("%s is chosen nowhere: %v", b, chosen)
		}
	}
}

// Datagrams are spliced only by kernels that do not lose them.
func TestSelectDatagramsByKernel(t *testing.T) {
	seen := map[bool]int{}
	for _, name := range hosttest.Names(t) {
		r := probe.Judge(hosttest.Load(t, name), probe.Options{})
		safe := true
		for _, h := range r.Hazards {
			if (h.ID == "udp-splice-csum-loss" || h.ID == "udp-sendfile-loss") && h.Status != probe.Pass {
				safe = false
			}
		}
		p := Select(ConditionsOf(r), Transfer{Source: SourceFile, Protocol: UDP, SizeBytes: 1000}, SelectOptions{})
		if (p.Backend == Sendfile) != safe {
			t.Errorf("%s: a datagram goes by %s: %s", name, p.Backend, p.Reason)
		}
		seen[safe]++
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("the recorded kernels are all alike: %v", seen)
	}
}

func TestConditionsOf(t *testing.T) {
	r := &probe.Report{
		Host: probe.Host{OS: "linux"},
		Features: []probe.Feature{
			{ID: "sendfile.tcp", Status: probe.Supported},
			{ID: "dir.sendfile", Subject: "/a", Status: probe.Supported},
			{ID: "dir.sendfile", Subject: "/b", Status: probe.Unsupported},
			{ID: "dir.sendfile", Subject: "/c", Status: probe.UnknownFeature},
			{ID: "nic.tx-scatter-gather", Subject: "eth0", Status: probe.Disabled, Remedy: "ethtool"},
			{ID: "nic.tx-checksum-ipv4", Subject: "eth0", Status: probe.UnknownFeature},
			{ID: "nic.tx-checksum-ipv6", Subject: "eth0", Status: probe.Supported},
		},
		Hazards:   []probe.Hazard{{ID: "stale-source", Subject: "/a", Status: probe.Pass}, {ID: "stale-source", Subject: "/b", Status: probe.Fail}},
		NICs:      []probe.NIC{{Name: "eth0", Up: true, Kind: "physical"}, {Name: "lo", Up: true, Kind: "loopback"}},
		TapChecks: []probe.Check{{ID: "tap.none", Subject: "eth1", Status: probe.Fail}},
	}
	c := ConditionsOf(r)
	if c.Features["dir.sendfile"].Subject != "/b" || c.Hazards["stale-source"].Subject != "/b" {
		t.Errorf("not the gravest: %+v, %+v", c.Features["dir.sendfile"], c.Hazards["stale-source"])
	}
	want := []Uplink{{Device: "eth0", ScatterGather: new(false), SGRemedy: "ethtool", Checksum6: new(true), Tapped: new(false)}}
	if !reflect.DeepEqual(c.Uplinks, want) {
		t.Errorf("uplinks %+v", c.Uplinks)
	}
	if c.Local != nil || c.Path != nil {
		t.Error("a path out of nothing")
	}
	for _, tap := range []struct {
		subject string
		status  probe.CheckStatus
		want    *bool
	}{{"", probe.Fail, new(true)}, {"eth0", probe.Fail, new(true)}, {"", probe.Unknown, nil}, {"eth0", probe.Unknown, nil}, {"", probe.Pass, new(false)}} {
		r.TapChecks = []probe.Check{{ID: "tap.none", Subject: tap.subject, Status: tap.status}}
		if got := ConditionsOf(r).Uplinks[0].Tapped; !reflect.DeepEqual(got, tap.want) {
			t.Errorf("with the check %+v eth0 is tapped: %v", tap, got)
		}
	}
	r.Path = &probe.PathReport{Error: "no such host"}
	if c := ConditionsOf(r); c.Path != nil || len(c.Uplinks) != 1 {
		t.Error("a path that could not be looked up is taken for one")
	}
	r.Path = &probe.PathReport{APIs: []probe.APIReport{{API: "msg_zerocopy", Protocol: "tcp", ZeroCopy: probe.ZeroCopyUnknown}}}
	if c := ConditionsOf(r); c.Path == nil || c.Local != nil || c.Uplinks != nil {
		t.Errorf("a doubtful path: %+v", c)
	}
}

// What the kernel of this machine was asked is what selecting needs.
func TestKernelConditions(t *testing.T) {
	if c := KernelConditions(nil); len(c.Features) != 0 || c.Limits != nil || c.OS == "" {
		t.Errorf("of nothing: %+v", c)
	}
	k, err := probe.Kernel(t.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		return // no Linux, nothing to ask
	}
	if err != nil {
		t.Fatal(err)
	}
	c := KernelConditions(k)
	for _, tr := range transfersOf() {
		s := selector{c: &c, t: tr}
		for _, b := range candidates(tr) {
			for _, id := range s.needs(b) {
				if _, ok := c.Features[id]; !ok {
					t.Errorf("%s needs %s, which nobody asked for", b, id)
				}
			}
		}
		checkPlan(t, c, tr, SelectOptions{}, Select(c, tr, SelectOptions{}))
	}
	for _, id := range []string{"udp-splice-csum-loss", "udp-sendfile-loss"} {
		h, ok := c.Hazards[id]
		if !ok || h.ID != id || !slices.Contains([]probe.CheckStatus{probe.Pass, probe.Fail, probe.Unknown}, h.Status) {
			t.Errorf("%s: %+v", id, h)
		}
		t.Logf("%s: %s, %s", id, h.Status, h.Detail)
	}
	for _, n := range []int64{1000, 65508} {
		p := Select(c, Transfer{Source: SourceFile, Protocol: UDP, SizeBytes: n}, SelectOptions{})
		t.Logf("a file of %d bytes to UDP goes by %s: %s", n, p.Backend, p.Reason)
	}
}
