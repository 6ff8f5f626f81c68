package probe

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGuestPath compares predictions with completions on kernels and over kinds
// of device that the machine the tests run on lacks.
func TestGuestPath(t *testing.T) {
	testenv.Guest(t)
	// Of the others, those where kernels differ.
	differ := []string{
		"sink without checksum", "loopback", "routed to a sink", "routed to a namespace", "container, routed",
		"macvlan sibling", "tun", "vxlan over a sink", "vxlan over a bridge",
	}
	for _, c := range commonPaths {
		if slices.Contains(differ, c.name) {
			testCompletions(t, []completionCase{c})
		}
	}
	testCompletions(t, guestPaths)
}

// dummy makes a device that swallows what it sends and, unlike ifb, can be a
// port of a bond.
func dummy(name string, addrs ...string) []string {
	return append([]string{"link add " + name + " type dummy", "link set " + name + " up"}, address(name, addrs...)...)
}

// stacked puts a device up0 on s0 and s1.
func stacked(below func(name string, addrs ...string) []string, commands ...string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		a := testenv.NewNetNS(t)
		setUp(t, a, slices.Concat(below("s0"), below("s1"), commands, address("up0", "10.1.0.1"), []string{someone("10.1.0.2", "up0")})...)
		return bench{from: a, to: "10.1.0.2"}
	}
}

func bonded(mode string) func(*testing.T) bench {
	return stacked(dummy, "link set s0 down", "link set s1 down", "link add up0 type bond mode "+mode,
		"link set s0 master up0", "link set s1 master up0")
}

// guestPaths cannot be made on every machine.
var guestPaths = []completionCase{
	{"dummy", func(t *testing.T) bench {
		a := testenv.NewNetNS(t)
		setUp(t, a, dummy("d0", "10.1.0.1")...)
		return bench{from: a, to: "10.1.0.2"}
	}, "d0", ""},
	{"vlan", stacked(sink, "link add link s0 name up0 type vlan id 7"), "up0 s0", ""},
	{"vlan, parent without scatter-gather", with(stacked(sink, "link add link s0 name up0 type vlan id 7"), "ethtool", "-K", "s0", "sg", "off"), "up0 s0", "no-scatter-gather"},
	{"vlan without checksum", with(stacked(sink, "link add link s0 name up0 type vlan id 7"), "ethtool", "-K", "up0", "tx", "off"), "up0 s0", "no-tx-csum checksum-pass"},
	{"vlan on dummy, which offers nothing for tags", stacked(dummy, "link add link s0 name up0 type vlan id 7"), "up0 s0", "vlan-features checksum-pass"},
	{"active backup", with(bonded("active-backup"), "ip", "link", "set", "up0", "type", "bond", "active_slave", "s0"), "up0 s0", ""},
	{"active backup, backup without scatter-gather", with(with(bonded("active-backup"), "ip", "link", "set", "up0", "type", "bond", "active_slave", "s0"),
		"ethtool", "-K", "s1", "sg", "off"), "up0 s0", ""},
	{"active backup without scatter-gather", with(with(bonded("active-backup"), "ip", "link", "set", "up0", "type", "bond", "active_slave", "s1"),
		"ethtool", "-K", "s1", "sg", "off"), "up0 s1", "no-scatter-gather"},
	{"round robin", bonded("balance-rr"), "up0 s0 s1", ""},
	{"broadcast", bonded("broadcast"), "up0 s0 s1", ""},
	{"vlan on a bond of dummies", stacked(dummy, "link set s0 down", "link set s1 down", "link add bo0 type bond mode balance-rr", "link set s0 master bo0",
		"link set s1 master bo0", "link set bo0 up", "link add link bo0 name up0 type vlan id 7"), "up0 bo0 s0 s1", "|vlan-features|vlan-features checksum-pass"},
	{"team", benchTeam, "up0 s0", ""},
	{"team without checksum", with(benchTeam, "ethtool", "-K", "s0", "tx", "off"), "up0 s0", "no-tx-csum checksum-pass"},
	{"ipvlan", stacked(sink, "link add up0 link s0 type ipvlan mode l2"), "up0 s0", ""},
	{"ipvlan of layer 3, parent without scatter-gather", with(stacked(sink, "link add up0 link s0 type ipvlan mode l3"), "ethtool", "-K", "s0", "sg", "off"), "up0 s0", "no-scatter-gather"},
	{"ipvlan sibling", benchIPvlanSibling, "up0", "loopback-delivery"},
	{"geneve", tunnelled(benchSink, "geneve id 7 remote REMOTE"), "tn0 s0", ""},
	{"gre", tunnelled(benchSink, "gre remote REMOTE local 10.1.0.1"), "tn0 s0", ""},
	{"gretap", tunnelled(benchSink, "gretap remote REMOTE local 10.1.0.1"), "tn0 s0", ""},
	{"ipip", tunnelled(benchSink, "ipip remote REMOTE local 10.1.0.1"), "tn0 s0", ""},
	{"vxlan over IPv6", tunnelled(benchVeth6, "vxlan id 7 remote REMOTE local fd00::1 dstport 4789"), "tn0 va", "loopback-delivery"},
	{"ipsec", benchIPsec, "s0", "ipsec-sw checksum-pass"},
	{"wireguard", benchWireGuard, "wg0", "wireguard checksum-pass"},
}

