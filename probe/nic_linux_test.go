package probe

import (
	"strings"
	"testing"

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
