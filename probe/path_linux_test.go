package probe

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A bench is a network of namespaces that a test sends into.
type bench struct {
	from *testenv.NetNS
	to   string
	at   *testenv.NetNS // where the destination is, nil if nowhere
	mid  *testenv.NetNS // a router on the way
}

// sink gives a namespace a device that swallows what it sends. ifb is that
// where nothing redirects to it, and is in more kernels than dummy.
func sink(ns *testenv.NetNS, name, addr string) {
	ns.Run("ip", "link", "add", name, "type", "ifb")
	ns.Run("ip", "link", "set", name, "mtu", "1500", "up")
	if addr != "" {
		ns.Run("ip", "addr", "add", addr+"/24", "dev", name)
	}
}

// cable joins two namespaces with a veth pair.
func cable(a *testenv.NetNS, nameA, addrA string, b *testenv.NetNS, nameB, addrB string) {
	a.Run("ip", "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", b.Path())
	for _, end := range []struct {
		ns         *testenv.NetNS
		name, addr string
	}{{a, nameA, addrA}, {b, nameB, addrB}} {
		if end.addr != "" {
			end.ns.Run("ip", "addr", "add", end.addr+"/24", "dev", end.name)
		}
		end.ns.Run("ip", "link", "set", end.name, "up")
	}
}

func forwarding(ns *testenv.NetNS) { ns.Run("sysctl", "-qw", "net.ipv4.ip_forward=1") }

// neighbour makes up someone on a device that answers to an address.
func neighbour(ns *testenv.NetNS, addr, dev string) {
	ns.Run("ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:99", "dev", dev, "nud", "permanent")
}

func benchSink(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	sink(a, "s0", "10.1.0.1")
	return bench{from: a, to: "10.1.0.2"}
}

func benchVeth(t *testing.T) bench {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	cable(a, "va", "10.1.0.1", b, "vb", "10.1.0.2")
	return bench{from: a, to: "10.1.0.2", at: b}
}

// benchRouted: A - R - sink.
func benchRouted(t *testing.T) bench {
	a, r := testenv.NewNetNS(t), testenv.NewNetNS(t)
	cable(a, "va", "10.1.0.1", r, "vr", "10.1.0.2")
	sink(r, "s0", "10.2.0.1")
	forwarding(r)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.2")
	return bench{from: a, to: "10.2.0.2", mid: r}
}

// benchRoutedDelivered: A - R - B.
func benchRoutedDelivered(t *testing.T) bench {
	a, r, b := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	cable(a, "va", "10.1.0.1", r, "vr", "10.1.0.2")
	cable(r, "wr", "10.2.0.1", b, "wb", "10.2.0.2")
	forwarding(r)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.2")
	b.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	return bench{from: a, to: "10.2.0.2", at: b}
}

// benchBridgeOwn: a bridge of the sender's own, with a sink and a namespace as
// ports.
func benchBridgeOwn(t *testing.T) bench {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Run("ip", "link", "add", "br0", "type", "bridge")
	cable(a, "p1", "", b, "vb", "10.1.0.2")
	sink(a, "s0", "")
	a.Run("ip", "link", "set", "p1", "master", "br0")
	a.Run("ip", "link", "set", "s0", "master", "br0")
	a.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
	a.Run("ip", "link", "set", "br0", "up")
	return bench{from: a, to: "10.1.0.2", at: b}
}

