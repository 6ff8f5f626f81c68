package probe

import (
	"encoding/binary"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

func FuzzParseQdiscs(f *testing.F) {
	qdisc := func(kind string) []byte {
		b := make([]byte, tcMsgSize)
		binary.NativeEndian.PutUint32(b[4:], 7)
		return sys.AppendNetlinkAttr(b, tcaKind, append([]byte(kind), 0))
	}
	f.Add(qdisc("clsact"))
	f.Add(qdisc("ingress"))
	f.Add(qdisc("fq_codel")[:30])
	f.Add(make([]byte, tcMsgSize-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseQdiscs([]sys.NetlinkMessage{{Type: rtmNewQdisc, Body: qdisc("clsact")}, {Type: rtmNewQdisc, Body: b}})
		if got[7] == "" || len(got) > 2 {
			t.Errorf("%v, %v", got, err)
		}
		for _, kind := range got {
			if kind != "clsact" && kind != "ingress" {
				t.Errorf("%q has no filters of received packets", kind)
			}
		}
	})
}
