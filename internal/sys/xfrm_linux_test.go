package sys

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// xfrmPolicy is what the kernel sends for
//
//	ip xfrm policy add src 10.1.0.0/24 dst 10.2.0.1 proto udp dport 53 dir out priority 7 tmpl ...
func xfrmPolicy() []byte {
	b := make([]byte, xfrmPolicySize)
	copy(b[0:], []byte{10, 2, 0, 1})
	copy(b[16:], []byte{10, 1, 0, 0})
	copy(b[32:], []byte{0, 53, 0xff, 0xff})
	binary.NativeEndian.PutUint16(b[40:], unix.AF_INET)
	b[42], b[43], b[44] = 32, 24, unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(b[152:], 7)
	binary.NativeEndian.PutUint32(b[156:], 9)
	b[160] = xfrmPolicyOut
	return AppendNetlinkAttr(b, xfrmAttrTemplate, make([]byte, 64))
}

func TestParseXfrmPolicy(t *testing.T) {
	got, err := ParseXfrmPolicy(xfrmPolicy())
	want := XfrmPolicy{
		Out: true, Priority: 7, Index: 9, Family: unix.AF_INET,
		Src: netip.MustParsePrefix("10.1.0.0/24"), Dst: netip.MustParsePrefix("10.2.0.1/32"),
		Proto: unix.IPPROTO_UDP, DPort: 53, DPortMask: 0xffff, Templates: true,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for i, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:xfrmPolicySize-1] },
		func(b []byte) []byte { b[42] = 33; return b },
		func(b []byte) []byte { b[40] = 99; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[51] = 0xff; return b },
	} {
		if p, err := ParseXfrmPolicy(spoil(xfrmPolicy())); err == nil {
			t.Errorf("%d: no error, %+v", i, p)
		}
	}
}

func FuzzParseXfrmPolicy(f *testing.F) {
	f.Add(xfrmPolicy())
	f.Add(xfrmPolicy()[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseXfrmPolicy(b)
		if err != nil && p != (XfrmPolicy{}) {
			t.Fatalf("%+v with error %v", p, err)
		}
		if err == nil && (!p.Src.IsValid() || !p.Dst.IsValid() || p.OIF < 0) {
			t.Fatalf("%+v", p)
		}
	})
}
