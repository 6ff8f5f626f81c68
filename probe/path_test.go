package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// host makes facts about a host that sends to 10.0.0.2 (or addr) by its first
// link, on a kernel where everything works.
func pathHost(links ...Link) *Facts {
	f := &Facts{
		Networks: []Network{{Links: links}},
		Taps:     TapFacts{Complete: true},
		Paths:    []PathQuery{{Asked: "10.0.0.2", Host: "10.0.0.2", Addr: "10.0.0.2"}},
		Outcomes: []Outcome{{ID: "sendfile.udp", Steps: []Step{{Op: "sendfile"}}, Seen: map[string]int64{"sent_bytes": 8192, "received_bytes": 8192, "equal": 1, "page_ref": 1}}},
	}
	for _, proto := range []uint8{protoTCP, protoUDP} {
		q := RouteQuery{Dst: "10.0.0.2", HasID: true, Proto: proto}
		f.Routes = append(f.Routes, RouteAnswer{Query: q, Type: routeUnicast, OIF: links[0].Index, PrefSrc: "10.0.0.1"})
	}
	return f
}

// nic is a device of a driver with scatter-gather, checksum and TSO, or
// without some of them: -sg, -tx, -tso.
func nic(index int, name, kind, driver string, without ...string) Link {
	has := func(f string) FeatureState {
		return FeatureState{Active: !slices.Contains(without, f), Requested: !slices.Contains(without, f), Available: true}
	}
	return Link{
		Index: index, Name: name, Kind: kind, Driver: driver, HasDev: kind == "", Flags: iffUp, MTU: 1500, BondMode: -1,
		FeaturesSource: "ETHTOOL_GFEATURES",
		Features:       map[string]FeatureState{featSG: has("-sg"), featCsumGeneric: has("-tx"), featTSO: has("-tso"), featTSO6: has("-tso")},
	}
}

func reshape(l Link, fn func(*Link)) Link { fn(&l); return l }

func master(index int) func(*Link) { return func(l *Link) { l.Master = index } }

func parent(index int, net string) func(*Link) {
	return func(l *Link) { l.Parent, l.ParentN = index, net }
}