func benchBridgeOwnSink(t *testing.T) bench {
	b := benchBridgeOwn(t)
	neighbour(b.from, "10.1.0.9", "br0")
	b.from.Run("bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "s0", "master", "static")
	b.to, b.at = "10.1.0.9", nil
	return b
}

// benchContainer: A - bridge of H - sink, as a container with a bridged uplink.
func benchContainer(t *testing.T) bench {
	a, h := testenv.NewNetNS(t), testenv.NewNetNS(t)
	cable(a, "eth0", "10.1.0.2", h, "p1", "")
	h.Run("ip", "link", "add", "br0", "type", "bridge")
	sink(h, "up0", "")
	h.Run("ip", "link", "set", "p1", "master", "br0")
	h.Run("ip", "link", "set", "up0", "master", "br0")
	h.Run("ip", "link", "set", "br0", "up")
	neighbour(a, "10.1.0.9", "eth0")
	return bench{from: a, to: "10.1.0.9"}
}

// benchContainerRouted: the bridge is the container's gateway.
func benchContainerRouted(t *testing.T) bench {
	a, h := testenv.NewNetNS(t), testenv.NewNetNS(t)
	cable(a, "eth0", "10.1.0.2", h, "p1", "")
	h.Run("ip", "link", "add", "br0", "type", "bridge")
	h.Run("ip", "link", "set", "p1", "master", "br0")
	h.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
	h.Run("ip", "link", "set", "br0", "up")
	sink(h, "up0", "10.2.0.1")
	forwarding(h)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	return bench{from: a, to: "10.2.0.9"}
}

func benchMacvlan(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	sink(a, "s0", "")
	a.Run("ip", "link", "add", "mv0", "link", "s0", "type", "macvlan", "mode", "bridge")
	a.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "mv0")
	a.Run("ip", "link", "set", "mv0", "up")
	neighbour(a, "10.1.0.9", "mv0")
	return bench{from: a, to: "10.1.0.9"}
}

// benchMacvlanSibling: the destination is on a macvlan of the same parent.
func benchMacvlanSibling(t *testing.T) bench {
	a, b, h := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	sink(h, "s0", "")
	for _, m := range []struct {
		ns   *testenv.NetNS
		addr string
	}{{a, "10.1.0.1"}, {b, "10.1.0.2"}} {
		h.Run("ip", "link", "add", "mv0", "link", "s0", "netns", m.ns.Path(), "type", "macvlan", "mode", "bridge")
		m.ns.Run("ip", "addr", "add", m.addr+"/24", "dev", "mv0")
		m.ns.Run("ip", "link", "set", "mv0", "up")
	}
	return bench{from: a, to: "10.1.0.2", at: b}
}

func benchOwnAddress(t *testing.T) bench {
	b := benchSink(t)
	b.to, b.at = "10.1.0.1", b.from
	return b
}

func benchLoopback(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	return bench{from: a, to: "127.0.0.1", at: a}
}

func benchTun(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	openTun(t, a, "t0")
	a.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "t0")
	a.Run("ip", "link", "set", "t0", "up")
	return bench{from: a, to: "10.1.0.2"}
}

func benchVXLAN(t *testing.T, under func(*testing.T) bench) bench {
	b := under(t)
	b.from.Run("ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "remote", b.to, "dstport", "4789")
	b.from.Run("ip", "addr", "add", "10.7.0.1/24", "dev", "vx0")
	b.from.Run("ip", "link", "set", "vx0", "up")
	neighbour(b.from, "10.7.0.2", "vx0")
	return bench{from: b.from, to: "10.7.0.2"}
}

func with(build func(*testing.T) bench, args ...string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := build(t)
		b.from.Run(args[0], args[1:]...)
		return b
	}
}

