package probe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// features in the states that ethtool -k prints as "on", "off", ...
func stateOf(word string) FeatureState {
	switch word {
	case "on":
		return FeatureState{Available: true, Requested: true, Active: true}
	case "on [fixed]":
		return FeatureState{Active: true}
	case "off":
		return FeatureState{Available: true}
	case "off [requested on]":
		return FeatureState{Available: true, Requested: true}
	case "off [fixed]":
		return FeatureState{}
	}
	panic("no such state: " + word)
}

// device returns an Ethernet device whose features are all "on", except those
// given as "name: state".
func device(name string, states ...string) Link {
	l := Link{Name: name, Index: 2, ARPHRD: 1, BondMode: -1, HasDev: true, FeaturesSource: gfeaturesSource, Features: map[string]FeatureState{
		"tx-checksum-ipv4": stateOf("off [fixed]"), "tx-checksum-ipv6": stateOf("off [fixed]"),
	}}
	for _, bit := range []string{"tx-scatter-gather", "tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"} {
		l.Features[bit] = stateOf("on")
	}
	for _, s := range states {
		bit, state, _ := strings.Cut(s, ": ")
		if state == "missing" {
			delete(l.Features, bit)
			continue
		}
		l.Features[bit] = stateOf(state)
	}
	return l
}

func judged(t *testing.T, features []Feature, dev, id string) Feature {
	t.Helper()
	i := slices.IndexFunc(features, func(f Feature) bool { return f.ID == id && f.Subject == dev })
	if i < 0 {
		t.Fatalf("no %s of %s", id, dev)
	}
	return features[i]
}