// TestPathRules holds the rules that no machine at hand can show.
func TestPathRules(t *testing.T) {
	const all = tcpLarge
	for _, c := range []struct {
		name  string
		facts *Facts
		hops  string
		row   string // api protocol source
		want  string // copies, passes, causes with mechanisms
		limit string // contained in a limit or the row's detail
	}{
		{"physical", pathHost(nic(2, "eth0", "", "mlx5_core")), "eth0", "msg_zerocopy tcp memory", "0 0", ""},
		{"paravirtual", pathHost(nic(2, "eth0", "", "virtio_net")), "eth0", "sendfile tcp file", "0 0", "the hypervisor may still make one"},
		{"write without scatter-gather", pathHost(nic(2, "eth0", "", "x", "-sg")), "eth0", "write tcp memory", "2 0 api-copy/send no-scatter-gather/segment", ""},
		{"sendfile without scatter-gather", pathHost(nic(2, "eth0", "", "x", "-sg")), "eth0", "sendfile tcp file", "1 0 no-scatter-gather/segment", ""},
		{"neither", pathHost(nic(2, "eth0", "", "x", "-sg", "-tx")), "eth0", "sendfile tcp file", "1 1 no-scatter-gather/segment checksum-pass/linearize", ""},
		{"write without checksum", pathHost(nic(2, "eth0", "", "x", "-tx")), "eth0", "write tcp memory", "1 1 api-copy/send checksum-pass/linearize", ""},
		{"vmsplice without checksum", pathHost(nic(2, "eth0", "", "x", "-tx")), "eth0", "vmsplice tcp memory", "1 1 no-tx-csum/linearize checksum-pass/linearize", ""},
		{"read and write", pathHost(nic(2, "eth0", "", "x")), "eth0", "write tcp file", "2 0 read-copy/send api-copy/send", ""},
		{"without segmentation", pathHost(nic(2, "eth0", "", "x", "-tso")), "eth0", "io_uring_send_zc tcp memory", "0 0", ""},
		{
			"features unread", pathHost(reshape(nic(2, "eth0", "", "x"), func(l *Link) { l.Features, l.FeaturesSource, l.FeaturesError = nil, "", "EPERM" })),
			"eth0", "msg_zerocopy tcp memory", "? ?", "could not read whether eth0 has scatter-gather",
		},
		{"bouncing driver", pathHost(nic(2, "eth0", "", "r8152")), "eth0", "sendfile tcp file", "1 0 driver-bounce/driver", ""},
		{"driver that may bounce", pathHost(nic(2, "eth0", "", "gve")), "eth0", "sendfile tcp file", "? 0", "copies frames in some of its modes"},
		{
			"hyper-v with its function", pathHost(nic(2, "eth0", "", "hv_netvsc"), reshape(nic(3, "eth1", "", "mlx5_core", "-sg"), master(2))),
			"eth0 eth1", "msg_zerocopy tcp memory", "1 0 no-scatter-gather/segment", "virtual function eth1",
		},
		{"hyper-v without", pathHost(nic(2, "eth0", "", "hv_netvsc")), "eth0", "msg_zerocopy tcp memory", "0 0", "hypervisor"},
		{
			"failover", pathHost(reshape(nic(2, "eth0", "", "net_failover"), func(l *Link) { l.HasDev = false }),
				reshape(nic(3, "eth0nsby", "", "virtio_net"), master(2)), reshape(nic(4, "eth1", "", "ixgbevf", "-tx"), master(2))),
			"eth0 eth0nsby eth1", "sendfile tcp file", "1 1 no-tx-csum/linearize checksum-pass/linearize", "",
		},
		{
			"bond of 802.3ad", pathHost(reshape(nic(2, "bond0", "bond", "bonding"), func(l *Link) { l.BondMode = 4 }),
				reshape(nic(3, "a", "", "x"), master(2)), reshape(nic(4, "b", "", "x", "-sg"), master(2))),
			"bond0 a b", "sendfile tcp file", "1 0 no-scatter-gather/segment", "",
		},
		{
			"active backup on the good port", pathHost(reshape(nic(2, "bond0", "bond", "bonding"), func(l *Link) { l.BondMode, l.BondActive = 1, 3 }),
				reshape(nic(3, "a", "", "x"), master(2)), reshape(nic(4, "b", "", "x", "-sg"), master(2))),
			"bond0 a", "sendfile tcp file", "0 0", "after a failover another port counts",
		},
		{
			"active backup, nobody active", pathHost(reshape(nic(2, "bond0", "bond", "bonding"), func(l *Link) { l.BondMode = 1 }),
				reshape(nic(3, "a", "", "x"), master(2)), reshape(nic(4, "b", "", "x", "-sg"), master(2))),
			"bond0 a b", "sendfile tcp file", "1 0 no-scatter-gather/segment", "",
		},
		{"bond without ports", pathHost(nic(2, "bond0", "bond", "bonding")), "bond0", "sendfile tcp file", "? ?", "bond0 has no ports"},
		{
			"vlan that a NIC offers nothing for", pathHost(reshape(nic(2, "eth0.5", "vlan", "802.1Q VLAN Support", "-tx"), func(l *Link) {
				l.Parent, l.Features[featCsumGeneric] = 3, FeatureState{Requested: true, Available: true}
			}), nic(3, "eth0", "", "x")),
			"eth0.5 eth0", "sendfile tcp file", "1 1 vlan-features/linearize checksum-pass/linearize", "",
		},
		{
			"macsec", pathHost(reshape(nic(2, "ms0", "macsec", "macsec"), parent(3, "")), nic(3, "eth0", "", "x", "-sg")),
			"ms0 eth0", "sendfile tcp file", "1 1 macsec/crypto checksum-pass/crypto", "",
		},
		{
			"macsec that may be offloaded", pathHost(reshape(nic(2, "ms0", "macsec", "macsec"), parent(3, "")),
				reshape(nic(3, "eth0", "", "x"), func(l *Link) { l.Features["macsec-hw-offload"] = FeatureState{Active: true} })),
			"ms0", "sendfile tcp file", "? ?", "eth0 may encrypt for ms0",
		},
		{"wireguard", pathHost(nic(2, "wg0", "wireguard", "wireguard")), "wg0", "write tcp memory", "2 1 api-copy/send wireguard/crypto checksum-pass/crypto", "needs CAP_NET_ADMIN"},
		{"dummy", pathHost(nic(2, "d0", "dummy", "dummy")), "d0", "msg_zerocopy tcp memory", "0 0", "d0 swallows every packet"},
		{"veth to where nobody may look", pathHost(reshape(nic(2, "eth0", "veth", "veth"), parent(7, "?"))), "eth0", "msg_zerocopy tcp memory", "? ?", "cannot be looked into"},
		{"veth into a hidden namespace", pathHost(reshape(nic(2, "eth0", "veth", "veth"), parent(7, "ns3"))), "eth0", "sendfile tcp file", "? ?", "ns3"},
		{"veth whose peer is down", pathHost(reshape(nic(2, "va", "veth", "veth"), parent(3, "")), reshape(nic(3, "vb", "veth", "veth"), func(l *Link) { l.Flags = 0 })), "va", "sendfile tcp file", "? ?", "vb in this network namespace, which would receive it, is down"},
		{"a kind nobody knows", pathHost(nic(2, "x0", "batadv", "batadv")), "x0", "sendfile tcp file", "? ?", "of kind batadv"},
		{"virtual without a kind", pathHost(reshape(nic(2, "x0", "", ""), func(l *Link) { l.HasDev = false })), "x0", "sendfile tcp file", "? ?", "of kind virtual"},
		{"tunnel without a fixed end", pathHost(nic(2, "vx0", "vxlan", "vxlan")), "vx0", "sendfile tcp file", "? ?", "picks the other end for each packet"},
		{"bridge without ports", pathHost(nic(2, "br0", "bridge", "bridge")), "br0", "sendfile tcp file", "? ?", "no port that could lead to 10.0.0.2"},
		{
			"team with an active port", pathHost(reshape(nic(2, "t0", "team", "team"), func(l *Link) { l.TeamActive = 3 }),
				reshape(nic(3, "a", "", "x"), master(2)), reshape(nic(4, "b", "", "x", "-sg"), master(2))),
			"t0 a", "sendfile tcp file", "0 0", "",
		},
		{"vlan on itself", pathHost(reshape(nic(2, "v0", "vlan", ""), parent(2, ""))), "v0", "sendfile tcp file", "? ?", "runs in a circle over v0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judgePath(c.facts, Options{To: "10.0.0.2"})
			checkPath(t, r)
			if got := hopNames(r); got != c.hops {
				t.Errorf("hops %q, want %q", got, c.hops)
			}
			f := strings.Fields(c.row)
			a := row(t, r, f[0], f[1], f[2], all)
			if got := describeRow(a); got != c.want {
				t.Errorf("%s\nwant %s; %s", got, c.want, a.Detail)
			}
			if !strings.Contains(strings.Join(r.Limits, " ")+a.Detail, c.limit) {
				t.Errorf("limits %q, detail %q, want %q", r.Limits, a.Detail, c.limit)
			}
		})
	}
}

