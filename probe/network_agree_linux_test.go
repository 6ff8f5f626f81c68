package probe

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// legacyNames are the features that ethtool prints under their old names.
var legacyNames = map[string]string{
	"rx-checksumming":              "rx-checksum",
	"generic-segmentation-offload": "tx-generic-segmentation",
	"generic-receive-offload":      "rx-gro",
	"large-receive-offload":        "rx-lro",
	"rx-vlan-offload":              "rx-vlan-hw-parse",
	"tx-vlan-offload":              "tx-vlan-hw-insert",
	"ntuple-filters":               "rx-ntuple-filter",
	"receive-hashing":              "rx-hashing",
}

// groupNames are no features, but sums of several that ethtool makes.
var groupNames = []string{"ifname", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload"}

// agreesWithEthtool compares the features of every link with what ethtool says.
func agreesWithEthtool(t *testing.T, p place, n Network) {
	t.Helper()
	// One process starts them all: in a guest that is what takes the time.
	args := append([]string{"-c", `for d; do ethtool --json -k "$d" || exit 1; done`, "sh"}, linkNames(n)...)
	printed := json.NewDecoder(strings.NewReader(p.Run("sh", args...)))
	for _, l := range n.Links {
		var one []map[string]json.RawMessage
		if err := printed.Decode(&one); err != nil || len(one) != 1 {
			t.Fatalf("ethtool --json -k %s: %v", l.Name, err)
		}
		featuresAgree(t, l, one[0])
	}
	args[1] = `for d; do echo "@ $d"; ethtool -i "$d" 2>/dev/null; done; true`
	sections := strings.Split(p.Run("sh", args...), "@ ")[1:]
	if len(sections) != len(n.Links) {
		t.Fatalf("ethtool -i of %d links: %q", len(n.Links), sections)
	}
	for i, l := range n.Links {
		driverAgrees(t, l, sections[i])
	}
}

// featuresAgree compares a link with an entry of ethtool --json -k.
func featuresAgree(t *testing.T, l Link, printed map[string]json.RawMessage) {
	t.Helper()
	if l.FeaturesError != "" || l.FeaturesSource != fromGFeatures {
		t.Errorf("%s: features from %q, error %q", l.Name, l.FeaturesSource, l.FeaturesError)
	}
	if name := string(printed["ifname"]); name != fmt.Sprintf("%q", l.Name) {
		t.Errorf("ethtool printed %s in place of %s", name, l.Name)
	}
	compared := 0
	for name, raw := range printed {
		if slices.Contains(groupNames, name) {
			continue
		}
		var want struct{ Active, Fixed, Requested *bool }
		if err := json.Unmarshal(raw, &want); err != nil || want.Active == nil || want.Fixed == nil {
			t.Fatalf("ethtool --json -k %s: %s: %s (%v)", l.Name, name, raw, err)
		}
		if real, ok := legacyNames[name]; ok {
			name = real
		}
		got, ok := l.Features[name]
		if !ok {
			t.Errorf("%s: no feature %s", l.Name, name)
			continue
		}
		if got.Active != *want.Active || (!got.Available || got.NeverChanged) != *want.Fixed ||
			want.Requested != nil && got.Requested != *want.Requested {
			t.Errorf("%s: %s is %+v, ethtool says %s", l.Name, name, got, raw)
		}
		compared++
	}
	if compared != len(l.Features) {
		t.Errorf("%s: compared %d of %d features", l.Name, compared, len(l.Features))
	}
}

// driverAgrees compares a link with what ethtool -i printed: nothing but the
// name where the device has no driver to ask.
func driverAgrees(t *testing.T, l Link, printed string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	if lines[0] != l.Name {
		t.Errorf("ethtool -i printed %q in place of %s", lines[0], l.Name)
	}
	if len(lines) == 1 && (l.Driver != "" || l.Bus != "") {
		t.Errorf("%s: driver %q, bus %q, ethtool -i has none", l.Name, l.Driver, l.Bus)
	}
	for _, line := range lines[1:] {
		k, v, _ := strings.Cut(line, ":")
		v = strings.TrimSpace(v)
		if k == "driver" && v != l.Driver || k == "bus-info" && v != l.Bus {
			t.Errorf("%s: driver %q, bus %q, ethtool -i says %s", l.Name, l.Driver, l.Bus, line)
		}
	}
}

// ipLink is what `ip -j -d link` prints of a device.
type ipLink struct {
	IfIndex     int    `json:"ifindex"`
	IfName      string `json:"ifname"`
	Flags       []string
	MTU         int
	Qdisc       string
	OperState   string `json:"operstate"`
	Master      string
	LinkType    string `json:"link_type"`
	Link        string
	LinkIndex   int     `json:"link_index"`
	LinkNetNSID *int    `json:"link_netnsid"`
	GSOMaxSize  *uint32 `json:"gso_max_size"`
	GSOMaxSegs  *uint32 `json:"gso_max_segs"`
	Address     string
	ParentDev   string `json:"parentdev"`
	XDP         *struct {
		Mode     int
		Attached []json.RawMessage
	}
	LinkInfo struct {
		InfoKind string         `json:"info_kind"`
		InfoData map[string]any `json:"info_data"`
	} `json:"linkinfo"`
}

var operStates = []string{"UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"}

// besideIP reads the namespace and has ip read it, at a moment when nothing
// changed between: a new link's state and a bond's active port take a while.
func besideIP(t *testing.T, p place) (Network, []ipLink) {
	t.Helper()
	before := networkOf(t, p)
	for range 100 {
		var links []ipLink
		if err := json.Unmarshal([]byte(p.Run("ip", "-j", "-d", "link")), &links); err != nil {
			t.Fatalf("ip -j -d link: %v", err)
		}
		after := networkOf(t, p)
		if reflect.DeepEqual(before, after) {
			return before, links
		}
		before = after
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the links do not come to rest")
	return Network{}, nil
}

// agreesWithIP compares every link with what ip says, and returns what was read.
func agreesWithIP(t *testing.T, p place) Network {
	t.Helper()
	n, want := besideIP(t, p)
	if len(want) != len(n.Links) {
		t.Errorf("%d links %v, ip says %d", len(n.Links), linkNames(n), len(want))
	}
	byName := map[string]int{}
	for _, w := range want {
		byName[w.IfName] = w.IfIndex
	}
	for _, w := range want {
		l := linkNamed(t, n, w.IfName)
		same := func(what string, got, want any) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %s %v, ip says %v", w.IfName, what, got, want)
			}
		}
		same("index", l.Index, w.IfIndex)
		same("kind", l.Kind, w.LinkInfo.InfoKind)
		same("mtu", l.MTU, w.MTU)
		same("qdisc", l.Qdisc, w.Qdisc)
		if l.MAC != "" || !slices.Contains([]string{"ipip", "tunnel6", "sit", "gre", "gre6", "none"}, w.LinkType) {
			same("address", l.MAC, w.Address)
		}
		same("up", l.Flags&1 != 0, slices.Contains(w.Flags, "UP"))
		same("operstate", operStates[l.State], w.OperState)
		same("master", l.Master, byName[w.Master])
		same("loopback", l.ARPHRD == 772, w.LinkType == "loopback")
		if w.GSOMaxSize != nil {
			same("gso_max_size", l.GSOMaxBytes, *w.GSOMaxSize)
			same("gso_max_segs", l.GSOMaxSegs, *w.GSOMaxSegs)
		}
		if w.ParentDev != "" {
			same("bus device", l.HasDev, true)
		}
		same("parent abroad", l.ParentN != "", w.LinkNetNSID != nil)
		switch {
		case w.LinkIndex != 0:
			same("parent", l.Parent, w.LinkIndex)
		case w.Link != "":
			same("parent", l.Parent, byName[w.Link])
		}
		kindAgreesWithIP(t, l, w, byName)
	}
	return n
}