func TestJudgeNICSentences(t *testing.T) {
	const (
		sg   = "tx-scatter-gather"
		c4   = "tx-checksum-ipv4"
		c6   = "tx-checksum-ipv6"
		tso  = "tx-tcp-segmentation"
		tso6 = "tx-tcp6-segmentation"
		uso  = "tx-udp-segmentation"
	)
	gone := device("eth0")
	gone.Features, gone.FeaturesSource = nil, ""
	failed := func(err string) Link { l := gone; l.FeaturesError = err; return l }
	legacy := device("eth0", sg+": off [fixed]", tso+": missing", "tx-checksum-ipv6: missing", "tx-checksum-ip-generic: missing")
	legacy.FeaturesSource = "legacy ioctls"
	tun := device("tun0", "tx-checksum-ip-generic: off [requested on]", tso+": off [requested on]")
	tun.Kind = "tun"
	never := device("eth0")
	never.Features[sg] = FeatureState{Available: true, Requested: true, NeverChanged: true}
	never.Features[uso] = FeatureState{Available: true, Requested: true, Active: true, NeverChanged: true}
	for _, c := range []struct {
		name   string
		link   Link
		id     string
		status FeatureStatus
		detail string
		remedy string
	}{
		{"on", device("eth0"), sg, Supported, "on", ""},
		{"on, fixed", device("eth0", sg+": on [fixed]"), sg, Supported, "on, cannot be changed", ""},
		{"on, never changes", never, uso, Supported, "on, cannot be changed", ""},
		{"off, fixed", device("eth0", sg+": off [fixed]"), sg, Unsupported, "off, and the device cannot do it", ""},
		{"off, never changes", never, sg, Unsupported, "off, and the device cannot do it", ""},
		{"sg off", device("eth0", sg+": off"), sg, Disabled, "off: switched off on request", "ethtool -K eth0 sg on"},
		{"tso off", device("eth0", tso+": off"), tso, Disabled, "off: switched off on request", "ethtool -K eth0 tso on"},
		{"tso6 off", device("eth0", tso6+": off"), tso6, Disabled, "off: switched off on request", "ethtool -K eth0 tx-tcp6-segmentation on"},
		{"uso off", device("eth0", uso+": off"), uso, Disabled, "off: switched off on request", "ethtool -K eth0 tx-udp-segmentation on"},
		{"tx off", device("eth0", "tx-checksum-ip-generic: off"), c4, Disabled, "off: switched off on request", "ethtool -K eth0 tx on"},
		{"tx off, v6", device("eth0", "tx-checksum-ip-generic: off"), c6, Disabled, "off: switched off on request", "ethtool -K eth0 tx on"},
		{"tso waits for sg", device("eth0", sg+": off", tso+": off [requested on]"), tso, Disabled, "off: requested on, but scatter-gather is off", "ethtool -K eth0 sg on"},
		{"sg before checksum", device("eth0", sg+": off", "tx-checksum-ip-generic: off", tso+": off [requested on]"), tso, Disabled, "off: requested on, but scatter-gather is off", "ethtool -K eth0 sg on"},
		{"tso waits for checksum", device("eth0", "tx-checksum-ip-generic: off", tso+": off [requested on]"), tso, Disabled, "off: requested on, but checksum offload for IPv4 is off", "ethtool -K eth0 tx on"},
		{"tso6 waits for its checksum", device("eth0", "tx-checksum-ip-generic: off [fixed]", c4+": on", c6+": off", tso6+": off [requested on]"), tso6, Disabled, "off: requested on, but checksum offload for IPv6 is off", "ethtool -K eth0 tx on"},
		{"uso waits for checksum", device("eth0", "tx-checksum-ip-generic: off", uso+": off [requested on]"), uso, Disabled, "off: requested on, but checksum offload for IPv4 is off", "ethtool -K eth0 tx on"},
		{"uso without sg", device("eth0", sg+": off"), uso, Supported, "on", ""},
		{"all off", device("eth0", sg+": off", "tx-checksum-ip-generic: off", tso+": off"), tso, Disabled, "off: switched off on request", "ethtool -K eth0 sg on tx on tso on"},
		{"tso wants sg in vain", device("eth0", sg+": off [fixed]", tso+": off [requested on]"), tso, Unsupported, "off: requested on, but scatter-gather is off and the device cannot do it", ""},
		{"tso off, sg in vain", device("eth0", sg+": off [fixed]", tso+": off"), tso, Unsupported, "off, and it needs scatter-gather, which the device cannot do", ""},
		{"not granted", device("eth0", sg+": off [requested on]"), sg, Unsupported, "off: requested on, but the driver does not grant it", ""},
		{"v4 bit is enough for v4", device("eth0", "tx-checksum-ip-generic: off [fixed]", c4+": on"), c4, Supported, "on", ""},
		{"and not for v6", device("eth0", "tx-checksum-ip-generic: off [fixed]", c4+": on"), c6, Unsupported, "off, and the device cannot do it", ""},
		{"v6 bit can be had", device("eth0", "tx-checksum-ip-generic: off [fixed]", c6+": off"), c6, Disabled, "off: switched off on request", "ethtool -K eth0 tx on"},
		{"kernel without it", device("eth0", uso+": missing"), uso, Unsupported, "this kernel does not have the feature", ""},
		{"tun", tun, tso, Disabled, "off: requested on, but checksum offload for IPv4 is off", "let the program that holds tun0 accept it (ioctl TUNSETOFFLOAD)"},
		{"gone", failed("ENODEV"), sg, UnknownFeature, "the device disappeared while it was looked at", ""},
		{"denied", failed("EPERM"), sg, Denied, "this process is not permitted to read the device's features", ""},
		{"no ethtool", failed("EOPNOTSUPP"), sg, UnknownFeature, "this kernel does not tell the device's features (EOPNOTSUPP)", ""},
		{"nonsense", failed("5 strings, 2 were announced"), sg, UnknownFeature, "the device's features could not be read: 5 strings, 2 were announced", ""},
		{"nothing", failed(""), sg, UnknownFeature, "the device's features were not read", ""},
		{"legacy off", legacy, sg, UnknownFeature, "off; whether the device can do it is not told by the ioctls this kernel has", ""},
		{"legacy open", legacy, tso, UnknownFeature, "the ioctls this kernel has do not tell this feature from similar ones", ""},
		{"legacy half open", legacy, c4, UnknownFeature, "the ioctls this kernel has do not tell this feature from similar ones", ""},
		{"hostile name", device("a;b'$(c)", sg+": off"), sg, Disabled, "off: switched off on request", `ethtool -K 'a;b'\''$(c)' sg on`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, features := judgeNICs(&Facts{Networks: []Network{{Links: []Link{c.link}}}}, "")
			f := judged(t, features, c.link.Name, "nic."+c.id)
			if f.Status != c.status || f.Detail != c.detail || f.Remedy != c.remedy {
				t.Errorf("got  %s %q %q\nwant %s %q %q", f.Status, f.Detail, f.Remedy, c.status, c.detail, c.remedy)
			}
			if len(f.Evidence) == 0 && !strings.Contains(f.Detail, "kernel") {
				t.Error("no evidence")
			}
		})
	}
}

