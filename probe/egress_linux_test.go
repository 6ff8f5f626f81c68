package probe

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// The devices that routes leave by must be those that ip(8) lists.
func TestEgressAgreesWithIP(t *testing.T) {
	ns := testenv.NewNetNS(t)
	for _, cmd := range []string{
		"link add d0 type ifb", "link add d1 type ifb", "link add d2 type ifb", "link add d3 type ifb",
		"link set d0 up", "link set d1 up", "link set d2 up",
		"addr add 192.0.2.1/24 dev d0", "route add default via 192.0.2.254",
		"addr add 198.51.100.1/24 dev d1",
		"route add 203.0.113.0/25 nexthop via 192.0.2.9 nexthop via 198.51.100.9",
		"route add 203.0.113.128/25 dev d2 table 77",
		"addr add 2001:db8::1/64 dev d1 nodad",
		"route add blackhole 10.9.0.0/16",
	} {
		ns.Run("ip", strings.Fields(cmd)...)
	}
	var got Egress
	var err error
	var names map[int]string
	ns.Do(func() { got, err = readEgress() })
	if err != nil {
		t.Fatal(err)
	}
	names = namesByIndex(t, ns)
	have := map[string][2]int{}
	for _, d := range got.Devices {
		have[names[d.Index]] = [2]int{d.IPv4, d.IPv6}
	}
	want := map[string][2]int{}
	for v, family := range []string{"-4", "-6"} {
		var routes []struct {
			Type, Dst, Dev string
			Nexthops       []struct{ Dev string }
		}
		out := ns.Run("ip", family, "-j", "-d", "route", "show", "table", "all")
		if err := json.Unmarshal([]byte(out), &routes); err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Type != "unicast" || strings.HasPrefix(r.Dst, "fe80:") || strings.HasPrefix(r.Dst, "ff00:") {
				continue
			}
			for _, h := range append(r.Nexthops, struct{ Dev string }{r.Dev}) {
				if h.Dev != "" {
					c := want[h.Dev]
					c[v]++
					want[h.Dev] = c
				}
			}
		}
	}
	if len(want) != 3 {
		t.Fatalf("ip lists %v, want d0, d1 and d2", want)
	}
	for dev, n := range want {
		if have[dev] != n {
			t.Errorf("%s: %v routes, ip lists %v", dev, have[dev], n)
		}
	}
	if len(have) != len(want) {
		t.Errorf("devices %v, ip lists %v", have, want)
	}
}

func namesByIndex(t *testing.T, ns *testenv.NetNS) map[int]string {
	t.Helper()
	var links []struct {
		Ifindex int
		Ifname  string
	}
	if err := json.Unmarshal([]byte(ns.Run("ip", "-j", "link")), &links); err != nil {
		t.Fatal(err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Ifindex] = l.Ifname
	}
	return names
}

func FuzzRouteDevices(f *testing.F) {
	msg := make([]byte, syscall.SizeofRtMsg)
	msg[0], msg[7] = syscall.AF_INET, syscall.RTN_UNICAST
	oif := binary.NativeEndian.AppendUint16(nil, 8)
	oif = binary.NativeEndian.AppendUint16(oif, syscall.RTA_OIF)
	oif = binary.NativeEndian.AppendUint32(oif, 2)
	hop := binary.NativeEndian.AppendUint16(nil, 12)
	hop = binary.NativeEndian.AppendUint16(hop, syscall.RTA_MULTIPATH)
	hop = append(hop, 8, 0, 0, 0, 3, 0, 0, 0)
	f.Add(append(msg, oif...))
	f.Add(append(msg, hop...))
	f.Add(msg[:5])
	f.Fuzz(func(t *testing.T, b []byte) {
		devs, err := routeDevices(b)
		if len(devs) > len(b) || err == nil && len(b) < syscall.SizeofRtMsg {
			t.Errorf("%d devices, error %v from %d bytes", len(devs), err, len(b))
		}
	})
}