// kindAgreesWithIP compares what is peculiar to a kind of device.
func kindAgreesWithIP(t *testing.T, l Link, w ipLink, byName map[string]int) {
	t.Helper()
	d := w.LinkInfo.InfoData
	text := func(k string) string { s, _ := d[k].(string); return s }
	number := func(k string) int { f, _ := d[k].(float64); return int(f) }
	same := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %s %v, ip says %v", w.IfName, what, got, want)
		}
	}
	if l.Kind != "bond" {
		same("bond mode", l.BondMode, -1)
	}
	switch l.Kind {
	case "bond":
		modes := []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
		same("bond mode", modes[l.BondMode], text("mode"))
		same("active port", l.BondActive, byName[text("active_slave")])
	case "vlan":
		same("vlan id", l.VlanID, number("id"))
	case "macvlan", "macvtap":
		modes := map[uint32]string{1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
		same("macvlan mode", modes[l.MacvlanMode], text("mode"))
	case "tun":
		same("tun type", l.TunTap, text("type"))
	default:
		if _, ok := tunnels[l.Kind]; !ok {
			return
		}
		first := func(keys ...string) string {
			for _, k := range keys {
				if s := text(k); s != "" && s != "any" && s != "0.0.0.0" && s != "::" {
					return s
				}
			}
			return ""
		}
		same("tunnel local", l.TunLocal, first("local", "local6"))
		same("tunnel remote", l.TunRemote, first("remote", "remote6", "group", "group6"))
		if l.Kind == "vxlan" || l.Kind == "geneve" {
			same("tunnel port", l.TunPort, number("port"))
			sum, _ := d["udp_csum"].(bool)
			if strings.Contains(l.TunRemote, ":") {
				zero, _ := d["udp_zero_csum6_tx"].(bool)
				sum = !zero
			}
			if l.TunRemote != "" {
				same("tunnel checksum", l.TunCsum != nil && *l.TunCsum, sum)
			}
		}
		if l.Kind == "gre" && l.TunCsum != nil {
			sum, _ := d["ocsum"].(bool)
			same("tunnel checksum", *l.TunCsum, sum)
		}
		if s := text("link"); s != "" {
			same("tunnel parent", l.Parent, byName[s])
		}
	}
}
