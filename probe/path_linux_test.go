package probe

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// setUp runs ip(8) once for many commands: in a guest a process takes a second.
func setUp(t *testing.T, ns *testenv.NetNS, commands ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ns.Run("ip", "-batch", file)
}

// sink makes a device that swallows what it sends. ifb is that where nothing
// redirects to it, and is in more kernels than dummy.
func sink(name string, addrs ...string) []string {
	cmds := []string{"link add " + name + " type ifb", "link set " + name + " mtu 1500 up"}
	return append(cmds, address(name, addrs...)...)
}

func address(dev string, addrs ...string) []string {
	var cmds []string
	for _, a := range addrs {
		rest := "/24 dev " + dev
		if strings.Contains(a, ":") {
			rest = "/64 nodad dev " + dev
		}
		cmds = append(cmds, "addr add "+a+rest, "link set "+dev+" up")
	}
	return cmds
}

// cable makes a veth pair to another namespace, where it is called peer. Both
// ends are brought up by giving them addresses.
func cable(name string, to *testenv.NetNS, peer string, addrs ...string) []string {
	cmds := []string{"link add " + name + " type veth peer name " + peer + " netns " + to.Path(), "link set " + name + " up"}
	return append(cmds, address(name, addrs...)...)
}

// someone makes up a neighbour on a device.
func someone(addr, dev string) string {
	return "neigh add " + addr + " lladdr 02:00:00:00:00:99 dev " + dev + " nud permanent"
}

// forward makes a namespace a router.
func forward(t *testing.T, ns *testenv.NetNS) {
	t.Helper()
	var err error
	ns.Do(func() { err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		t.Fatal(err)
	}
}

func benchSink(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	setUp(t, a, sink("s0", "10.1.0.1")...)
	return bench{from: a, to: "10.1.0.2"}
}

// benchTwoHops has a route with two next hops, on devices of which one may lack
// a feature.
func benchTwoHops(feature string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		a := testenv.NewNetNS(t)
		setUp(t, a, slices.Concat(sink("s0", "10.1.0.1"), sink("s1", "10.2.0.1"),
			[]string{"route add 10.3.0.0/24 nexthop via 10.1.0.254 nexthop via 10.2.0.254"})...)
		if feature != "" {
			a.Run("ethtool", "-K", "s1", feature, "off")
		}
		return bench{from: a, to: "10.3.0.1"}
	}
}

func benchVeth(t *testing.T) bench {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, cable("va", b, "vb", "10.1.0.1", "fd00::1")...)
	setUp(t, b, address("vb", "10.1.0.2", "fd00::2")...)
	return bench{from: a, to: "10.1.0.2", at: b}
}

func benchVeth6(t *testing.T) bench {
	b := benchVeth(t)
	b.to = "fd00::2"
	// The kernel makes an address of IPv6 usable some time after the link is up.
	eventually(t, func() bool {
		out, err := b.at.Try("ip", "-6", "route", "get", b.to)
		return err == nil && strings.Contains(out, "local")
	})
	return b
}

// eventually waits for what the kernel does in its own time.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited for ten seconds")
		}
	}
}

// benchRouted: A - R - sink.
func benchRouted(t *testing.T) bench {
	a, r := testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, cable("va", r, "vr", "10.1.0.1")...)
	setUp(t, r, slices.Concat(address("vr", "10.1.0.2"), sink("s0", "10.2.0.1"))...)
	forward(t, r)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.2")
	return bench{from: a, to: "10.2.0.2", mid: r}
}

// benchRoutedDelivered: A - R - B.
func benchRoutedDelivered(t *testing.T) bench {
	a, r, b := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, cable("va", r, "vr", "10.1.0.1")...)
	setUp(t, r, slices.Concat(address("vr", "10.1.0.2"), cable("wr", b, "wb", "10.2.0.1"))...)
	setUp(t, b, append(address("wb", "10.2.0.2"), "route add default via 10.2.0.1")...)
	forward(t, r)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.2")
	return bench{from: a, to: "10.2.0.2", at: b}
}

// benchBridgeOwn: a bridge of the sender's own, with a sink and a namespace as
// ports.
func benchBridgeOwn(t *testing.T) bench {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, slices.Concat([]string{"link add br0 type bridge"}, cable("p1", b, "vb"), sink("s0"),
		[]string{"link set p1 master br0", "link set s0 master br0"}, address("br0", "10.1.0.1"))...)
	setUp(t, b, address("vb", "10.1.0.2")...)
	return bench{from: a, to: "10.1.0.2", at: b}
}