// stackFacts is a host with a vlan on a bond of two ports, a macvlan, a bridge
// with a veth whose peer is here, a vxlan over eth2, and lo.
func stackFacts() *Facts {
	link := func(index int, name, kind string, l Link) Link {
		l.Index, l.Name, l.Kind, l.HasDev = index, name, kind, kind == ""
		return l
	}
	lo := link(1, "lo", "", device(""))
	lo.ARPHRD, lo.HasDev = 772, false
	eth0, eth1 := link(2, "eth0", "", device("", "tx-scatter-gather: off")), link(3, "eth1", "", device(""))
	eth0.Master, eth1.Master = 4, 4
	eth0.Flags, eth0.MTU, eth0.Qdisc, eth0.Driver, eth0.XDP = 1, 9000, "mq", "e1000e", "native"
	bond := link(4, "bond0", "bond", device(""))
	vlan := link(5, "bond0.7", "vlan", device("", "tx-scatter-gather: off [requested on]"))
	vlan.Parent = 4
	mv := link(6, "mv0", "macvlan", device(""))
	mv.Parent = 3
	br := link(7, "br0", "bridge", device(""))
	va, vb := link(8, "va", "veth", device("")), link(9, "vb", "veth", device(""))
	va.Master, va.Parent, vb.Parent = 7, 9, 8
	eth2 := link(10, "eth2", "", device(""))
	vx := link(11, "vx0", "vxlan", device("", "tx-scatter-gather: off"))
	vx.Parent = 10
	away := link(12, "mv1", "macvlan", device(""))
	away.Parent, away.ParentN = 2, "ns1"
	virt := link(13, "virt0", "", device(""))
	virt.HasDev = false
	return &Facts{Networks: []Network{{Links: []Link{lo, eth0, eth1, bond, vlan, mv, br, va, vb, eth2, vx, away, virt}}}}
}

func TestJudgeNICStack(t *testing.T) {
	nics, features := judgeNICs(stackFacts(), "")
	var got []string
	for _, n := range nics {
		got = append(got, fmt.Sprintf("%s %s %v", n.Name, n.Kind, n.Lower))
	}
	want := []string{
		"lo loopback []", "eth0 physical []", "eth1 physical []", "bond0 bond [eth0 eth1]", "bond0.7 vlan [bond0]", "mv0 macvlan [eth1]",
		"br0 bridge [va]", "va veth []", "vb veth []", "eth2 physical []", "vx0 vxlan [eth2]", "mv1 macvlan []", "virt0 virtual []",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	eth0 := nics[1]
	if !eth0.Up || eth0.MTU != 9000 || eth0.Qdisc != "mq" || eth0.Driver != "e1000e" || eth0.XDP != "native" || eth0.Index != 2 || len(eth0.Features) != 7 {
		t.Errorf("eth0 %+v", eth0)
	}
	if len(features) != 6*len(nics) {
		t.Errorf("%d features of %d devices", len(features), len(nics))
	}
	for dev, want := range map[string]string{
		"bond0": "on; this tells nothing about the devices below",
		"mv0":   "on; this tells nothing about the devices below",
		"br0":   "on; this tells nothing about the devices below",
		"vx0":   "off: switched off on request; this tells nothing about the devices below",
		"va":    "on",
		"eth1":  "on",
		// The bond has it: what is off is not below, but in the vlan.
		"bond0.7": "off: requested on, but the driver does not grant it",
	} {
		if f := judged(t, features, dev, "nic.tx-scatter-gather"); f.Detail != want {
			t.Errorf("%s: %q, want %q", dev, f.Detail, want)
		}
	}
}

func TestJudgeNICBelow(t *testing.T) {
	f := stackFacts()
	bond := &f.Networks[0].Links[3]
	bond.Features["tx-scatter-gather"] = stateOf("off [requested on]")
	_, features := judgeNICs(f, "")
	got := judged(t, features, "bond0.7", "nic.tx-scatter-gather")
	if got.Status != Disabled || got.Detail != "off: requested on, but it is off on bond0 below" || got.Remedy != "ethtool -K eth0 sg on" {
		t.Errorf("vlan on a bond on a port without scatter-gather: %+v", got)
	}
	tso := judged(t, features, "bond0", "nic.tx-tcp-segmentation")
	if tso.Status != Supported {
		t.Errorf("active is what counts: %+v", tso)
	}
}

func TestJudgeNICOneDevice(t *testing.T) {
	for dev, want := range map[string][]string{
		"bond0.7": {"eth0", "eth1", "bond0", "bond0.7"},
		"br0":     {"br0", "va"},
		"lo":      {"lo"},
		"nosuch":  nil,
	} {
		nics, features := judgeNICs(stackFacts(), dev)
		var got []string
		for _, n := range nics {
			got = append(got, n.Name)
		}
		if !slices.Equal(got, want) || len(features) != 6*len(want) || nics == nil || features == nil {
			t.Errorf("%s: %v with %d features, want %v", dev, got, len(features), want)
		}
	}
	if nics, features := judgeNICs(&Facts{}, ""); nics == nil || features == nil || len(nics)+len(features) != 0 {
		t.Errorf("no network: %v, %v", nics, features)
	}
}

// TestJudgeNICLoop is what a hostile record may hold.
func TestJudgeNICLoop(t *testing.T) {
	var links []Link
	const n = 2000
	for i := range n {
		l := device(fmt.Sprintf("v%d", i), "tx-scatter-gather: off [requested on]", "tx-tcp-segmentation: off [requested on]")
		l.Kind, l.Index, l.Parent, l.Master = "vlan", i+1, i%n+2, (i+7)%n+1
		links = append(links, l)
	}
	links[n-1].Parent = 1
	links[0].Master = 1
	nics, features := judgeNICs(&Facts{Networks: []Network{{Links: links}}}, "v0")
	if len(nics) != n || len(features) != 6*n {
		t.Errorf("%d devices, %d features", len(nics), len(features))
	}
}

// nicDump is a file of testdata/nics.
type nicDump struct {
	Kernel   string
	Model    string
	Link     Link
	EthtoolK []string `json:"ethtool_k"`
}

// printed returns what ethtool -k printed of each feature by its present name.
func (d nicDump) printed(t *testing.T) map[string]string {
	t.Helper()
	old := map[string]string{
		"rx-checksumming": "rx-checksum", "generic-segmentation-offload": "tx-generic-segmentation",
		"generic-receive-offload": "rx-gro", "large-receive-offload": "rx-lro", "rx-vlan-offload": "rx-vlan-hw-parse",
		"tx-vlan-offload": "tx-vlan-hw-insert", "ntuple-filters": "rx-ntuple-filter", "receive-hashing": "rx-hashing",
	}
	out := map[string]string{}
	for _, line := range d.EthtoolK[1:] {
		name, state, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			t.Fatalf("line %q", line)
		}
		if real, ok := old[name]; ok {
			name = real
		}
		out[name] = state
	}
	for _, sum := range []string{"tx-checksumming", "scatter-gather", "tcp-segmentation-offload"} {
		delete(out, sum)
	}
	return out
}