func benchIPvlanSibling(t *testing.T) bench {
	a, b, h := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	setUp(t, h, append(sink("s0"), "link add up0 link s0 netns "+a.Path()+" type ipvlan mode l2",
		"link add up0 link s0 netns "+b.Path()+" type ipvlan mode l2")...)
	setUp(t, a, address("up0", "10.1.0.1")...)
	setUp(t, b, address("up0", "10.1.0.2")...)
	return bench{from: a, to: "10.1.0.2", at: b}
}

// genl asks a generic netlink family of a namespace for something.
func genl(t *testing.T, ns *testenv.NetNS, family string, cmd byte, attrs []byte) {
	t.Helper()
	var err error
	ns.Do(func() {
		var nl *sys.Netlink
		if nl, err = sys.OpenNetlink(sys.NetlinkGeneric); err != nil {
			return
		}
		defer nl.Close()
		name := sys.AppendNetlinkAttr([]byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}, unix.CTRL_ATTR_FAMILY_NAME, append([]byte(family), 0))
		var msgs []sys.NetlinkMessage
		if msgs, err = nl.Query(unix.GENL_ID_CTRL, 0, name); err != nil || len(msgs) == 0 {
			return
		}
		var id uint16
		err = sys.EachNetlinkAttr(msgs[0].Body[4:], func(typ uint16, v []byte) error {
			if typ == unix.CTRL_ATTR_FAMILY_ID {
				id = binary.NativeEndian.Uint16(v)
			}
			return nil
		})
		if err == nil {
			_, err = nl.Query(id, 0, append([]byte{cmd, 1, 0, 0}, attrs...))
		}
	})
	if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: done, and nobody listens to the news of it
		t.Fatalf("%s: %v", family, err)
	}
}