func benchBridgeOwnSink(t *testing.T) bench {
	b := benchBridgeOwn(t)
	setUp(t, b.from, someone("10.1.0.9", "br0"))
	b.from.Run("bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "s0", "master", "static")
	b.to, b.at = "10.1.0.9", nil
	return b
}

// benchContainer: A - bridge of H - sink, as a container with a bridged uplink.
func benchContainer(t *testing.T) bench {
	a, h := testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, append(cable("eth0", h, "p1", "10.1.0.2"), someone("10.1.0.9", "eth0"))...)
	setUp(t, h, slices.Concat([]string{"link add br0 type bridge", "link set br0 up"}, sink("up0"),
		[]string{"link set p1 master br0", "link set p1 up", "link set up0 master br0"})...)
	return bench{from: a, to: "10.1.0.9"}
}

// benchContainerRouted: the bridge is the container's gateway.
func benchContainerRouted(t *testing.T) bench {
	a, h := testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, a, cable("eth0", h, "p1", "10.1.0.2")...)
	setUp(t, h, slices.Concat([]string{"link add br0 type bridge", "link set p1 master br0", "link set p1 up"},
		address("br0", "10.1.0.1"), sink("up0", "10.2.0.1"))...)
	forward(t, h)
	a.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	return bench{from: a, to: "10.2.0.9"}
}

func benchMacvlan(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	setUp(t, a, slices.Concat(sink("s0"), []string{"link add mv0 link s0 type macvlan mode bridge"},
		address("mv0", "10.1.0.1"), []string{someone("10.1.0.9", "mv0")})...)
	return bench{from: a, to: "10.1.0.9"}
}

// benchMacvlanSibling: the destination is on a macvlan of the same parent.
func benchMacvlanSibling(t *testing.T) bench {
	a, b, h := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, h, append(sink("s0"), "link add mv0 link s0 netns "+a.Path()+" type macvlan mode bridge",
		"link add mv0 link s0 netns "+b.Path()+" type macvlan mode bridge")...)
	setUp(t, a, address("mv0", "10.1.0.1")...)
	setUp(t, b, address("mv0", "10.1.0.2")...)
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
	setUp(t, a, address("t0", "10.1.0.1")...)
	return bench{from: a, to: "10.1.0.2"}
}

// tunnelled puts a tunnel over another bench; spec is what ip-link(8) takes
// after its name, with REMOTE for the other end.
func tunnelled(under func(*testing.T) bench, spec string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := under(t)
		cmds := append([]string{"link add tn0 type " + strings.ReplaceAll(spec, "REMOTE", b.to)}, address("tn0", "10.7.0.1")...)
		if strings.HasPrefix(spec, "vxlan") || strings.HasPrefix(spec, "geneve") || strings.HasPrefix(spec, "gretap") {
			cmds = append(cmds, someone("10.7.0.2", "tn0"))
		}
		setUp(t, b.from, cmds...)
		return bench{from: b.from, to: "10.7.0.2"}
	}
}

const vxlan = "vxlan id 7 remote REMOTE dstport 4789"

// with runs a command in the sender's namespace.
func with(build func(*testing.T) bench, args ...string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := build(t)
		b.from.Run(args[0], args[1:]...)
		return b
	}
}

// toward sends elsewhere.
func toward(build func(*testing.T) bench, to string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := build(t)
		b.to, b.at = to, nil
		return b
	}
}

// completionCase is a path and what the completions of datagrams on it say.
type completionCase struct {
	name   string
	build  func(*testing.T) bench
	hops   string
	causes string // of one datagram at the MTU
}

// TestPathAgainstCompletions sends datagrams with MSG_ZEROCOPY over every kind
// of path this machine can make and compares the completions, which for UDP
// tell the truth, with the predictions.
func TestPathAgainstCompletions(t *testing.T) { testCompletions(t, commonPaths) }

