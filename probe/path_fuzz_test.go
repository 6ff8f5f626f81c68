package probe

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// hostile makes facts about a path out of numbers: devices that refer to each
// other and themselves in every way, routes that lead anywhere, neighbours that
// lie. A record can hold all of it.
func hostile(seed uint64, devices int) (*Facts, Options) {
	r := rand.New(rand.NewPCG(seed, 1))
	kinds := []string{
		"", "vlan", "macvlan", "macvtap", "ipvlan", "bond", "team", "bridge", "veth", "netkit", "tun", "vxlan", "gre", "ip6tnl",
		"wireguard", "vrf", "dummy", "macsec", "xfrm", "vti", "nonesuch", "openvswitch", "dsa",
	}
	drivers := []string{"", "virtio_net", "net_failover", "hv_netvsc", "gve", "r8152"}
	nets := []string{"", "ns1", "ns2", "ns0", "?", "ns9"}
	addrs := []string{"", "10.0.0.1", "10.0.0.2", "fd00::1", "fe80::1", "not an address"}
	macs := []string{"", "02:00:00:00:00:01", "02:00:00:00:00:02"}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	maybe := func() *bool {
		switch r.IntN(3) {
		case 0:
			return nil
		case 1:
			return new(false)
		}
		return new(true)
	}
	f := &Facts{}
	for _, id := range nets[:1+r.IntN(3)] {
		n := Network{ID: id}
		for i := range devices {
			l := Link{
				Index: i + 1, Name: fmt.Sprint("d", i), Kind: pick(kinds), Driver: pick(drivers), HasDev: r.IntN(3) == 0,
				Flags: uint32(r.IntN(2)), MTU: []int{-5, 0, 68, 1500, 65536, 1 << 30}[r.IntN(6)],
				Parent: r.IntN(devices+3) - 1, ParentN: pick(nets), Master: max(r.IntN(2*devices)-devices, 0),
				BondMode: r.IntN(8) - 1, BondActive: r.IntN(devices + 1), MacvlanMode: uint32(r.IntN(5)),
				TunRemote: pick(addrs), TunLocal: pick(addrs), TunPort: r.IntN(70000), TunCsum: maybe(), MAC: pick(macs),
				XDP: []string{"", "native", "generic", "offloaded", "mode 9"}[r.IntN(5)],
			}
			if r.IntN(8) == 0 {
				l.ARPHRD = arphrdLoopback
			}
			if r.IntN(4) > 0 {
				l.FeaturesSource = "ETHTOOL_GFEATURES"
				l.Features = map[string]FeatureState{featSG: {Active: r.IntN(2) == 0, Requested: true}, featCsumGeneric: {Active: r.IntN(2) == 0}}
			}
			n.Links = append(n.Links, l)
		}
		f.Networks = append(f.Networks, n)
	}
	f.Paths = []PathQuery{{Asked: "x", Host: "x", Addr: addrs[1+r.IntN(5)]}}
	// Every question has an answer: the walk goes as far as it can.
	for range 40 {
		w := newWalker(&everything{recordedPath: newRecordedPath(f), r: r, addrs: addrs, macs: macs, devices: devices})
		w.follow(&f.Paths[0], protoTCP)
	}
	for i := range r.IntN(4) {
		f.Taps.Taps = append(f.Taps.Taps, TapFact{Net: pick(nets), Device: fmt.Sprint("d", i), Protocol: ethPAll, Running: true, IgnoreOutgoing: maybe()})
	}
	f.Taps.GlobalList, f.Taps.Complete = maybe(), r.IntN(2) == 0
	return f, Options{To: "x"}
}

// everything answers whatever is asked, at random, and keeps the answers.
type everything struct {
	*recordedPath
	r       *rand.Rand
	addrs   []string
	macs    []string
	devices int
}

func (e *everything) route(q RouteQuery) (RouteAnswer, error) {
	if a, err := e.recordedPath.route(q); err == nil {
		return a, nil
	}
	a := RouteAnswer{
		Query: q, OIF: e.r.IntN(e.devices + 2), Gateway: e.addrs[e.r.IntN(len(e.addrs))], PrefSrc: "10.0.0.9", MTU: e.r.IntN(9000) - 10,
		Type: []string{routeUnicast, routeUnicast, routeUnicast, routeLocal, routeMulticast, "type 99", ""}[e.r.IntN(7)],
	}
	e.f.Routes = append(e.f.Routes, a)
	e.routes[q] = &a
	return a, nil
}

