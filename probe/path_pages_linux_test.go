package probe

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// at runs commands of iproute2 or ethtool in the destination's namespace.
func at(build func(*testing.T) bench, args ...string) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := build(t)
		b.at.Run(args[0], args[1:]...)
		return b
	}
}

// withXDP puts a program that passes everything on the receiving end.
func withXDP(build func(*testing.T) bench, dev string, flags uint32) func(*testing.T) bench {
	return func(t *testing.T) bench {
		b := build(t)
		b.at.Do(func() { attachXDP(t, dev, flags) })
		return b
	}
}

// TestPathAgainstPages sends a file over TCP to a real receiver and looks
// whether the pages of the file arrive or a copy of them: what sendfile does is
// told by no completion.
func TestPathAgainstPages(t *testing.T) {
	for _, c := range []struct {
		name   string
		build  func(*testing.T) bench
		causes string
	}{
		{"loopback", benchLoopback, ""},
		{"own address", benchOwnAddress, ""},
		{"veth", benchVeth, ""},
		{"veth, IPv6", benchVeth6, ""},
		{"veth without scatter-gather", with(benchVeth, "ethtool", "-K", "va", "sg", "off"), "no-scatter-gather"},
		{"veth without checksum", with(benchVeth, "ethtool", "-K", "va", "tx", "off"), "no-tx-csum checksum-pass"},
		{"veth without either", with(benchVeth, "ethtool", "-K", "va", "sg", "off", "tx", "off"), "no-scatter-gather checksum-pass"},
		{"veth without segmentation", with(benchVeth, "ethtool", "-K", "va", "tso", "off", "gso", "off"), ""},
		{"veth, IPv6, without checksum", with(benchVeth6, "ethtool", "-K", "va", "tx", "off"), "no-tx-csum checksum-pass"},
		{"veth, receiver without scatter-gather", at(benchVeth, "ethtool", "-K", "vb", "sg", "off"), ""},
		{"veth, native XDP", withXDP(benchVeth, "vb", unix.XDP_FLAGS_DRV_MODE), "veth-xdp"},
		{"veth, generic XDP", withXDP(benchVeth, "vb", unix.XDP_FLAGS_SKB_MODE), "xdp-generic"},
		{"loopback, generic XDP", withXDP(benchLoopback, "lo", unix.XDP_FLAGS_SKB_MODE), "xdp-generic"},
		{"routed", benchRoutedDelivered, ""},
		{"bridge", benchBridgeOwn, ""},
		{"bridge, port without scatter-gather", with(benchBridgeOwn, "ethtool", "-K", "p1", "sg", "off"), "no-scatter-gather"},
		{"macvlan sibling", benchMacvlanSibling, ""},
		{"tbf", with(benchVeth, "tc", "qdisc", "add", "dev", "va", "root", "tbf", "rate", "1gbit", "burst", "10k", "latency", "50ms"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			r := predictIn(t, b.from, b.to)
			a := row(t, r, "sendfile", "tcp", "file", tcpLarge)
			if got := causeIDs(a); got != c.causes {
				t.Errorf("causes %q, want %q; %s", got, c.causes, a.Detail)
			}
			pages := pagesArrive(t, b.from, b.at, b.to)
			if a.Copies == nil || (*a.Copies == 0) != pages {
				t.Errorf("predicted %s copies, but the file's own pages arrive: %v; %s", copiesOf(a), pages, a.Detail)
			}
		})
	}
}

// TestPathAgainstDatagrams sends a file by sendfile over UDP and overwrites it
// before the receiver looks. New bytes arrive if the pages were kept and left
// unread; nothing arrives if they were kept but summed when sent, since the sum
// is wrong then; old bytes are a copy.
func TestPathAgainstDatagrams(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*testing.T) bench
		over  bool
	}{
		{"at the MTU", benchVeth, false},
		{"above the MTU", benchVeth, true},
		{"without scatter-gather", with(benchVeth, "ethtool", "-K", "va", "sg", "off"), false},
		{"without checksum", with(benchVeth, "ethtool", "-K", "va", "tx", "off"), false},
		{"over lo", benchLoopback, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			r := predictIn(t, b.from, b.to)
			a := row(t, r, "sendfile", "udp", "file", 0)
			if c.over {
				a = row(t, r, "sendfile", "udp", "file", a.SizeBytes+1)
			}
			what := datagramPages(t, b, int(min(a.SizeBytes, 8192)))
			want := "new"
			switch {
			case a.Copies == nil || a.ChecksumPasses == nil && *a.Copies == 0:
				t.Fatalf("no prediction: %+v", a)
			case *a.Copies > 0:
				want = "old"
			case *a.ChecksumPasses > 0:
				want = "nothing"
			}
			if what != want {
				t.Errorf("%s arrives, predicted %s: %+v", what, want, a)
			}
		})
	}
}