func describeRow(a APIReport) string {
	s := []string{"?", "?"}
	if a.Copies != nil {
		s[0] = copiesOf(a)
	}
	if a.ChecksumPasses != nil {
		s[1] = string(rune('0' + *a.ChecksumPasses))
	}
	for _, c := range a.Causes {
		s = append(s, c.ID+"/"+string(c.Mechanism))
	}
	return strings.Join(s, " ")
}

// The datagram rules that kernels differ in come from tests, not versions.
func TestPathKernels(t *testing.T) {
	with := func(seen map[string]int64, more ...Outcome) *Facts {
		f := pathHost(nic(2, "eth0", "", "x"))
		f.Outcomes = append([]Outcome{{ID: "sendfile.udp", Steps: []Step{{Op: "sendfile"}}, Seen: seen}}, more...)
		return f
	}
	noSG := func(f *Facts) *Facts {
		f.Networks[0].Links[0] = nic(2, "eth0", "", "x", "-sg")
		return f
	}
	head := Outcome{ID: testUDPHead, Seen: map[string]int64{"head_bytes": 148}}
	for _, c := range []struct {
		name  string
		facts *Facts
		row   string
		over  bool // the size above the MTU
		want  string
	}{
		{"pages kept", with(map[string]int64{"page_ref": 1, "equal": 1}), "sendfile udp file", false, "0 0"},
		{"pages kept, above the MTU", with(map[string]int64{"page_ref": 1, "equal": 1}), "sendfile udp file", true, "0 1 udp-splice-csum/send"},
		{"pages kept and summed", with(map[string]int64{"page_ref": 1, "equal": 1, "summed_at_send": 1}), "sendfile udp file", false, "0 1 udp-splice-csum/send"},
		{"copied", with(map[string]int64{"page_ref": 0, "equal": 1}), "sendfile udp file", false, "1 ? udp-splice-copy/send"},
		{"copied for want of scatter-gather", noSG(with(map[string]int64{"page_ref": 1, "equal": 1, "summed_at_send": 1})), "sendfile udp file", false,
			"1 1 no-scatter-gather/send checksum-pass/send"},
		{"not known", with(nil), "sendfile udp file", false, "? ?"},
		{"head", with(nil, head), "msg_zerocopy udp memory", false, "0 0 udp-linear-head/send"},
		{"no head", with(nil), "msg_zerocopy udp memory", false, "0 0"},
		{"above the MTU", with(nil), "msg_zerocopy udp memory", true, "1 1 udp-over-mtu/send checksum-pass/send"},
		{"write above the MTU", with(nil), "write udp memory", true, "1 1 api-copy/send checksum-pass/send"},
	} {
		r := judgePath(c.facts, Options{To: "10.0.0.2"})
		checkPath(t, r)
		size := uint64(1472)
		if c.over {
			size++
		}
		f := strings.Fields(c.row)
		a := row(t, r, f[0], f[1], f[2], size)
		if got := describeRow(a); got != c.want || a.SizeBytes != size {
			t.Errorf("%s: %s of %d bytes\nwant %s; %s", c.name, got, a.SizeBytes, c.want, a.Detail)
		}
	}
}

