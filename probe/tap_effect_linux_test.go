package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// sinkNS makes a namespace with a device, "sink", that swallows packets where
// no copy is made of them on the way, and a neighbour behind it.
func sinkNS(t *testing.T) (*testenv.NetNS, netip.AddrPort) {
	t.Helper()
	ns := testenv.NewNetNS(t)
	if _, err := ns.Try("ip", "link", "add", "sink", "type", "dummy"); err != nil {
		ns.Run("ip", "link", "add", "sink", "type", "ifb")
	}
	ns.Run("ip", "address", "add", "10.99.0.1/24", "dev", "sink")
	ns.Run("ip", "link", "set", "sink", "up")
	ns.Run("ip", "neighbour", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "sink", "nud", "permanent")
	return ns, netip.MustParseAddrPort("10.99.0.2:9")
}

// sendCopied sends one zero-copy datagram and returns whether its completion
// says that it was copied.
func sendCopied(ns *testenv.NetNS, to netip.AddrPort) (copied bool, err error) {
	ns.Do(func() {
		var fd int
		if fd, err = sys.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return
		}
		defer sys.Close(fd)
		if err = sys.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
			return
		}
		if err = sys.Connect(fd, to); err != nil {
			return
		}
		if _, err = sys.Send(fd, make([]byte, 1200), unix.MSG_ZEROCOPY); err != nil {
			return
		}
		if _, err = sys.Poll(fd, unix.POLLERR, 5000); err != nil {
			return
		}
		oob := make([]byte, 512)
		_, n, recvErr := sys.RecvErrqueue(fd, nil, oob)
		entries, parseErr := sys.ParseErrqueue(oob[:n])
		if len(entries) != 1 || entries[0].Origin != sys.OriginZerocopy {
			err = fmt.Errorf("completion %+v: %w, %w", entries, recvErr, parseErr)
			return
		}
		copied = entries[0].Code == sys.ZerocopyCopied
	})
	return copied, err
}

// What tapEffect says is what happens to a packet.
func TestTapEffectIsTrue(t *testing.T) { tapEffectIsTrue(t, "") }

// TestGuestTapEffect covers the kernels that have one list of any-device taps
// for all namespaces.
func TestGuestTapEffect(t *testing.T) {
	testenv.Guest(t)
	tapEffectIsTrue(t, "any device")
}

// tapEffectIsTrue tries the cases whose name contains which.
func tapEffectIsTrue(t *testing.T, which string) {
	const all = 3
	for _, c := range []struct {
		name  string
		own   []packetSocket
		other []packetSocket
	}{
		{name: "no tap"},
		{name: "any device", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: all}}},
		{name: "the device", own: []packetSocket{{typ: unix.SOCK_DGRAM, protocol: all, device: "sink"}}},
		{name: "a ring on the device", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, device: "sink", ring: true}}},
		{name: "another device", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, device: "lo"}}},
		{name: "ignores outgoing", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, ignore: true}}},
		{name: "one protocol", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: unix.ETH_P_IP, device: "sink"}}},
		{name: "no protocol", own: []packetSocket{{typ: unix.SOCK_RAW}}},
		{name: "a fanout group, its member ignores outgoing", own: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, ignore: true, fanout: 7}}},
		{name: "any device of another namespace", other: []packetSocket{{typ: unix.SOCK_RAW, protocol: all}}},
		{name: "any device of another namespace, ignores outgoing", other: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, ignore: true}}},
		{name: "a device of another namespace", other: []packetSocket{{typ: unix.SOCK_RAW, protocol: all, device: "lo"}}},
	} {
		if !strings.Contains(c.name, which) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			ns, to := sinkNS(t)
			other := testenv.NewNetNS(t)
			for _, p := range c.own {
				p.open(t, ns)
			}
			for _, p := range c.other {
				p.open(t, other)
			}
			f := tapsIn(t, ns)
			says, why, _ := tapEffect(&Facts{Taps: f}, "", "sink")
			copied, err := sendCopied(ns, to)
			if err != nil {
				t.Fatal(err)
			}
			if says == nil || *says != copied {
				t.Errorf("tapEffect says %s (%s, list %s by %q, errors %q), the completion %v",
					showBool(says), why, showBool(f.GlobalList), f.GlobalListSource, f.Errors, copied)
			}
			t.Logf("copied %v: %s", copied, why)
		})
	}
}
