package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestLinkDetails holds what ip does not tell, or not as plainly.
func TestLinkDetails(t *testing.T) {
	ns := testenv.NewNetNS(t)
	makeLinks(t, ns)
	n := networkOf(t, ns)
	yes, no := true, false
	for _, c := range []struct {
		name string
		want Link
	}{
		{"vx0", Link{TunRemote: "192.0.2.1", TunLocal: "192.0.2.2", TunPort: 4789, TunCsum: &yes, Parent: linkNamed(t, n, "v0").Index}},
		{"vx1", Link{TunRemote: "2001:db8::1", TunPort: 4790, TunCsum: &no, Parent: linkNamed(t, n, "v0").Index}},
		{"vx2", Link{TunRemote: "239.1.1.1", TunPort: 8472, TunCsum: &yes, Parent: linkNamed(t, n, "v0").Index}},
		{"vx3", Link{TunPort: 4791}}, // everything is in the route
		{"vx4", Link{TunRemote: "192.0.2.1", TunPort: 4792, TunCsum: &no}},
		{"vx5", Link{TunLocal: "192.0.2.2", TunPort: 4793, TunCsum: &yes}},
		{"tun9", Link{TunTap: "tun"}},
		{"tap9", Link{TunTap: "tap"}},
		{"mv0", Link{MacvlanMode: 4, Parent: linkNamed(t, n, "v0").Index}},
		{"v1", Link{Parent: linkNamed(t, n, "v0").Index, Master: linkNamed(t, n, "br0").Index, GSOMaxBytes: 30000, GSOMaxSegs: 20}},
	} {
		l := linkNamed(t, n, c.name)
		got := fmt.Sprint(l.TunRemote, l.TunLocal, l.TunPort, l.TunTap, l.MacvlanMode, l.Parent, l.Master, l.ParentN)
		want := fmt.Sprint(c.want.TunRemote, c.want.TunLocal, c.want.TunPort, c.want.TunTap, c.want.MacvlanMode, c.want.Parent, c.want.Master, "")
		if got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
		if (l.TunCsum == nil) != (c.want.TunCsum == nil) || l.TunCsum != nil && *l.TunCsum != *c.want.TunCsum {
			t.Errorf("%s: outer checksum %v, want %v", c.name, l.TunCsum, c.want.TunCsum)
		}
		if c.want.GSOMaxBytes != 0 && (l.GSOMaxBytes != c.want.GSOMaxBytes || l.GSOMaxSegs != c.want.GSOMaxSegs) {
			t.Errorf("%s: gso %d bytes, %d segments", c.name, l.GSOMaxBytes, l.GSOMaxSegs)
		}
		if l.BondMode != -1 || l.HasDev {
			t.Errorf("%s: bond mode %d, bus device %t", c.name, l.BondMode, l.HasDev)
		}
	}
}

