package probe

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	packetHead = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
	ptypeHead  = "Type Device      Function\n"
)

func TestParsePackets(t *testing.T) {
	got, err := parsePackets([]byte(packetHead +
		"0000000059bd24b2 3      3    0003   0     1 0      0      120038\n" +
		"ffff888003f6114b 3      2    88cc   -1    0 832    65534  18446744073709551615\n"))
	want := []packetRow{{3, 0, true, 0, 120038}, {0x88cc, -1, false, 65534, 1<<64 - 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"x\n", "0 3 3 zz 0 1 0 0 1\n", "0 3 3 10000 0 1 0 0 1\n", "0 3 3 0003 0 1 0 0\n",
		"0 3 3 0003 x 1 0 0 1\n", "0 3 3 0003 0 1 0 0 -1\n", "\n\n"} {
		if got, err := parsePackets([]byte(packetHead + bad)); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
	if got, err := parsePackets([]byte(packetHead)); err != nil || len(got) != 0 {
		t.Errorf("heading alone: %v, %v", got, err)
	}
}

func TestParsePtypes(t *testing.T) {
	got, err := parsePtypes([]byte(ptypeHead +
		"ALL           packet_rcv\n" +
		"ALL  lo       tpacket_rcv [af_packet]\n" +
		"ALL  a\u2003b\x1b[m packet_rcv_fanout.llvm.123\n" +
		"ALL  verylongname123 hook [av]\n" +
		"88cc eth0     packet_rcv_spkt\n" +
		"0800          ip_rcv\n" +
		"ALL           ffffffff81a0b2c0\n"))
	want := []ptypeRow{{true, "", "packet_rcv"}, {true, "lo", "tpacket_rcv [af_packet]"},
		{true, "a\u2003b\x1b[m", "packet_rcv_fanout.llvm.123"}, {true, "verylongname123", "hook [av]"},
		{false, "eth0", "packet_rcv_spkt"}, {false, "", "ip_rcv"}, {true, "", "ffffffff81a0b2c0"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for i, isSocket := range []bool{true, true, true, false, true, false, true} {
		if got[i].socketHandler() != isSocket {
			t.Errorf("%q is a socket's: %v, want %v", got[i].function, !isSocket, isSocket)
		}
	}
	for _, bad := range []string{"ALL\n", "ALL  eth0\n", "ALL           \n", "ALLxeth0 f\n", "\n\n"} {
		if got, err := parsePtypes([]byte(ptypeHead + bad)); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
}

func TestTapViewMismatch(t *testing.T) {
	all := func(ifindex int) packetRow { return packetRow{protocol: ethPAll, ifindex: ifindex, running: true} }
	hook := func(device, function string) ptypeRow { return ptypeRow{true, device, function} }
	idle := all(2)
	idle.running = false
	for _, c := range []struct {
		name string
		view tapView
		want string
	}{
		{"both empty", tapView{}, ""},
		{"one each", tapView{[]packetRow{all(0), all(2)}, []ptypeRow{hook("", "packet_rcv"), hook("eth0", "tpacket_rcv")}}, ""},
		{"idle and other protocols do not count", tapView{[]packetRow{idle, {protocol: 0x800, running: true}}, []ptypeRow{{false, "", "packet_rcv"}}}, ""},
		{"kernel handlers do not count", tapView{nil, []ptypeRow{hook("", "av_hook")}}, ""},
		{"group of three", tapView{[]packetRow{all(2), all(2), all(2)}, []ptypeRow{hook("eth0", "packet_rcv_fanout")}}, ""},
		{"group without members", tapView{nil, []ptypeRow{hook("eth0", "packet_rcv_fanout")}}, "on one device"},
		{"hook without socket", tapView{nil, []ptypeRow{hook("", "packet_rcv")}}, "on any device"},
		{"socket without hook", tapView{[]packetRow{all(0)}, nil}, "on any device"},
		{"on another device", tapView{[]packetRow{all(0)}, []ptypeRow{hook("eth0", "packet_rcv")}}, "on any device"},
		{"function without a name", tapView{nil, []ptypeRow{hook("", "0xffffffff81a0b2c0")}}, "on any device"},
	} {
		if got := c.view.mismatch(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReadTapView(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const ptype, packet = "thread-self/net/ptype", "thread-self/net/packet"
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		ok    bool
	}{
		{"no packet sockets in the kernel", fstest.MapFS{ptype: file(ptypeHead)}, true},
		{"the same, yet a hook", fstest.MapFS{ptype: file(ptypeHead + "ALL           packet_rcv\n")}, false},
		{"nothing to read", fstest.MapFS{}, false},
		{"no ptype", fstest.MapFS{packet: file(packetHead)}, false},
		{"cut off", fstest.MapFS{ptype: file(ptypeHead), packet: file(packetHead + "0000000059bd24b2 3      3    00")}, false},
		{"too long", fstest.MapFS{ptype: file(ptypeHead), packet: file(strings.Repeat("\n", tapFileMost+1))}, false},
	} {
		if v, err := readTapView(c.files, "thread-self"); (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
	}
}

func FuzzParseTapFiles(f *testing.F) {
	f.Add([]byte(packetHead + "0000000059bd24b2 3      3    0003   0     1 0      0      120038\n"))
	f.Add([]byte(ptypeHead + "ALL  lo       tpacket_rcv [af_packet]\n0800          ip_rcv\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sockets, err := parsePackets(b)
		if err != nil && sockets != nil {
			t.Error("sockets and an error")
		}
		hooks, err := parsePtypes(b)
		if err != nil && hooks != nil {
			t.Error("hooks and an error")
		}
		for _, h := range hooks {
			if h.function == "" || strings.Contains(h.device, " ") {
				t.Errorf("hook %+v", h)
			}
		}
		v := tapView{sockets, hooks}
		v.mismatch()
	})
}