// commonPaths can be made on this machine as well as in guests.
var commonPaths = []completionCase{
	{"sink", benchSink, "s0", ""},
	{"sink without scatter-gather", with(benchSink, "ethtool", "-K", "s0", "sg", "off"), "s0", "no-scatter-gather"},
	{"sink without checksum", with(benchSink, "ethtool", "-K", "s0", "tx", "off"), "s0", "no-tx-csum checksum-pass"},
	{"sink without either", with(benchSink, "ethtool", "-K", "s0", "sg", "off", "tx", "off"), "s0", "no-scatter-gather checksum-pass"},
	{"sink without segmentation", with(benchSink, "ethtool", "-K", "s0", "tso", "off", "gso", "off"), "s0", ""},
	{"sink with a route MTU", with(benchSink, "ip", "route", "add", "10.1.0.2/32", "dev", "s0", "mtu", "1000"), "s0", ""},
	{"two next hops", benchTwoHops(""), "s0 s1|s1 s0", ""},
	{"two next hops, one without checksum", benchTwoHops("tx"), "s0 s1|s1 s0", "some"},
	{"broadcast", toward(benchSink, "10.1.0.255"), "s0", "loopback-delivery"},
	{"broadcast to all", toward(with(benchSink, "ip", "route", "add", "default", "dev", "s0"), "255.255.255.255"), "s0", "loopback-delivery"},
	{"multicast", toward(with(benchSink, "ip", "route", "add", "default", "dev", "s0"), "239.1.2.3"), "s0", "unknown"},
	{"loopback", benchLoopback, "lo", "loopback-delivery"},
	{"own address", benchOwnAddress, "lo", "loopback-delivery"},
	{"veth", benchVeth, "va", "loopback-delivery"},
	{"veth, IPv6", benchVeth6, "va", "loopback-delivery"},
	{"routed to a sink", benchRouted, "va :s0", "|veth-routed-ingress"},
	{"routed to a namespace", benchRoutedDelivered, "va :wr", "loopback-delivery|veth-routed-ingress"},
	{"bridge to a namespace", benchBridgeOwn, "br0 p1", "loopback-delivery"},
	{"bridge to a sink", benchBridgeOwnSink, "br0 s0", ""},
	{"container, bridged", benchContainer, "eth0 :up0", ""},
	{"container, routed", benchContainerRouted, "eth0 :up0", "|veth-routed-ingress"},
	{"macvlan", benchMacvlan, "mv0 s0", ""},
	{"macvlan, parent without scatter-gather", with(benchMacvlan, "ethtool", "-K", "s0", "sg", "off"), "mv0 s0", "no-scatter-gather"},
	{"macvlan, parent without checksum", with(benchMacvlan, "ethtool", "-K", "s0", "tx", "off"), "mv0 s0", "no-tx-csum checksum-pass"},
	{"macvlan sibling", benchMacvlanSibling, "mv0", "loopback-delivery"},
	{"tun", benchTun, "t0", "no-tx-csum checksum-pass tun-tap"},
	{"vxlan over a sink", tunnelled(benchSink, vxlan), "tn0 s0", ""},
	{"vxlan over veth", tunnelled(benchVeth, vxlan), "tn0 va", "loopback-delivery"},
	{"vxlan over a bridge", tunnelled(benchBridgeOwnSink, vxlan), "tn0 br0 s0", "unknown"},
	{"vxlan over macvlan", tunnelled(benchMacvlan, vxlan), "tn0 mv0 s0", ""},
	{"vxlan to this machine", tunnelled(benchOwnAddress, vxlan), "tn0", "unknown"},
}

func testCompletions(t *testing.T, cases []completionCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			r := predictIn(t, b.from, b.to)
			if got := hopNames(r); !slices.Contains(strings.Split(c.hops, "|"), got) {
				t.Errorf("hops %q, want %q; limits %q", got, c.hops, r.Limits)
			}
			tunnel := len(r.Hops) > 0 && r.MTU < r.Hops[0].MTU
			var at uint64
			for _, a := range r.APIs {
				if a.API != "msg_zerocopy" || a.Protocol != "udp" || off(a.Supported) {
					continue
				}
				segment := 0
				if c.causes == "some" { // of the connections
					if a.ZeroCopy != ZeroCopyNo || !strings.Contains(causeIDs(a), "no-tx-csum") && a.SizeBytes == udpPayload(false, r.MTU) {
						t.Errorf("%+v, want the worse of the two", a)
					}
					continue
				}
				if at == 0 {
					at = a.SizeBytes
					checkCauses(t, a, c.causes)
				} else if a.SizeBytes > at+1 {
					segment = int(at)
				} else if tunnel {
					// From the first datagram that is too large the kernel
					// learns the path MTU, which the prediction is for.
					if _, err := sendLoan(b.from, b.to, int(a.SizeBytes), 0); err != nil {
						t.Log(err)
					}
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
	// skb_segment copies without clearing the zero-copy flag: code 0 is a lie.
	lie := segment != 0 && slices.ContainsFunc(a.Causes, func(c PathCause) bool { return c.Mechanism == AtSegment || c.Mechanism == AtCrypto })
	code, err := sendLoan(b.from, b.to, int(a.SizeBytes), segment)
	// A device that has just been brought up throws packets away, uncopied.
	for try := 0; try < 5 && err == nil && code == 0 && a.Copies != nil && *a.Copies > 0 && !lie; try++ {
		time.Sleep(200 * time.Millisecond)
		code, err = sendLoan(b.from, b.to, int(a.SizeBytes), segment)
	}
	switch {
	case a.Copies == nil && a.ZeroCopy == ZeroCopyUnknown:
		return
	case a.Copies == nil && a.ZeroCopy == ZeroCopyNo && (code == 1 || errors.Is(err, unix.EIO)):
		return // refused or copied, and how often depends on what cannot be seen
	case err != nil:
		t.Errorf("MSG_ZEROCOPY of %d bytes in segments of %d: %v; predicted: %s", a.SizeBytes, segment, err, a.Detail)
		return
	}
	if lie && code == 0 {
		return
	}
	if a.Copies == nil || (*a.Copies > 0) != (code == 1) {
		t.Errorf("%d bytes in segments of %d: predicted %s copies, completion code %d; causes %v, %s",
			a.SizeBytes, segment, copiesOf(a), code, a.Causes, a.Detail)
	}
}
