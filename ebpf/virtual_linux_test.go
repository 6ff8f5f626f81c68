package ebpf_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	cilium "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// wire joins two namespaces by a veth pair, and routes through a third if
// router is given.
type wire struct{ a, b, router *testenv.NetNS }

func newWire(t testing.TB, routed bool) wire {
	t.Helper()
	w := wire{a: testenv.NewNetNS(t), b: testenv.NewNetNS(t)}
	if !routed {
		w.a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", w.b.Path())
		w.a.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "va")
		w.b.Run("ip", "addr", "add", "10.1.0.2/24", "dev", "vb")
	} else {
		w.router = testenv.NewNetNS(t)
		w.a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "ra", "netns", w.router.Path())
		w.b.Run("ip", "link", "add", "vb", "type", "veth", "peer", "name", "rb", "netns", w.router.Path())
		w.a.Run("ip", "addr", "add", "10.1.1.1/24", "dev", "va")
		w.b.Run("ip", "addr", "add", "10.1.0.2/24", "dev", "vb")
		w.router.Run("ip", "addr", "add", "10.1.1.2/24", "dev", "ra")
		w.router.Run("ip", "addr", "add", "10.1.0.1/24", "dev", "rb")
		w.router.Run("ip", "link", "set", "ra", "up")
		w.router.Run("ip", "link", "set", "rb", "up")
		w.router.SetSysctl("net.ipv4.ip_forward", "1")
	}
	w.a.Run("ip", "link", "set", "va", "up")
	w.b.Run("ip", "link", "set", "vb", "up")
	if routed {
		w.a.Run("ip", "route", "add", "default", "via", "10.1.1.2")
		w.b.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	}
	return w
}

// connect makes a connection from a to b whose data is read.
func (w wire) connect(t testing.TB, addr string) (net.Conn, chan int64) {
	t.Helper()
	var l net.Listener
	var c net.Conn
	var err error
	w.b.Do(func() { l, err = net.Listen("tcp4", addr+":0") })
	if err != nil {
		t.Fatal(err)
	}
	w.a.Do(func() { c, err = net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	got := make(chan int64, 1)
	go func() {
		defer l.Close()
		peer, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer peer.Close()
		n, _ := io.Copy(io.Discard, peer)
		got <- n
	}()
	return c, got
}

// pass attaches an XDP program that lets everything pass.
func pass(t testing.TB, ns *testenv.NetNS, device string, flags link.XDPAttachFlags) {
	t.Helper()
	prog, err := cilium.NewProgram(&cilium.ProgramSpec{
		Type: cilium.XDP, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	ns.Do(func() {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			t.Error(err)
			return
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: flags})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
	})
}

func TestVirtualDevices(t *testing.T) {
	const total = 256 << 10
	tracer := shared(t)
	routed, tapped, early := []string{"loopback-delivery"}, []string{"loopback-delivery"}, []string(nil)
	if before(t, 6, 13) {
		routed = []string{"veth-routed-ingress"}             // by the router, once for all
		early = routed                                       // and before it sends
		tapped = []string{"loopback-delivery", "packet-tap"} // at the sender, too: one list of them for all namespaces
	}
	direct := func(t *testing.T) (wire, string) { return newWire(t, false), "10.1.0.2" }
	for _, c := range []struct {
		name   string
		make   func(t *testing.T) (wire, string)
		always []string // causes of every way, which copy
		lends  []string // of those that lend with a notice
	}{
		{name: "veth", make: direct, lends: []string{"loopback-delivery"}},
		{name: "xdp", make: func(t *testing.T) (wire, string) {
			w, addr := direct(t)
			pass(t, w.b, "vb", link.XDPDriverMode)
			return w, addr
		}, always: []string{"veth-xdp"}},
		{name: "generic xdp", make: func(t *testing.T) (wire, string) {
			w, addr := direct(t)
			pass(t, w.b, "vb", link.XDPGenericMode)
			return w, addr
		}, always: []string{"xdp-generic"}},
		{name: "tap of the receiver", make: func(t *testing.T) (wire, string) {
			w, addr := direct(t)
			w.b.Do(func() {
				fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { unix.Close(fd) })
			})
			return w, addr
		}, lends: tapped},
		{name: "routed", make: func(t *testing.T) (wire, string) { return newWire(t, true), "10.1.0.2" },
			lends: routed},
		{name: "routed without sg", make: func(t *testing.T) (wire, string) {
			w := newWire(t, true)
			w.router.Run("ethtool", "-K", "rb", "sg", "off")
			return w, "10.1.0.2"
		}, always: []string{"no-scatter-gather"}, lends: early},
		{name: "vxlan", make: func(t *testing.T) (wire, string) { return newTunnel(t, false), "10.9.0.2" },
			lends: []string{"loopback-delivery"}},
		{name: "vxlan without sg below", make: func(t *testing.T) (wire, string) { return newTunnel(t, true), "10.9.0.2" },
			always: []string{"no-scatter-gather"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, addr := c.make(t)
			for _, api := range []string{"write", "sendfile", "vmsplice", "msg_zerocopy", "io_uring_send_zc"} {
				t.Run(api, func(t *testing.T) {
					skipRing(t, api)
					conn, got := w.connect(t, addr)
					inode := inodeOf(t, conn)
					control(t, conn, func(fd int) error { return wayOf(api).send(fd, payload(total), 32<<10) })
					sent(t, conn)
					conn.Close()
					if n := <-got; n != total {
						t.Errorf("%d bytes arrived", n)
					}
					want := truth{copied: len(c.always) > 0, causes: slices.Clone(c.always)}
					switch api {
					case "write":
						want.copied, want.causes = true, append(want.causes, "api-copy")
					case "msg_zerocopy", "io_uring_send_zc":
						want.copied, want.causes = want.copied || len(c.lends) > 0, append(want.causes, c.lends...)
					}
					slices.Sort(want.causes)
					want.check(t, tracer, inode, api, total)
				})
			}
		})
	}
}

// newTunnel puts a VXLAN on a wire.
func newTunnel(t testing.TB, noSG bool) wire {
	t.Helper()
	w := newWire(t, false)
	w.a.Run("ip", "link", "add", "xa", "type", "vxlan", "id", "5", "remote", "10.1.0.2", "local", "10.1.0.1", "dstport", "4789", "dev", "va")
	w.b.Run("ip", "link", "add", "xb", "type", "vxlan", "id", "5", "remote", "10.1.0.1", "local", "10.1.0.2", "dstport", "4789", "dev", "vb")
	w.a.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "xa")
	w.b.Run("ip", "addr", "add", "10.9.0.2/24", "dev", "xb")
	w.a.Run("ip", "link", "set", "xa", "up")
	w.b.Run("ip", "link", "set", "xb", "up")
	if noSG {
		w.a.Run("ethtool", "-K", "va", "sg", "off")
	}
	return w
}