func (e *everything) neighbour(q NeighbourQuery) (NeighbourAnswer, error) {
	a := NeighbourAnswer{Query: q, MAC: e.macs[e.r.IntN(len(e.macs))], Port: e.r.IntN(e.devices + 2), Dst: e.addrs[e.r.IntN(len(e.addrs))]}
	e.f.Neighbours = append(e.f.Neighbours, a)
	e.neighbours[q] = &a
	return a, nil
}

// checkPath holds what is true of every report, whatever the facts.
func checkPath(t *testing.T, r *PathReport) {
	t.Helper()
	if _, err := json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Summary == "" || r.Verdict.Status == "" || r.MTU < 0 {
		t.Errorf("verdict %+v, MTU %d", r.Verdict, r.MTU)
	}
	for _, a := range r.APIs {
		var copies, passes int
		for _, c := range a.Causes {
			k, ok := LookupCause(c.ID)
			if !ok || !slices.Contains(k.Mechanisms, c.Mechanism) {
				t.Errorf("%s %s: cause %+v is not in the catalogue", a.Protocol, a.API, c)
			}
			switch {
			case k.Kind == KindPass:
				passes++
			case k.Kind == KindCopy && c.ID != "udp-linear-head":
				copies++
			}
		}
		switch {
		case a.Detail == "":
			t.Errorf("%+v has no detail", a)
		case off(a.Supported) && (a.ZeroCopy != ZeroCopyNo || a.Copies != nil):
			t.Errorf("not supported, yet %+v", a)
		case a.Copies != nil && *a.Copies < copies, a.ChecksumPasses != nil && *a.ChecksumPasses < passes:
			t.Errorf("more causes than copies or passes: %+v, %d, %d", a, copies, passes)
		case a.Copies != nil && (*a.Copies > 0) != (copies > 0) && !slices.ContainsFunc(a.Causes, func(c PathCause) bool { return c.ID == "udp-linear-head" }):
			t.Errorf("%d copies with causes %v", *a.Copies, a.Causes)
		case a.ZeroCopy == ZeroCopyYes && (a.Copies == nil || *a.Copies != 0 || !on(a.Supported)):
			t.Errorf("zero-copy, yet %+v", a)
		case a.ZeroCopy == ZeroCopyNo && a.Copies != nil && *a.Copies == 0:
			t.Errorf("no zero-copy, yet %+v", a)
		}
	}
}

func FuzzPath(f *testing.F) {
	for i := range uint64(50) {
		f.Add(i, uint8(i))
	}
	f.Fuzz(func(t *testing.T, seed uint64, devices uint8) {
		facts, o := hostile(seed, 1+int(devices)%20)
		began := time.Now()
		r := judgePath(facts, o)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		checkPath(t, r)
	})
}

// A tree of bridges multiplies ways; it must stay small.
func TestPathOfManyBridges(t *testing.T) {
	n := Network{}
	const width, depth = 60, 30
	for b := range depth {
		n.Links = append(n.Links, Link{Index: 1 + b, Name: fmt.Sprint("br", b), Kind: "bridge", Flags: iffUp, MTU: 1500})
	}
	for b := range depth - 1 {
		for i := range width {
			at := 1000 + 2*(b*width+i)
			n.Links = append(n.Links,
				Link{Index: at, Name: fmt.Sprint("p", at), Kind: "veth", Master: 1 + b, Parent: at + 1, Flags: iffUp, MTU: 1500},
				Link{Index: at + 1, Name: fmt.Sprint("p", at+1), Kind: "veth", Master: 2 + b, Parent: at, Flags: iffUp, MTU: 1500})
		}
	}
	f := &Facts{Networks: []Network{n}, Paths: []PathQuery{{Asked: "10.0.0.2", Host: "10.0.0.2", Addr: "10.0.0.2"}}}
	for _, proto := range []uint8{protoTCP, protoUDP} {
		f.Routes = append(f.Routes, RouteAnswer{Query: RouteQuery{Dst: "10.0.0.2", HasID: true, Proto: proto}, Type: routeUnicast, OIF: 1})
	}
	f.Routes = append(f.Routes, RouteAnswer{Query: RouteQuery{Dst: "10.0.0.2"}, Errno: "ENETUNREACH"})
	began := time.Now()
	r := judgePath(f, Options{To: "10.0.0.2"})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	checkPath(t, r)
	if !slices.Contains(r.Limits, "The path branches too often to follow all of it.") || r.Verdict.Status == Pass || r.Verdict.Status == Warn {
		t.Errorf("verdict %+v, limits %.200q", r.Verdict, r.Limits)
	}
}