func TestParentInOtherNamespace(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b.Path())
	a.Run("ip", "link", "add", "vc", "type", "veth", "peer", "name", "vd")
	a.Run("ip", "link", "add", "mv", "link", "vc", "netns", b.Path(), "type", "macvlan")
	a.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			tab := findNamespaces(liveSources())
			label := entryFor(t, tab, b.Path()).label
			here, there := tab.readNetwork(t.Context(), ""), tab.readNetwork(t.Context(), label)
			va, vb := linkNamed(t, here, "va"), linkNamed(t, there, "vb")
			mv, vc := linkNamed(t, there, "mv"), linkNamed(t, here, "vc")
			if va.Parent != vb.Index || va.ParentN != label {
				t.Errorf("va: parent %d in %q, want %d in %q", va.Parent, va.ParentN, vb.Index, label)
			}
			if vb.Parent != va.Index || vb.ParentN != ownNamespace {
				t.Errorf("vb: parent %d in %q, want %d in %q", vb.Parent, vb.ParentN, va.Index, ownNamespace)
			}
			if mv.Parent != vc.Index || mv.ParentN != ownNamespace {
				t.Errorf("mv: parent %d in %q, want %d in %q", mv.Parent, mv.ParentN, vc.Index, ownNamespace)
			}
			if vc.ParentN != "" || vc.Parent != linkNamed(t, here, "vd").Index {
				t.Errorf("vc: parent %d in %q", vc.Parent, vc.ParentN)
			}
			if there.ID != label || there.Error != "" {
				t.Errorf("network %q, error %q", there.ID, there.Error)
			}
			again := tab.readNetwork(t.Context(), ownNamespace)
			if !slices.Equal(linkNames(again), linkNames(here)) {
				t.Errorf("links of %s: %v, want %v", ownNamespace, linkNames(again), linkNames(here))
			}
			// A namespace that is not in the table cannot be named.
			blind := &nsTable{sys: tab.sys, entries: tab.entries[:1]}
			if l := linkNamed(t, blind.readNetwork(t.Context(), ""), "va"); l.ParentN != "?" || l.Parent != vb.Index {
				t.Errorf("va: parent %d in %q, want %d in ?", l.Parent, l.ParentN, vb.Index)
			}
			if n := tab.readNetwork(t.Context(), "ns999"); n.Error == "" || n.Links == nil {
				t.Errorf("network of no namespace: %+v", n)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestXDPMode(t *testing.T) {
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	ns.Run("ip", "link", "add", "v2", "type", "veth", "peer", "name", "v3")
	const generic, native = 2, 4 // XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
	ns.Do(func() {
		attachXDP(t, "v0", generic)
		attachXDP(t, "v2", native)
	})
	n := networkOf(t, ns)
	for name, want := range map[string]string{"v0": "generic", "v1": "", "v2": "native", "lo": ""} {
		if got := linkNamed(t, n, name).XDP; got != want {
			t.Errorf("%s: XDP %q, want %q", name, got, want)
		}
	}
}

// attachXDP attaches a program that passes every packet.
func attachXDP(t *testing.T, dev string, flags uint32) {
	t.Helper()
	insns := []uint64{0x2_0000_00b7, 0x95} // r0 = XDP_PASS; exit
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Error("written for little-endian machines")
		return
	}
	license := []byte("GPL\x00")
	attr := struct {
		typ, count       uint32
		insns, license   uint64
		logLevel, logLen uint32
		logBuf           uint64
	}{
		typ: unix.BPF_PROG_TYPE_XDP, count: uint32(len(insns)),
		insns: uint64(uintptr(unsafe.Pointer(&insns[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		t.Errorf("load an XDP program: %v", errno)
		return
	}
	defer unix.Close(int(fd))
	nl, err := sys.OpenNetlink(sys.NetlinkRoute)
	if err != nil {
		t.Error(err)
		return
	}
	defer nl.Close()
	u32 := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	body := sys.AppendNetlinkAttr(make([]byte, ifInfoSize), iflaIfName, append([]byte(dev), 0))
	xdp := sys.AppendNetlinkAttr(nil, unix.IFLA_XDP_FD, u32(uint32(fd)))
	xdp = sys.AppendNetlinkAttr(xdp, unix.IFLA_XDP_FLAGS, u32(flags))
	body = sys.AppendNetlinkAttr(body, iflaXDP|unix.NLA_F_NESTED, xdp)
	if _, err := nl.Query(unix.RTM_SETLINK, 0, body); err != nil {
		t.Errorf("attach XDP to %s: %v", dev, err)
	}
}

func TestHasDevice(t *testing.T) {
	sysfs := fstest.MapFS{}
	for name, text := range map[string]string{
		"eth0/ifindex": "2\n", "eth0/address": "02:00:00:00:00:01\n", "eth0/device/uevent": "",
		"nodev/ifindex": "3\n", "nodev/address": "02:00:00:00:00:02\n",
	} {
		sysfs["class/net/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, c := range []struct {
		name string
		link rawLink
		sys  fs.FS
		want bool
	}{
		{"kernel names the device", rawLink{parentDev: "0000:00:03.0"}, nil, true},
		{"sysfs has it", rawLink{Link: Link{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01"}}, sysfs, true},
		{"sysfs has none", rawLink{Link: Link{Name: "nodev", Index: 3, MAC: "02:00:00:00:00:02", Bus: "x"}}, sysfs, false},
		{"sysfs of another namespace", rawLink{Link: Link{Name: "eth0", Index: 7, MAC: "02:00:00:00:00:01"}}, sysfs, false},
		{"sysfs of another namespace, same index", rawLink{Link: Link{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:09"}}, sysfs, false},
		{"no sysfs, bus address", rawLink{Link: Link{Name: "eth0", Index: 2, Bus: "0000:00:03.0"}}, fstest.MapFS{}, true},
		{"no sysfs, no bus", rawLink{Link: Link{Name: "lo", Index: 1}}, fstest.MapFS{}, false},
		{"rtnetlink kind with a bus word", rawLink{Link: Link{Name: "tap0", Kind: "tun", Bus: "tap"}}, fstest.MapFS{}, false},
		{"hostile name", rawLink{Link: Link{Name: "../../x", Index: 2}}, sysfs, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := &nsTable{sys: c.sys}
			if tab.findDevice(&c.link); c.link.HasDev != c.want {
				t.Errorf("HasDev %t, want %t", c.link.HasDev, c.want)
			}
		})
	}
}

// TestProbeLeaksNothing compares descriptors and threads before and after.
func TestProbeLeaksNothing(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b.Path())
	once := func() {
		a.Do(func() {
			err := onProbeThread(t.Context(), func() error {
				tab := findNamespaces(liveSources())
				for _, ns := range []*testenv.NetNS{a, b} {
					n := tab.readNetwork(t.Context(), entryFor(t, tab, ns.Path()).label)
					if n.Error != "" || len(n.Links) != 2 {
						t.Errorf("%d links, error %q", len(n.Links), n.Error)
					}
				}
				tab.labelOf(0)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	once()
	before := len(openFiles(t))
	for range 100 {
		once()
	}
	if after := openFiles(t); len(after) > before {
		t.Errorf("%d descriptors, %d before: %v", len(after), before, after)
	}
	for _, ns := range []*testenv.NetNS{a, b} {
		if n := settledThreadsIn(t, namespaceOf(t, ns.Path())); n != 1 {
			t.Errorf("%d threads in the namespace, want its own only", n)
		}
	}
	for _, dir := range tasks(t) {
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // ended
		}
		for _, line := range strings.Split(string(status), "\n") {
			var eff uint64
			if n, _ := fmt.Sscanf(line, "CapEff: %x", &eff); n == 1 && eff>>sys.CapNetAdmin&1 == 0 {
				t.Errorf("%s is left without CAP_NET_ADMIN", dir)
			}
		}
	}
}

func openFiles(t *testing.T) []string {
	t.Helper()
	dirs, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range dirs {
		if target, err := os.Readlink("/proc/self/fd/" + d.Name()); err == nil {
			out = append(out, d.Name()+" "+target)
		}
	}
	return out
}

// TestDeviceVanishes reads while devices come and go: every device that is
// reported is complete, or says that it is gone.
func TestDeviceVanishes(t *testing.T) {
	ns, churn := testenv.NewNetNS(t), 0
	ns.Run("ip", "link", "add", "stay0", "type", "veth", "peer", "name", "stay1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	nsenter, ip := testenv.Tool(t, "nsenter"), testenv.Tool(t, "ip")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			out, err := runTool(nsenter, "--net="+ns.Path(), ip, "link", "add", "go0", "type", "veth", "peer", "name", "go1")
			if err != nil {
				t.Errorf("add: %v %s", err, out)
				return
			}
			if out, err := runTool(nsenter, "--net="+ns.Path(), ip, "link", "del", "go0"); err != nil {
				t.Errorf("del: %v %s", err, out)
				return
			}
			churn++
		}
	}()
	var rounds, gone, seen int
	for ctx.Err() == nil {
		n := networkOf(t, ns)
		rounds++
		for _, l := range n.Links {
			switch {
			case l.FeaturesError == goneENODEV && l.Features == nil && strings.HasPrefix(l.Name, "go"):
				gone++
			case l.FeaturesError != "" || len(l.Features) < 30:
				t.Errorf("%s: %d features, error %q", l.Name, len(l.Features), l.FeaturesError)
			case strings.HasPrefix(l.Name, "go"):
				seen++
			}
		}
	}
	<-done
	t.Logf("%d reads, %d changes: device read %d times, gone %d times", rounds, churn, seen, gone)
}

func FuzzParseLink(f *testing.F) {
	nl, err := sys.OpenNetlink(sys.NetlinkRoute)
	if err != nil {
		f.Fatal(err)
	}
	defer nl.Close()
	msgs, err := nl.Query(rtmGetLink, sys.NetlinkDump, make([]byte, ifInfoSize))
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range msgs {
		f.Add(m.Body)
	}
	vxlan := sys.AppendNetlinkAttr(nil, iflaInfoKind, []byte("vxlan\x00"))
	vxlan = sys.AppendNetlinkAttr(vxlan, iflaInfoData, sys.AppendNetlinkAttr(nil, 2, []byte{192, 0, 2, 1}))
	f.Add(sys.AppendNetlinkAttr(make([]byte, ifInfoSize), iflaLinkInfo, vxlan))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLink(b)
		if err == nil && (l.Name == "" || l.Index <= 0) {
			t.Errorf("link without name or index: %+v", l)
		}
		if err != nil && l.Name != "" {
			t.Errorf("a link %+v with error %v", l, err)
		}
	})
}

func TestParseLinksKeepsTheGood(t *testing.T) {
	good := sys.AppendNetlinkAttr(make([]byte, ifInfoSize), iflaIfName, []byte("eth0\x00"))
	binary.NativeEndian.PutUint32(good[4:], 7)
	shortMTU := sys.AppendNetlinkAttr(slices.Clone(good), iflaMTU, []byte{1})
	cut := append(slices.Clone(good), 0xff, 0xff, 4, 0, 1, 2)
	links, err := parseLinks([]sys.NetlinkMessage{
		{Type: rtmNewLink, Body: good},
		{Type: rtmNewLink, Body: good},
		{Type: rtmNewLink, Body: shortMTU},
		{Type: rtmNewLink, Body: cut},
		{Type: rtmNewLink, Body: good[:8]},
		{Type: 99, Body: nil},
	})
	if len(links) != 1 || links[0].Name != "eth0" || links[0].Index != 7 {
		t.Errorf("links %+v", links)
	}
	if err == nil || strings.Count(err.Error(), "RTM_NEWLINK") != 3 {
		t.Errorf("error %v, want three", err)
	}
}

func BenchmarkReadNetwork(b *testing.B) {
	ns := testenv.NewNetNS(b)
	for i := range 200 {
		ns.Run("ip", "link", "add", fmt.Sprintf("a%d", i), "type", "veth", "peer", "name", fmt.Sprintf("b%d", i))
	}
	ns.Do(func() {
		err := onProbeThread(b.Context(), func() error {
			for b.Loop() {
				n := findNamespaces(liveSources()).readNetwork(b.Context(), "")
				if len(n.Links) < 401 || n.Error != "" {
					b.Errorf("%d links, error %q", len(n.Links), n.Error)
				}
			}
			return nil
		})
		if err != nil {
			b.Error(err)
		}
	})
}
