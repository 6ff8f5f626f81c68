package probe

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestRemediesWork switches features off, and pastes what the report says to
// switch them on again.
func TestRemediesWork(t *testing.T) {
	ns := testenv.NewNetNS(t)
	const odd = "a;b'$(id)"
	for _, cmd := range []string{
		"link add v0 type veth peer name v1", "link add " + odd + " type veth peer name -v3", "link add ifb9 type ifb",
		"link add br0 type bridge", "link set v1 master br0", "link add vx0 type vxlan id 1 remote 192.0.2.1 dstport 4789",
	} {
		ns.Run("ip", strings.Fields(cmd)...)
	}
	look := func(dev, id string) Feature {
		n := networkOf(t, ns)
		_, features := judgeNICs(&Facts{Networks: []Network{n}}, "")
		return judged(t, features, dev, id)
	}
	pasted := 0
	for _, dev := range []string{"v0", odd, "ifb9", "vx0", "br0"} {
		for _, c := range []struct {
			off string // for ethtool -K
			id  string
		}{
			{"sg off", "tx-scatter-gather"},
			{"sg off", "tx-tcp-segmentation"},
			{"sg off", "tx-tcp6-segmentation"},
			{"tx off", "tx-checksum-ipv4"},
			{"tx off", "tx-checksum-ipv6"},
			{"tx off", "tx-tcp-segmentation"},
			{"tx off", "tx-udp-segmentation"},
			{"tso off", "tx-tcp-segmentation"},
			{"tso off sg off tx off", "tx-tcp-segmentation"},
			{"tso off sg off tx off", "tx-tcp6-segmentation"},
			{"tx-udp-segmentation off", "tx-udp-segmentation"},
			{"tx-udp-segmentation off tx off", "tx-udp-segmentation"},
		} {
			ns.Run("ethtool", append([]string{"-K", dev}, strings.Fields(c.off)...)...)
			before := look(dev, "nic."+c.id)
			if before.Status != Disabled || !strings.HasPrefix(before.Remedy, "ethtool -K ") {
				t.Errorf("%s %s: %s is %s, %q, %q", dev, c.off, c.id, before.Status, before.Detail, before.Remedy)
				continue
			}
			if _, err := ns.Try("sh", "-c", before.Remedy); err != nil {
				t.Errorf("%s %s: %s: %v", dev, c.off, before.Remedy, err)
			}
			// A feature that waited for another is on once that is.
			if after := look(dev, "nic."+c.id); after.Status != Supported {
				t.Errorf("%s %s: after %q %s is %s, %q", dev, c.off, before.Remedy, c.id, after.Status, after.Detail)
			}
			pasted++
			ns.Run("ethtool", "-K", dev, "sg", "on", "tx", "on", "tso", "on", "tx-udp-segmentation", "on")
		}
	}
	t.Logf("pasted %d commands", pasted)
}

// TestGuestNICs reads real drivers: one with every offload, one with none.
func TestGuestNICs(t *testing.T) {
	testenv.Guest(t)
	p := machine{t}
	e1000e, ne2k := testenv.GuestNIC(t, "e1000e"), testenv.GuestNIC(t, "ne2k-pci")
	n := agreesWithIP(t, p)
	agreesWithEthtool(t, p, n)
	for _, name := range []string{e1000e, ne2k} {
		if l := linkNamed(t, n, name); !l.HasDev || l.Driver == "" || !strings.Contains(l.Bus, ":") {
			t.Errorf("%s: bus device %t, driver %q, bus %q", name, l.HasDev, l.Driver, l.Bus)
		}
	}
	look := func(dev, id string) Feature {
		nics, features := judgeNICs(&Facts{Networks: []Network{networkOf(t, p)}}, dev)
		if len(nics) != 1 || nics[0].Kind != "physical" {
			t.Errorf("%s: %+v", dev, nics)
		}
		return judged(t, features, dev, "nic."+id)
	}
	for _, nf := range nicFeatures {
		if f := look(ne2k, nf.id); f.Status != Unsupported || f.Remedy != "" {
			t.Errorf("ne2k_pci: %+v", f)
		}
		f := look(e1000e, nf.id)
		if want := nf.id != "tx-udp-segmentation"; (f.Status == Supported) != want {
			t.Errorf("e1000e: %+v", f)
		}
	}
	p.Run("ethtool", "-K", e1000e, "sg", "off")
	if f := look(e1000e, "tx-tcp-segmentation"); f.Status != Disabled || f.Remedy != "ethtool -K "+e1000e+" sg on" {
		t.Errorf("e1000e without scatter-gather: %+v", f)
	}
	p.Run("ethtool", "-K", e1000e, "sg", "on")
}

// TestGuestEthtoolLoadsNoModule asks for a name that no device has: on a
// probing thread the kernel must not look for a module of that name, as it does
// for root anywhere else.
func TestGuestEthtoolLoadsNoModule(t *testing.T) {
	testenv.Guest(t)
	const module = "nlmon"
	if err := unix.DeleteModule(module, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		t.Fatal(err)
	}
	loaded := func() bool {
		b, err := os.ReadFile("/proc/modules")
		if err != nil {
			t.Error(err)
		}
		return strings.Contains(string(b), module+" ")
	}
	ask := func() error {
		e, err := sys.OpenEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		err = e.Do(module, binary.NativeEndian.AppendUint64(nil, sys.EthtoolGSG))
		if !errors.Is(err, syscall.ENODEV) {
			t.Errorf("ethtool on a device that does not exist: %v", err)
		}
		return nil
	}
	if err := onProbeThread(t.Context(), ask); err != nil {
		t.Error(err)
	}
	if loaded() {
		t.Errorf("probing loaded %s", module)
	}
	if err := ask(); err != nil {
		t.Error(err)
	}
	if !loaded() {
		t.Errorf("%s was not loaded for root either: the test proves nothing", module)
	}
}
