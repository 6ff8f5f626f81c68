package sys

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzParseRoute(f *testing.F) {
	route := make([]byte, unix.SizeofRtMsg)
	route[7] = unix.RTN_UNICAST
	route = AppendNetlinkAttr(route, unix.RTA_OIF, []byte{2, 0, 0, 0})
	route = AppendNetlinkAttr(route, unix.RTA_GATEWAY, []byte{10, 0, 0, 1})
	route = AppendNetlinkAttr(route, unix.RTA_VIA, append([]byte{10, 0}, make([]byte, 16)...))
	route = AppendNetlinkAttr(route, unix.RTA_METRICS, AppendNetlinkAttr(nil, unix.RTAX_MTU, []byte{0xdc, 5, 0, 0}))
	route = AppendNetlinkAttr(route, unix.RTA_ENCAP_TYPE, []byte{1, 0})
	route = AppendNetlinkAttr(route, unix.RTA_MULTIPATH, append(AppendNetlinkAttr([]byte{16, 0, 0, 0, 7, 0, 0, 0}, unix.RTA_GATEWAY, []byte{192, 0, 2, 1}), 8, 0, 0, 0, 8, 0, 0, 0))
	f.Add(route)
	f.Add(route[:len(route)-3])
	f.Add(make([]byte, unix.SizeofRtMsg-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoute(b)
		if err != nil && !reflect.DeepEqual(r, Route{}) {
			t.Fatalf("%+v with error %v", r, err)
		}
		if r.OIF < 0 || r.MTU < 0 {
			t.Fatalf("index %d, MTU %d", r.OIF, r.MTU)
		}
	})
}

func FuzzParseNeighbour(f *testing.F) {
	n := neighbourRequest(unix.AF_BRIDGE, 3, 0)
	n = AppendNetlinkAttr(n, unix.NDA_LLADDR, []byte{2, 0, 0, 0, 0, 1})
	n = AppendNetlinkAttr(n, unix.NDA_DST, []byte{10, 0, 0, 1})
	f.Add(n)
	f.Add(n[:9])
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNeighbour(b)
		if err != nil && (n.Port != 0 || n.MAC != nil || n.Dst.IsValid()) {
			t.Fatalf("%+v with error %v", n, err)
		}
		if n.Port < 0 || len(n.MAC) > 32 {
			t.Fatalf("%+v", n)
		}
	})
}

func TestParseRoute(t *testing.T) {
	msg := make([]byte, unix.SizeofRtMsg)
	msg[7] = unix.RTN_UNICAST
	msg = AppendNetlinkAttr(msg, unix.RTA_OIF, []byte{7, 0, 0, 0})
	msg = AppendNetlinkAttr(msg, unix.RTA_PREFSRC, []byte{192, 0, 2, 5})
	msg = AppendNetlinkAttr(msg, unix.RTA_METRICS, AppendNetlinkAttr(nil, unix.RTAX_MTU, []byte{0x78, 5, 0, 0}))
	msg = AppendNetlinkAttr(msg, unix.RTA_ENCAP_TYPE, []byte{6, 0})
	via := netip.MustParseAddr("fe80::1")
	msg = AppendNetlinkAttr(msg, unix.RTA_VIA, append([]byte{unix.AF_INET6, 0}, via.AsSlice()...))
	hops := AppendNetlinkAttr([]byte{16, 0, 0, 0, 7, 0, 0, 0}, unix.RTA_GATEWAY, []byte{192, 0, 2, 1})
	hops = append(hops, 8, 0, 0, 0, 8, 0, 0, 0)
	msg = AppendNetlinkAttr(msg, unix.RTA_MULTIPATH, hops)
	got, err := ParseRoute(msg)
	want := Route{
		Type: RouteUnicast, OIF: 7, Gateway: via, PrefSrc: netip.MustParseAddr("192.0.2.5"),
		MTU: 1400, Encap: 6,
		NextHops: []NextHop{{OIF: 7, Gateway: netip.MustParseAddr("192.0.2.1")}, {OIF: 8}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for _, bad := range []string{
		"", // nothing
		"0218000000000001" + "00000000" + "0600040001" + "000000",    // interface index of two bytes
		"0218000000000001" + "00000000" + "08000400ffffffff",         // negative index
		"0218000000000001" + "00000000" + "070005000a00000000000000", // gateway of three bytes
	} {
		b, err := hex.DecodeString(bad)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := ParseRoute(b); err == nil {
			t.Errorf("%s: no error, %+v", bad, r)
		}
	}
}