// TestPathAgainstCompletions sends datagrams with MSG_ZEROCOPY over every kind
// of path this machine can make and compares the completions, which for UDP
// tell the truth, with the predictions.
func TestPathAgainstCompletions(t *testing.T) {
	for _, c := range []struct {
		name   string
		build  func(*testing.T) bench
		hops   string
		causes string // of one datagram at the MTU
	}{
		{"sink", benchSink, "s0", ""},
		{"sink without scatter-gather", with(benchSink, "ethtool", "-K", "s0", "sg", "off"), "s0", "no-scatter-gather"},
		{"sink without checksum", with(benchSink, "ethtool", "-K", "s0", "tx", "off"), "s0", "no-tx-csum checksum-pass"},
		{"sink without segmentation", with(benchSink, "ethtool", "-K", "s0", "tso", "off", "gso", "off"), "s0", ""},
		{"sink with a route MTU", with(benchSink, "ip", "route", "add", "10.1.0.2/32", "dev", "s0", "mtu", "1000"), "s0", ""},
		{"loopback", benchLoopback, "lo", "loopback-delivery"},
		{"own address", benchOwnAddress, "lo", "loopback-delivery"},
		{"veth", benchVeth, "va", "loopback-delivery"},
		{"routed to a sink", benchRouted, "va :s0", "|veth-routed-ingress"},
		{"routed to a namespace", benchRoutedDelivered, "va :wr", "loopback-delivery|veth-routed-ingress"},
		{"bridge to a namespace", benchBridgeOwn, "br0 p1", "loopback-delivery"},
		{"bridge to a sink", benchBridgeOwnSink, "br0 s0", ""},
		{"container, bridged", benchContainer, "eth0 :up0", ""},
		{"container, routed", benchContainerRouted, "eth0 :up0", "|veth-routed-ingress"},
		{"macvlan", benchMacvlan, "mv0 s0", ""},
		{"macvlan, parent without scatter-gather", with(benchMacvlan, "ethtool", "-K", "s0", "sg", "off"), "mv0 s0", "no-scatter-gather"},
		{"macvlan sibling", benchMacvlanSibling, "mv0", "loopback-delivery"},
		{"tun", benchTun, "t0", "no-tx-csum checksum-pass tun-tap"},
		{"vxlan over a sink", func(t *testing.T) bench { return benchVXLAN(t, benchSink) }, "vx0 s0", ""},
		{"vxlan over veth", func(t *testing.T) bench { return benchVXLAN(t, benchVeth) }, "vx0 va", "loopback-delivery"},
		{"vxlan over a bridge", func(t *testing.T) bench { return benchVXLAN(t, benchBridgeOwnSink) }, "vx0 br0 s0", "unknown"},
		{"vxlan over macvlan", func(t *testing.T) bench { return benchVXLAN(t, benchMacvlan) }, "vx0 mv0 s0", ""},
		{"vxlan over loopback", func(t *testing.T) bench { return benchVXLAN(t, benchOwnAddress) }, "vx0", "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			r := predictIn(t, b.from, b.to)
			if got := hopNames(r); got != c.hops {
				t.Errorf("hops %q, want %q; limits %q", got, c.hops, r.Limits)
			}
			var at uint64
			for _, a := range r.APIs {
				if a.API != "msg_zerocopy" || a.Protocol != "udp" || off(a.Supported) {
					continue
				}
				segment := 0
				if at == 0 {
					at = a.SizeBytes
					checkCauses(t, a, c.causes)
				} else if a.SizeBytes > at+1 {
					segment = int(at)
				}
				compareCode(t, b, a, segment)
			}
		})
	}
}

// checkCauses compares the causes of a row with alternatives between bars.
// "unknown" wants no answer.
func checkCauses(t *testing.T, a APIReport, want string) {
	t.Helper()
	if want == "unknown" {
		if a.Copies != nil || a.ZeroCopy != ZeroCopyUnknown {
			t.Errorf("%s copies, zero-copy %s (%s), want unknown", copiesOf(a), a.ZeroCopy, a.Detail)
		}
		return
	}
	got := strings.TrimSpace(strings.Replace(causeIDs(a), "udp-linear-head", "", 1)) // 5.10 alone
	if !slices.Contains(strings.Split(want, "|"), got) {
		t.Errorf("causes %q, want %q; %s", got, want, a.Detail)
	}
}

// compareCode sends what a row describes and compares.
func compareCode(t *testing.T, b bench, a APIReport, segment int) {
	t.Helper()
	code, err := sendLoan(b.from, b.to, int(a.SizeBytes), segment)
	switch {
	case a.Copies == nil && a.ZeroCopy == ZeroCopyUnknown:
		return
	case a.Copies == nil && a.ZeroCopy == ZeroCopyNo && (code == 1 || errors.Is(err, unix.EIO)):
		return // refused or copied, and how often depends on what cannot be seen
	case err != nil:
		t.Errorf("MSG_ZEROCOPY of %d bytes in segments of %d: %v; predicted: %s", a.SizeBytes, segment, err, a.Detail)
		return
	}
	if a.Copies == nil || (*a.Copies > 0) != (code == 1) {
		t.Errorf("%d bytes in segments of %d: predicted %s copies, completion code %d; causes %v, %s",
			a.SizeBytes, segment, copiesOf(a), code, a.Causes, a.Detail)
	}
}