func ifindex(t *testing.T, ns *testenv.NetNS, dev string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(strings.SplitN(ns.Run("ip", "-o", "link", "show", "dev", dev), ":", 2)[0], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func attr32(b []byte, typ uint16, v uint32) []byte {
	return sys.AppendNetlinkAttr(b, typ, binary.NativeEndian.AppendUint32(nil, v))
}

func nested(b []byte, typ uint16, inner []byte) []byte {
	return sys.AppendNetlinkAttr(b, typ|unix.NLA_F_NESTED, inner)
}

// benchTeam makes a team in the mode roundrobin: a new team has none and drops
// what it is given. Numbers from linux/if_team.h.
func benchTeam(t *testing.T) bench {
	a := testenv.NewNetNS(t)
	setUp(t, a, append(dummy("s0"), "link add up0 type team")...)
	option := sys.AppendNetlinkAttr(nil, 1, []byte("mode\x00"))         // TEAM_ATTR_OPTION_NAME
	option = sys.AppendNetlinkAttr(option, 3, []byte{5})                // TEAM_ATTR_OPTION_TYPE, NLA_STRING
	option = sys.AppendNetlinkAttr(option, 4, []byte("roundrobin\x00")) // TEAM_ATTR_OPTION_DATA
	body := attr32(nil, 1, ifindex(t, a, "up0"))                        // TEAM_ATTR_TEAM_IFINDEX
	genl(t, a, "team", 1, nested(body, 2, nested(nil, 1, option)))      // TEAM_CMD_OPTIONS_SET
	setUp(t, a, slices.Concat([]string{"link set s0 down", "link set s0 master up0"}, address("up0", "10.1.0.1"), []string{someone("10.1.0.2", "up0")})...)
	return bench{from: a, to: "10.1.0.2"}
}

// benchIPsec encrypts what goes to a sink.
func benchIPsec(t *testing.T) bench {
	b := benchSink(t)
	const ends = "src 10.1.0.1 dst 10.1.0.2"
	_, err := b.from.Try("ip", strings.Fields("xfrm state add "+ends+" proto esp spi 0x100 mode transport "+
		"enc cbc(aes) 0x00112233445566778899aabbccddeeff auth hmac(sha1) 0x00112233445566778899aabbccddeeff00112233")...)
	if err != nil {
		t.Skipf("needs a kernel with ESP: %v", err)
	}
	setUp(t, b.from, "xfrm policy add "+ends+" dir out tmpl "+ends+" proto esp mode transport")
	return b
}

// benchWireGuard joins two namespaces by a tunnel over veth.
func benchWireGuard(t *testing.T) bench {
	under := benchVeth(t)
	type end struct {
		ns          *testenv.NetNS
		inner, veth string
		key         *ecdh.PrivateKey
	}
	var ends [2]end
	for i, ns := range []*testenv.NetNS{under.from, under.at} {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		n := strconv.Itoa(i + 1)
		ends[i] = end{ns: ns, inner: "10.7.0." + n, veth: "10.1.0." + n, key: key}
		setUp(t, ns, append([]string{"link add wg0 type wireguard"}, address("wg0", ends[i].inner)...)...)
	}
	for i, e := range ends {
		peer := ends[1-i]
		allowed := sys.AppendNetlinkAttr(nil, 1, binary.NativeEndian.AppendUint16(nil, unix.AF_INET))
		allowed = sys.AppendNetlinkAttr(allowed, 2, []byte{10, 7, 0, 0})
		allowed = sys.AppendNetlinkAttr(allowed, 3, []byte{24})
		endpoint := binary.NativeEndian.AppendUint16(nil, unix.AF_INET) // struct sockaddr_in
		endpoint = append(binary.BigEndian.AppendUint16(endpoint, 51820), 10, 1, 0, byte(2-i))
		endpoint = append(endpoint, make([]byte, 8)...)
		p := sys.AppendNetlinkAttr(nil, 1, peer.key.PublicKey().Bytes()) // WGPEER_A_PUBLIC_KEY
		p = sys.AppendNetlinkAttr(p, 4, endpoint)                        // WGPEER_A_ENDPOINT
		p = nested(p, 9, nested(nil, 0, allowed))                        // WGPEER_A_ALLOWEDIPS
		body := attr32(nil, 1, ifindex(t, e.ns, "wg0"))                  // WGDEVICE_A_IFINDEX
		body = sys.AppendNetlinkAttr(body, 3, e.key.Bytes())             // WGDEVICE_A_PRIVATE_KEY
		body = sys.AppendNetlinkAttr(body, 6, binary.NativeEndian.AppendUint16(nil, 51820))
		body = nested(body, 8, nested(nil, 0, p)) // WGDEVICE_A_PEERS
		genl(t, e.ns, "wireguard", 1, body)       // WG_CMD_SET_DEVICE
	}
	return bench{from: under.from, to: "10.7.0.2"}
}

// borrowed puts the guest's NICs of some drivers into a namespace for the
// length of a test, as nic0, nic1, ...
func borrowed(t *testing.T, drivers ...string) *testenv.NetNS {
	t.Helper()
	names := make([]string, len(drivers))
	for i, d := range drivers {
		names[i] = testenv.GuestNIC(t, d)
	}
	ns := testenv.NewNetNS(t)
	for i, name := range names {
		addr := machine{t}.Run("ip", "-o", "-4", "addr", "show", "dev", name)
		nic := "nic" + strconv.Itoa(i)
		setUpMachine(t, "link set "+name+" netns "+ns.Path())
		setUp(t, ns, "link set "+name+" name "+nic)
		t.Cleanup(func() {
			setUp(t, ns, "link set "+nic+" nomaster", "link set "+nic+" down", "link set "+nic+" name "+name, "link set "+name+" netns 1")
			back := []string{"link set " + name + " up"}
			if f := strings.Fields(addr); len(f) > 3 {
				back = append(back, "addr add "+f[3]+" dev "+name)
			}
			setUpMachine(t, back...)
		})
	}
	return ns
}

// setUpMachine runs ip(8) commands in the guest's first namespace.
func setUpMachine(t *testing.T, commands ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "ip"), "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip %q: %v: %s", commands, err, out)
	}
}