// Whether forwarding copies is not known without a test, but where the packet
// is delivered on this machine in the end it does not matter.
func TestPathForwardUnknown(t *testing.T) {
	build := func(deliver bool) *Facts {
		f := pathHost(reshape(nic(2, "va", "veth", "veth"), parent(3, "ns1")))
		f.Networks = append(f.Networks, Network{ID: "ns1", Links: []Link{
			reshape(nic(3, "vr", "veth", "veth"), parent(2, ownNamespace)), nic(4, "eth0", "", "x"), reshape(nic(5, "wr", "veth", "veth"), parent(6, "ns2")),
		}}, Network{ID: "ns2", Links: []Link{reshape(nic(6, "wb", "veth", "veth"), parent(5, "ns1"))}})
		in := RouteQuery{Net: "ns1", Dst: "10.0.0.2", Src: "10.0.0.1", IIF: 3}
		if deliver {
			f.Routes = append(f.Routes, RouteAnswer{Query: in, Type: routeUnicast, OIF: 5},
				RouteAnswer{Query: RouteQuery{Net: "ns2", Dst: "10.0.0.2", Src: "10.0.0.1", IIF: 6}, Type: routeLocal})
		} else {
			f.Routes = append(f.Routes, RouteAnswer{Query: in, Type: routeUnicast, OIF: 4})
		}
		return f
	}
	lo := reshape(nic(1, "lo", "", ""), func(l *Link) { l.ARPHRD, l.MTU = arphrdLoopback, 65536 })
	code := func(f *Facts, code int64) *Facts {
		f.Networks[0].Links = append(f.Networks[0].Links, lo)
		f.Outcomes = append(f.Outcomes, Outcome{ID: testForward, Seen: map[string]int64{"completion_code": code}})
		return f
	}
	tapped := code(build(false), 1)
	tapped.Taps.Taps = []TapFact{{Device: "lo", Protocol: ethPAll, Running: true, IgnoreOutgoing: new(false)}}
	for _, c := range []struct {
		name, want string
		facts      *Facts
	}{
		{"not tested", "? 0", build(false)},
		{"not tested, delivered", "1 0 loopback-delivery/ingress", build(true)},
		{"copies", "1 0 veth-routed-ingress/ingress", code(build(false), 1)},
		{"copies, delivered", "1 0 veth-routed-ingress/ingress", code(build(true), 1)},
		{"does not", "0 0", code(build(false), 0)},
		{"does not, delivered", "1 0 loopback-delivery/ingress", code(build(true), 0)},
		{"a tap hides it", "? 0", tapped},
	} {
		r := judgePath(c.facts, Options{To: "10.0.0.2"})
		checkPath(t, r)
		a := row(t, r, "msg_zerocopy", "tcp", "memory", tcpLarge)
		if got := describeRow(a); got != c.want {
			t.Errorf("%s: %s, want %s; %s", c.name, got, c.want, a.Detail)
		}
		if s := row(t, r, "sendfile", "tcp", "file", tcpLarge); describeRow(s) != "0 0" {
			t.Errorf("%s: sendfile %s", c.name, describeRow(s))
		}
	}
}