// expectFeature says what a feature comes to from ethtool's words alone.
func expectFeature(printed map[string]string, bits ...string) (FeatureStatus, string) {
	var words []string
	for _, b := range bits {
		words = append(words, printed[b])
	}
	has := func(w string) bool { return slices.Contains(words, w) }
	switch {
	case has("on"):
		return Supported, "on"
	case has("on [fixed]"):
		return Supported, "on, cannot be changed"
	case has("off [requested on]"):
		return "", "off: requested on, but "
	case has("off"):
		return "", "off"
	}
	return Unsupported, "off, and the device cannot do it"
}

func TestNICDumps(t *testing.T) {
	files, err := filepath.Glob("../testdata/nics/*.json")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d dumps, %v", len(files), err)
	}
	seen := map[string]int{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var d nicDump
			if err := json.Unmarshal(b, &d); err != nil {
				t.Fatal(err)
			}
			printed := d.printed(t)
			for bit, s := range d.Link.Features {
				word := map[bool]string{true: "on", false: "off"}[s.Active]
				switch {
				case !s.Available || s.NeverChanged:
					word += " [fixed]"
				case s.Requested != s.Active:
					word += map[bool]string{true: " [requested on]", false: " [requested off]"}[s.Requested]
				}
				if printed[bit] != word {
					t.Errorf("%s: state %+v, ethtool printed %q", bit, s, printed[bit])
				}
			}
			if len(printed) != len(d.Link.Features) {
				t.Errorf("%d features, ethtool printed %d", len(d.Link.Features), len(printed))
			}
			_, features := judgeNICs(&Facts{Networks: []Network{{Links: []Link{d.Link}}}}, "")
			for _, c := range []struct {
				id   string
				bits []string
			}{
				{"tx-scatter-gather", []string{"tx-scatter-gather"}},
				{"tx-checksum-ipv4", []string{"tx-checksum-ipv4", "tx-checksum-ip-generic"}},
				{"tx-checksum-ipv6", []string{"tx-checksum-ipv6", "tx-checksum-ip-generic"}},
				{"tx-tcp-segmentation", []string{"tx-tcp-segmentation"}},
				{"tx-tcp6-segmentation", []string{"tx-tcp6-segmentation"}},
				{"tx-udp-segmentation", []string{"tx-udp-segmentation"}},
			} {
				f := judged(t, features, d.Link.Name, "nic."+c.id)
				status, detail := expectFeature(printed, c.bits...)
				if !strings.HasPrefix(f.Detail, detail) || status != "" && (f.Status != status || f.Detail != detail) || status == "" && f.Status == Supported {
					t.Errorf("%s is %s, %q; ethtool printed %v", c.id, f.Status, f.Detail, c.bits)
				}
				seen[string(f.Status)+" "+f.Detail]++
			}
		})
	}
	for detail, n := range seen {
		t.Logf("%4d %s", n, detail)
	}
	// The recordings must keep showing each of these, or they test nothing.
	for _, want := range []string{
		"supported on", "supported on, cannot be changed", "unsupported off, and the device cannot do it",
		"disabled off: requested on, but the program that holds the device does not take it",
	} {
		if seen[want] == 0 {
			t.Errorf("no recording shows %q", want)
		}
	}
}