// TestGuestPathNICs sends by emulated hardware: nic0 has every offload that
// matters, nic1 none.
func TestGuestPathNICs(t *testing.T) {
	testenv.Guest(t)
	ns := borrowed(t, "e1000e", "ne2k-pci")
	bond := []string{"link add up0 type bond mode active-backup", "link set nic0 master up0", "link set nic1 master up0", "link set up0 up"}
	tunnel := append([]string{"link add up0 type vxlan id 7 remote 10.2.0.2 dstport 4789", "link set nic0 up", someone("10.2.0.2", "nic0")}, address("nic0", "10.2.0.1")...)
	for _, c := range []struct {
		name     string
		commands []string // that make up0; none: nic0 itself
		off      string   // feature of nic0 to switch off, as ethtool calls it
		completionCase
	}{
		{"e1000e", nil, "", completionCase{hops: "nic0"}},
		{"e1000e without scatter-gather", nil, "sg", completionCase{hops: "nic0", causes: "no-scatter-gather"}},
		{"e1000e without checksum", nil, "tx", completionCase{hops: "nic0", causes: "no-tx-csum checksum-pass"}},
		{"ne2k", []string{}, "", completionCase{hops: "nic1", causes: "no-scatter-gather checksum-pass"}},
		{"vlan on e1000e", []string{"link set nic0 up", "link add link nic0 name up0 type vlan id 7"}, "", completionCase{hops: "up0 nic0"}},
		{"vlan on ne2k", []string{"link set nic1 up", "link add link nic1 name up0 type vlan id 7"}, "", completionCase{hops: "up0 nic1", causes: "no-scatter-gather checksum-pass"}},
		{"macvlan on ne2k", []string{"link set nic1 up", "link add up0 link nic1 type macvlan mode bridge"}, "", completionCase{hops: "up0 nic1", causes: "no-scatter-gather checksum-pass"}},
		{"bond by e1000e", append(slices.Clone(bond), "link set up0 type bond active_slave nic0"), "", completionCase{hops: "up0 nic0"}},
		{"bond by ne2k", append(slices.Clone(bond), "link set up0 type bond active_slave nic1"), "", completionCase{hops: "up0 nic1", causes: "no-scatter-gather checksum-pass"}},
		{"bridge on e1000e", []string{"link add up0 type bridge", "link set nic0 master up0", "link set nic0 up"}, "", completionCase{hops: "up0 nic0"}},
		{"vxlan on e1000e", tunnel, "", completionCase{hops: "up0 nic0", causes: "encap-features checksum-pass"}},
	} {
		c.completionCase.name = c.name
		c.build = func(t *testing.T) bench { return onNICs(t, ns, c.commands, c.off) }
		testCompletions(t, []completionCase{c.completionCase})
	}
	t.Run("round robin", func(t *testing.T) {
		b := onNICs(t, ns, append([]string{"link add up0 type bond mode balance-rr"}, bond[1:]...), "")
		r := predictIn(t, b.from, b.to)
		a := row(t, r, "msg_zerocopy", "udp", "memory", 0)
		if hopNames(r) != "up0 nic0 nic1" || copiesOf(a) != "1" || !off(r.ScatterGather) || len(r.Blockers) == 0 || r.Blockers[0].Device != "nic1" {
			t.Errorf("hops %s, scatter-gather %s, %s copies, blockers %v", hopNames(r), onOff(r.ScatterGather), copiesOf(a), r.Blockers)
		}
		var codes [2]int
		for range 6 {
			code, err := sendLoan(b.from, b.to, int(a.SizeBytes), 0)
			if err != nil {
				t.Fatal(err)
			}
			codes[code&1]++
		}
		if codes[0] == 0 || codes[1] == 0 {
			t.Errorf("completions not copied and copied %v, want both", codes)
		}
	})
}

// onNICs makes up0 of the NICs by ip(8) commands and takes it down afterwards.
// Without commands it is nic0, with an empty list nic1.
func onNICs(t *testing.T, ns *testenv.NetNS, commands []string, feature string) bench {
	t.Helper()
	dev, undo := "up0", []string{"link del up0"}
	if len(commands) == 0 {
		dev, undo = "nic0", nil
		if commands != nil {
			dev = "nic1"
		}
	}
	undo = append(undo, "addr flush dev nic0", "addr flush dev nic1", "link set nic0 down", "link set nic1 down")
	if feature != "" {
		ns.Run("ethtool", "-K", "nic0", feature, "off")
		t.Cleanup(func() { ns.Run("ethtool", "-K", "nic0", "tx", "on", "sg", "on", "tso", "on") })
	}
	setUp(t, ns, slices.Concat(commands, address(dev, "10.1.0.1"), []string{someone("10.1.0.2", dev)})...)
	t.Cleanup(func() { setUp(t, ns, undo...) })
	// Without a carrier the queue drops everything, uncopied. A driver looks for
	// it every two seconds, and until then may show what was there before.
	time.Sleep(3 * time.Second)
	eventually(t, func() bool { return !strings.Contains(ns.Run("ip", "-br", "link", "show", "up"), "NO-CARRIER") })
	return bench{from: ns, to: "10.1.0.2"}
}