// datagramPages sends one datagram from a file, overwrites the file, and says
// what arrives.
func datagramPages(t *testing.T, b bench, size int) string {
	t.Helper()
	var in, out, file int
	var err error
	var to netip.AddrPort
	b.at.Do(func() {
		if in, err = sys.Socket(sys.AFInet, sys.SockDgram, 0); err != nil {
			return
		}
		if err = sys.Bind(in, netip.AddrPortFrom(netip.MustParseAddr(b.to), 0)); err == nil {
			to, err = sys.LocalAddr(in)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	b.from.Do(func() {
		if out, err = sys.Socket(sys.AFInet, sys.SockDgram, 0); err == nil {
			err = sys.Connect(out, to)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	if file, err = unix.MemfdCreate("t", unix.MFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	// A first datagram finds the neighbour.
	if _, err := sys.Send(out, []byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size+1)
	eventually(t, func() bool { n, err := sys.Recv(in, got, 0); return n == 1 && err == nil })

	data := make([]byte, size)
	fillByte(data, 'a')
	_, err = unix.Pwrite(file, data, 0)
	if err == nil {
		var off int64
		_, err = unix.Sendfile(out, file, &off, size)
	}
	fillByte(data, 'b')
	if err == nil {
		_, err = unix.Pwrite(file, data, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	what := ""
	eventually(t, func() bool {
		n, err := sys.Recv(in, got, 0)
		var info [9 * 4]byte // SK_MEMINFO_VARS
		_, infoErr := sys.GetsockoptBytes(in, sys.SolSocket, sys.SoMeminfo, info[:])
		switch {
		case infoErr != nil:
			t.Fatal(infoErr)
		case err == nil && n == size && got[0] == 'a' && got[size-1] == 'a':
			what = "old"
		case err == nil && n == size && got[0] == 'b' && got[size-1] == 'b':
			what = "new"
		case err == nil:
			t.Fatalf("%d bytes, %q ... %q", n, got[0], got[max(n-1, 0)])
		case binary.NativeEndian.Uint32(info[4*sys.MeminfoDrops:]) > 0:
			what = "nothing"
		}
		return what != ""
	})
	return what
}

// openTap opens a packet socket in a namespace, on one device or on any.
func openTap(t *testing.T, ns *testenv.NetNS, dev string, protocol uint16, ignoreOutgoing bool) {
	t.Helper()
	var fd int
	var err error
	ns.Do(func() {
		fd, err = sys.Socket(sys.AFPacket, sys.SockRaw, 0)
		if err != nil {
			return
		}
		index := 0
		if ignoreOutgoing {
			err = sys.SetsockoptInt(fd, sys.SolPacket, unix.PACKET_IGNORE_OUTGOING, 1)
		}
		if err == nil && dev != "" {
			var req *unix.Ifreq
			if req, err = unix.NewIfreq(dev); err == nil {
				err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
				index = int(req.Uint32())
			}
		}
		if err == nil {
			err = sys.BindPacket(fd, index, protocol)
		}
	})
	if err != nil {
		t.Fatalf("open a packet socket: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}

// TestPathAgainstTaps puts packet sockets all over a path and compares.
func TestPathAgainstTaps(t *testing.T) {
	const ip = 0x0800
	tap := func(build func(*testing.T) bench, where func(bench) *testenv.NetNS, dev string, protocol uint16, ignore bool) func(*testing.T) bench {
		return func(t *testing.T) bench {
			b := build(t)
			openTap(t, where(b), dev, protocol, ignore)
			return b
		}
	}
	from := func(b bench) *testenv.NetNS { return b.from }
	dest := func(b bench) *testenv.NetNS { return b.at }
	other := func(bench) *testenv.NetNS { return testenv.NewNetNS(t) }
	mid := func(b bench) *testenv.NetNS { return b.mid }
	for _, c := range []struct {
		name   string
		build  func(*testing.T) bench
		causes string
	}{
		{"on the device", tap(benchSink, from, "s0", ethPAll, false), "packet-tap"},
		{"on any device", tap(benchSink, from, "", ethPAll, false), "packet-tap"},
		{"on another device", tap(benchSink, from, "lo", ethPAll, false), ""},
		{"outgoing ignored", tap(benchSink, from, "s0", ethPAll, true), ""},
		{"for IP only", tap(benchSink, from, "s0", ip, false), ""},
		{"in another namespace", tap(benchSink, other, "", ethPAll, false), "|packet-tap"},
		{"loopback", tap(benchLoopback, from, "lo", ethPAll, false), "packet-tap loopback-delivery"},
		{"loopback, outgoing ignored", tap(benchLoopback, from, "lo", ethPAll, true), "loopback-delivery"},
		{"parent of a macvlan", tap(benchMacvlan, from, "s0", ethPAll, false), "packet-tap"},
		{"macvlan", tap(benchMacvlan, from, "mv0", ethPAll, false), "packet-tap"},
		{"receiver of a veth", tap(benchVeth, dest, "vb", ethPAll, false), "loopback-delivery"},
		{"router, in", tap(benchRouted, mid, "vr", ethPAll, true), "packet-tap|veth-routed-ingress"},
		{"router, in, for IP", tap(benchRouted, mid, "vr", ip, false), "packet-tap|veth-routed-ingress"},
		{"router, out", tap(benchRouted, mid, "s0", ethPAll, false), "packet-tap|veth-routed-ingress"},
		{"router, another device", tap(benchRouted, mid, "lo", ethPAll, false), "|veth-routed-ingress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.build(t)
			r := predictIn(t, b.from, b.to)
			a := row(t, r, "msg_zerocopy", "udp", "memory", 0)
			checkCauses(t, a, c.causes)
			compareCode(t, b, a, 0)
			if s := row(t, r, "sendfile", "tcp", "file", tcpLarge); s.Copies == nil || *s.Copies != 0 {
				t.Errorf("sendfile: %s copies, a tap makes none; %s", copiesOf(s), s.Detail)
			}
		})
	}
}
