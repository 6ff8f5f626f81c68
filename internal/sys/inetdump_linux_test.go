package sys

import (
	"encoding/binary"
	"net"
	"testing"
)

func TestDumpInet(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const total = 12345
	if _, err := c.Write(make([]byte, total)); err != nil {
		t.Fatal(err)
	}
	n, err := OpenNetlink(NetlinkSockDiag)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	all, err := DumpInet(n, AFInet, ProtocolTCP)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		// Others may have had this port, and wait for their time to be over.
		if s.Local.String() != c.LocalAddr().String() || s.Remote.String() != c.RemoteAddr().String() {
			continue
		}
		if s.Inode == 0 || !s.Info || !s.Meminfo {
			t.Errorf("%+v", s)
		}
		if got := s.Sent - s.Retransmitted + uint64(s.Unsent); got != total {
			t.Errorf("%d bytes, not %d: %+v", got, total, s)
		}
		return
	}
	t.Errorf("%v is not among %d sockets", c.LocalAddr(), len(all))
}

func FuzzParseInetSocket(f *testing.F) {
	f.Add(make([]byte, 72))
	f.Add(AppendNetlinkAttr(make([]byte, 72), 7, make([]byte, 36)))
	f.Add(AppendNetlinkAttr(make([]byte, 72), 2, binary.NativeEndian.AppendUint64(make([]byte, 208), 7)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseInetSocket(raw)
		if err == nil && len(raw) < 72 {
			t.Errorf("%+v of %d bytes", s, len(raw))
		}
	})
}
