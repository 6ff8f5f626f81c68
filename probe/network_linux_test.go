package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A place is a network namespace that a test may change and look at with other
// tools: testenv.NetNS, or the whole machine in a guest.
type place interface {
	Run(name string, args ...string) string
	Try(name string, args ...string) (string, error)
	Do(fn func())
}

// networkOf reads the namespace of a place as Collect would.
func networkOf(t testing.TB, p place) Network {
	t.Helper()
	var n Network
	p.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			n = findNamespaces(liveSources()).readNetwork(t.Context(), "")
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	if n.Error != "" {
		t.Errorf("network: %s", n.Error)
	}
	return n
}

func linkNamed(t testing.TB, n Network, name string) Link {
	t.Helper()
	i := slices.IndexFunc(n.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		t.Errorf("no link %s in %v", name, linkNames(n))
		return Link{}
	}
	return n.Links[i]
}

func linkNames(n Network) []string {
	var names []string
	for _, l := range n.Links {
		names = append(names, l.Name)
	}
	return names
}

// machine is the whole machine a guest test runs on.
type machine struct{ t *testing.T }

func (m machine) Do(fn func()) { fn() }

func (m machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.Try(name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

func (m machine) Try(name string, args ...string) (string, error) {
	m.t.Helper()
	return runTool(testenv.Tool(m.t, name), args...)
}

// standIns makes devices of every kind a test can make without hardware, in
// the order they need each other; input of ip -batch.
const standIns = `
link add v0 mtu 1400 type veth peer name v1
link add v2 type veth peer name v3
link set v0 up
link set v1 up
link set v1 gso_max_size 30000 gso_max_segs 20
link add ifb9 type ifb
link add br0 type bridge
link set v1 master br0
link set br0 up
tuntap add dev tun9 mode tun
tuntap add dev tap9 mode tap
link set tap9 up
link add mv0 link v0 type macvlan mode bridge
link add mv1 link v0 type macvlan mode private
link add mvt0 link v0 type macvtap mode vepa
link add vx0 type vxlan id 1 remote 192.0.2.1 local 192.0.2.2 dev v0 dstport 4789
link add vx1 type vxlan id 2 remote 2001:db8::1 dev v0 dstport 4790 udp6zerocsumtx
link add vx2 type vxlan id 3 group 239.1.1.1 dev v0 dstport 8472
link add vx3 type vxlan external dstport 4791
link add vx4 type vxlan id 4 remote 192.0.2.1 dstport 4792 noudpcsum
link add vx5 type vxlan id 5 local 192.0.2.2 dstport 4793 udpcsum
link add d0 type dummy
link add d1 type dummy
link add d2 type dummy
link add link v0 name v0.7 type vlan id 7
link add bo0 type bond mode active-backup miimon 100
link set d0 master bo0
link set d1 master bo0
link set bo0 up
link add bo1 type bond mode 802.3ad
link add te0 type team
link set d2 master te0
link add link v2 name iv0 type ipvlan mode l2
link add ge0 type geneve id 1 remote 192.0.2.1
link add ge1 type geneve id 2 remote 2001:db8::1 dstport 7000 udp6zerocsumtx
link add ge2 type geneve external dstport 7001
link add ge3 type geneve id 3 remote 192.0.2.1 dstport 7002 udpcsum
link add gre9 type gre remote 192.0.2.1 local 192.0.2.2 dev v0
link add gre8 type gre remote 192.0.2.3 csum
link add gt9 type gretap remote 192.0.2.1 local 192.0.2.2
link add ipip9 type ipip remote 192.0.2.1 local 192.0.2.2 dev v0
link add sit9 type sit remote 192.0.2.1 local 192.0.2.2
link add i6t9 type ip6tnl remote 2001:db8::1 local 2001:db8::2
link add i6g9 type ip6gre remote 2001:db8::1 local 2001:db8::2
link add vti9 type vti remote 192.0.2.1 local 192.0.2.2 key 3
link add vrf9 type vrf table 9
link add wg9 type wireguard
link add nka type netkit
`

// makeLinks makes a device of each kind the kernel has, and returns those kinds.
func makeLinks(t *testing.T, p place) map[string]bool {
	t.Helper()
	batch := filepath.Join(t.TempDir(), "links")
	if err := os.WriteFile(batch, []byte(standIns), 0o600); err != nil {
		t.Fatal(err)
	}
	// One process for all: in a guest each takes a second.
	if _, err := p.Try("ip", "-force", "-batch", batch); err != nil {
		t.Logf("kinds this kernel lacks: %v", err)
	}
	have := map[string]bool{}
	var links []ipLink
	if err := json.Unmarshal([]byte(p.Run("ip", "-j", "-d", "link")), &links); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		have[l.LinkInfo.InfoKind] = true
	}
	return have
}

func TestNetworkAgreesWithTools(t *testing.T) {
	ns := testenv.NewNetNS(t)
	have := makeLinks(t, ns)
	for _, kind := range []string{"veth", "ifb", "bridge", "tun", "macvlan", "vxlan"} {
		if !have[kind] {
			t.Errorf("this kernel makes no %s", kind)
		}
	}
	n := agreesWithIP(t, ns)
	agreesWithEthtool(t, ns, n)

	for _, args := range []string{"v0 sg off", "v0 sg on tso off", "v0 tx off", "v0 tx on tso on gso off", "br0 sg off", "vx0 tx off", "ifb9 sg off", "tap9 sg off"} {
		ns.Run("ethtool", append([]string{"-K"}, strings.Fields(args)...)...)
		agreesWithEthtool(t, ns, networkOf(t, ns))
	}
}

// TestOwnNetworkAgreesWithTools reads the namespace the tests run in, and
// changes nothing there.
func TestOwnNetworkAgreesWithTools(t *testing.T) {
	p := machine{t}
	n := agreesWithIP(t, p)
	agreesWithEthtool(t, p, n)
	for _, l := range n.Links {
		_, err := os.Stat(filepath.Join("/sys/class/net", l.Name, "device"))
		if l.HasDev != (err == nil) {
			t.Errorf("%s: bus device %t, /sys says %v", l.Name, l.HasDev, err)
		}
	}
}

// TestGuestNetworkAgreesWithTools covers the kernels and kinds of device that
// the machine the tests run on lacks.
func TestGuestNetworkAgreesWithTools(t *testing.T) {
	series := testenv.Guest(t)
	ns := testenv.NewNetNS(t)
	have := makeLinks(t, ns)
	for _, kind := range []string{"bond", "vlan", "team", "dummy", "vxlan", "wireguard", "macvlan", "ipvlan", "veth"} {
		if !have[kind] {
			t.Errorf("Linux %s makes no %s here", series, kind)
		}
	}
	n := agreesWithIP(t, ns)
	agreesWithEthtool(t, ns, n)
	for _, args := range []string{"v0 sg off", "v0 sg on tso off", "v0 tx off", "v0 tx on tso on gso off"} {
		ns.Run("ethtool", append([]string{"-K"}, strings.Fields(args)...)...)
		v0 := linkNamed(t, networkOf(t, ns), "v0")
		agreesWithEthtool(t, ns, Network{Links: []Link{v0}})
	}
}

// runTool runs a program and returns its standard output.
func runTool(path string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// networkReply is what childNetwork sends back.
type networkReply struct {
	Network    Network
	Namespaces int
	Proc       bool // there is a /proc
}

// childNetwork reads the namespace the child is in.
func childNetwork(t *testing.T, _ json.RawMessage) any {
	var r networkReply
	err := onProbeThread(t.Context(), func() error {
		tab := findNamespaces(liveSources())
		r.Network, r.Namespaces = tab.readNetwork(t.Context(), ""), len(tab.list())
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	_, err = os.Stat("/proc/self")
	r.Proc = err == nil
	return r
}

// TestNetworkWithLess reads the same devices with fewer rights and files.
func TestNetworkWithLess(t *testing.T) {
	ns := testenv.NewNetNS(t)
	makeLinks(t, ns)
	ns.Run("ethtool", "-K", "v0", "sg", "off")
	want := networkOf(t, ns)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unshare := testenv.Tool(t, "unshare")
	for _, c := range []struct {
		name  string
		setup func(*exec.Cmd)
		proc  bool
		caps  bool
	}{
		{"as nobody", asNobody, true, false},
		{"no /proc and no /sys", func(cmd *exec.Cmd) {
			hide := `mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec "$0" "$@"`
			cmd.Path, cmd.Args = unshare, append([]string{"unshare", "-m", "sh", "-c", hide, exe}, cmd.Args[1:]...)
		}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r networkReply
			runChild(t, ns, "network", nil, &r, c.setup)
			if r.Proc != c.proc || r.Namespaces < 1 || r.Network.Error != "" {
				t.Errorf("/proc %t, %d namespaces, error %q", r.Proc, r.Namespaces, r.Network.Error)
			}
			if !slices.Equal(linkNames(r.Network), linkNames(want)) {
				t.Fatalf("links %v, want %v", linkNames(r.Network), linkNames(want))
			}
			for i, l := range r.Network.Links {
				if !c.caps {
					if l.TCIngress != tcUnknown || l.TCEgress != tcUnknown {
						t.Errorf("%s: BPF programs %q and %q, which nobody may not see", l.Name, l.TCIngress, l.TCEgress)
					}
					l.TCIngress, l.TCEgress = want.Links[i].TCIngress, want.Links[i].TCEgress
				}
				l.State, l.Flags = want.Links[i].State, want.Links[i].Flags // not at rest yet
				if !reflect.DeepEqual(l, want.Links[i]) {
					t.Errorf("got  %+v\nwant %+v", l, want.Links[i])
				}
			}
		})
	}
}