// TestTun sends datagrams to a program that reads a tun device.
func TestTun(t *testing.T) {
	testenv.Device(t, "/dev/net/tun")
	ns := testenv.NewNetNS(t)
	var tun *os.File
	ns.Do(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		req, err := unix.NewIfreq("tun0")
		if err != nil {
			t.Error(err)
			return
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			t.Error(err)
		}
		unix.SetNonblock(fd, true)
		tun = os.NewFile(uintptr(fd), "tun")
	})
	if tun == nil {
		t.FailNow()
	}
	ns.Run("ip", "addr", "add", "10.3.0.1/24", "dev", "tun0")
	ns.Run("ip", "link", "set", "tun0", "up")
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			if _, err := tun.Read(b); err != nil {
				return
			}
		}
	}()
	defer func() { tun.Close(); <-done }()
	tracer := shared(t)
	const size, sends = 1000, 50
	for _, api := range []string{"write", "msg_zerocopy"} {
		t.Run(api, func(t *testing.T) {
			var c net.Conn
			var err error
			ns.Do(func() {
				c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.3.0.2:9")))
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			control(t, c, func(fd int) error { return wayOf(api).send(fd, payload(size*sends), size) })
			time.Sleep(20 * time.Millisecond)
			// A tun device computes no checksums unless its reader does.
			want := truth{copied: true, causes: []string{"checksum-pass", "no-tx-csum", "tun-tap"}}
			if api == "write" {
				want.causes = []string{"api-copy", "checksum-pass", "tun-tap"}
			}
			want.check(t, tracer, inodeOf(t, c), api, size*sends)
		})
	}
}

// drop loses one in sixteen of the packets that a device receives.
func drop(t testing.TB, ns *testenv.NetNS, device string) {
	t.Helper()
	prog, err := cilium.NewProgram(&cilium.ProgramSpec{Type: cilium.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.FnGetPrandomU32.Call(),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.And.Imm(asm.R1, 15),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.JEq.Imm(asm.R1, 0, "end"),
		asm.Mov.Imm(asm.R0, 0), // TC_ACT_OK
		asm.Return().WithSymbol("end"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	ns.Do(func() {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			t.Error(err)
			return
		}
		l, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: dev.Index, Attach: cilium.AttachTCXIngress})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
	})
}

// TestRenamed: a device is known by the name it has, as are others that get the
// number of one that is gone.
func TestRenamed(t *testing.T) {
	w := newWire(t, false)
	tracer := shared(t)
	for _, name := range []string{"va", "vz"} {
		if name != "va" {
			w.a.Run("ip", "link", "set", "va", "down")
			w.a.Run("ip", "link", "set", "va", "name", name)
			w.a.Run("ip", "link", "set", name, "up")
		}
		conn, _ := w.connect(t, "10.1.0.2")
		if _, err := conn.Write(payload(1000)); err != nil {
			t.Fatal(err)
		}
		sent(t, conn)
		if flows, _ := flowsOf(t, tracer, inodeOf(t, conn)); len(flows) != 1 || flows[0].Device != name {
			t.Errorf("not by %s: %+v", name, flows)
		}
	}
}