func TestPathVerdicts(t *testing.T) {
	works := func(f *Facts, codes ...string) *Facts {
		for _, id := range []string{"sendfile.tcp", "splice.file-tcp"} {
			f.Outcomes = append(f.Outcomes, Outcome{ID: id, Steps: []Step{{Op: "sendfile"}}, Seen: map[string]int64{"sent_bytes": 8192, "received_bytes": 8192, "equal": 1, "page_ref": 1}})
		}
		f.Outcomes = append(f.Outcomes, Outcome{ID: "msg_zerocopy.tcp4", Steps: []Step{{Op: "send MSG_ZEROCOPY"}, {Op: "recvmsg MSG_ERRQUEUE"}},
			Seen: map[string]int64{"sent_bytes": 65536, "received_bytes": 65536, "equal": 1, "lo": 0, "hi": 0, "completion_code": 1, "completed": 1, "completion_errno": 0}})
		return f
	}
	lo := reshape(nic(1, "lo", "", ""), func(l *Link) { l.ARPHRD, l.MTU = arphrdLoopback, 65536 })
	local := works(pathHost(lo))
	for i := range local.Routes {
		local.Routes[i].Type = routeLocal
	}
	tap := works(pathHost(nic(2, "eth0", "", "x")))
	tap.Taps.Taps = []TapFact{{Device: "eth0", Protocol: ethPAll, Running: true, IgnoreOutgoing: new(false), Comm: "tcpdump", PID: 7}}
	blackhole := works(pathHost(nic(2, "eth0", "", "x")))
	for i := range blackhole.Routes {
		blackhole.Routes[i] = RouteAnswer{Query: blackhole.Routes[i].Query, Errno: "EINVAL"}
	}
	for _, c := range []struct {
		name     string
		facts    *Facts
		status   CheckStatus
		summary  string
		blockers string
	}{
		{"good", works(pathHost(nic(2, "eth0", "", "x"))), Pass, "Files and memory can be sent to 10.0.0.2 without a copy.", ""},
		{"switched off", works(pathHost(nic(2, "eth0", "", "x", "-sg"))), Fail, "eth0 has no scatter-gather", "no-scatter-gather: ethtool -K eth0 sg on"},
		{"not granted", works(pathHost(reshape(nic(2, "eth0", "", "x", "-sg"), func(l *Link) { l.Features[featSG] = FeatureState{Available: true, Requested: true} }))), Fail, "eth0 has no scatter-gather", "no-scatter-gather: it is requested, and driver x of eth0 does not grant it"},
		{"fixed", works(pathHost(reshape(nic(2, "eth0", "", "ne2k-pci", "-sg"), func(l *Link) { l.Features[featSG] = FeatureState{} }))), Fail, "eth0 has no scatter-gather", "no-scatter-gather: eth0 cannot do it"},
		{"loopback", local, Warn, "Files can be sent to 10.0.0.2 without a copy, memory cannot: the receiver is on this machine", ""},
		{"tap", tap, Warn, "memory cannot: a capture on eth0", "packet-tap: "},
		{"unknown", works(pathHost(nic(2, "eth0", "", "gve"))), Unknown, "Cannot tell whether anything can be sent", ""},
		{"blackhole", blackhole, Fail, "No route to 10.0.0.2 (EINVAL).", ""},
	} {
		r := judgePath(c.facts, Options{To: "10.0.0.2"})
		checkPath(t, r)
		if r.Verdict.Status != c.status || !strings.Contains(r.Verdict.Summary, c.summary) {
			t.Errorf("%s: %+v, want %s %s", c.name, r.Verdict, c.status, c.summary)
		}
		got := ""
		if len(r.Blockers) > 0 {
			got = r.Blockers[0].ID + ": " + r.Blockers[0].Remedy
		}
		if !strings.HasPrefix(got, c.blockers) || (got != "") != (c.blockers != "") {
			t.Errorf("%s: blockers %+v, want %s", c.name, r.Blockers, c.blockers)
		}
	}
}

// row returns the prediction for one kind of transfer: the first with a size
// of at least atLeast.
func row(t *testing.T, r *PathReport, api, proto, source string, atLeast uint64) APIReport {
	t.Helper()
	for _, a := range r.APIs {
		if a.API == api && a.Protocol == proto && a.Source == source && a.SizeBytes >= atLeast {
			return a
		}
	}
	t.Fatalf("no row for %s %s of %s, %d bytes", proto, api, source, atLeast)
	return APIReport{}
}

// hopNames returns the devices of a path, those of other namespaces after a
// colon.
func hopNames(r *PathReport) string {
	var names []string
	for _, h := range r.Hops {
		name := h.Device
		if h.NetNS != "" {
			name = ":" + name
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// causeIDs lists the ids of copies, in order.
func causeIDs(a APIReport) string {
	var ids []string
	for _, c := range a.Causes {
		ids = append(ids, c.ID)
	}
	return strings.Join(ids, " ")
}

func copiesOf(a APIReport) string {
	if a.Copies == nil {
		return "unknown"
	}
	return fmt.Sprint(*a.Copies)
}
