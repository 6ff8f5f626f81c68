package guest_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
)

// A card is a network device that QEMU emulates, and what it can do for TCP over IPv4,
// which was measured by ethtool and by counting copies in the kernel.
type card struct {
	model  string // of QEMU, with options
	tap    bool   // on a tap, to which a virtio device can leave work
	driver string
	able   bool // scatter-gather and checksums
	tso    bool // TCP segmentation

	// pulls is the cause of a driver that copies small packets whole, as they fit where
	// it puts headers. Such a packet is the end of a send.
	pulls string
}

// row is the card's name in the matrix.
func (c card) row() string {
	if c.tap {
		return c.model + " on tap"
	}
	return c.model
}

func cards() []card {
	return []card{
		// e1000_xmit_frame pads packets of less than 60 bytes, after it has linearized them.
		{model: "e1000", driver: "e1000", able: true, tso: true, pulls: "driver-linearize"},
		{model: "e1000e", driver: "e1000e", able: true, tso: true},
		{model: "rtl8139", driver: "8139cp", able: true, tso: true},
		// vmxnet3_parse_hdr pulls packets of up to VMXNET3_HDR_COPY_SIZE, 128 bytes.
		{model: "vmxnet3", driver: "vmxnet3", able: true, tso: true, pulls: "driver-linearize"},
		{model: "ne2k_pci", driver: "ne2k-pci"},
		{model: "pcnet", driver: "pcnet32"},
		{model: "tulip", driver: "tulip"},
		{model: "i82559c", driver: "e100"},
		{model: "usb-net", driver: "cdc_ether"},
		{model: "virtio-net-pci", driver: "virtio_net"}, // QEMU's user network takes no work from it
		{model: "virtio-net-pci", tap: true, driver: "virtio_net", able: true, tso: true},
		{model: "virtio-net-pci,csum=off,gso=off", tap: true, driver: "virtio_net"},
		{model: "virtio-net-pci,host_tso4=off,host_tso6=off,host_ufo=off,host_ecn=off", tap: true, driver: "virtio_net", able: true},
	}
}

// A setting is a card as it is found, or with a feature switched off.
type setting struct{ name, off string }

// settings are those of a card: what it cannot do cannot be switched off.
func (c card) settings() []setting {
	all := []setting{{"", ""}}
	if c.able {
		all = append(all, setting{"without scatter-gather", "sg"}, setting{"without checksums", "tx"})
	}
	if c.tso {
		all = append(all, setting{"without segmentation", "tso"})
	}
	return all
}

// What is sent by each API: few sends, as a sender that is told of copies again and
// again begins to copy by itself.
const (
	cardSend  = 64 << 10
	cardSends = 8
)

// cardPayload is what is sent from a file, and its name.
func cardPayload(t *testing.T) (payload []byte, name string) {
	t.Helper()
	payload = make([]byte, cardSend*cardSends)
	rand.NewChaCha8([32]byte{1}).Read(payload)
	name = filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(name, payload, 0o644); err != nil {
		t.Fatal(err)
	}
	return payload, name
}

// cardAPIs are the backends that are tried on each card.
var cardAPIs = []string{"sendfile", "splice", "msg_zerocopy", "io_uring_send_zc", "write"}

// cardScenario is one transfer over a card, with what is true of it.
func cardScenario(c card, s setting, api string) (*scenario.Scenario, scenario.Truth) {
	gathers, sums := c.able && s.off != "sg", c.able && s.off != "tx"
	t := scenario.Truth{Copied: scenario.None, Why: "the card gathers the pages and sums them"}
	if api == "write" {
		t.Copied, t.Causes = scenario.All, append(t.Causes, "api-copy")
	}
	switch {
	case !gathers:
		t.Copied, t.Causes = scenario.All, append(t.Causes, "no-scatter-gather")
		t.Why = "skb_segment and __skb_linearize copy all of it"
	case !sums && api != "write":
		t.Copied, t.Causes = scenario.All, append(t.Causes, "no-tx-csum")
		t.Why = "pages that may change are linearized before they are summed"
	}
	if !sums {
		t.Causes = append(t.Causes, "checksum-pass")
	}
	slices.Sort(t.Causes)
	return &scenario.Scenario{
		ID: strings.TrimSpace(c.row()+" "+s.name) + "/" + api, Truths: []scenario.Truth{t},
		Traffic: scenario.Traffic{API: api, Protocol: "tcp", Size: cardSend, Count: cardSends},
	}, t
}

// A cardRun names the files that a guest leaves of one card in one setting.
func cardRun(n, s int) string { return fmt.Sprintf("/tmp/out/%d.%d.", n, s) }

// cardScript sends over every card in every setting by every API, in the guest. It
// finds the devices by their addresses, as their names depend on how fast drivers are.
func cardScript(all []card) string {
	var b strings.Builder
	b.WriteString("set -e\n")
	for n, c := range all {
		fmt.Fprintf(&b, "dev=$(grep -l %s /sys/class/net/*/address); dev=${dev%%/address}; dev=${dev##*/}\n", guest.MAC(n))
		to := fmt.Sprintf("10.0.%d.100:9", 10+n)
		for i, s := range c.settings() {
			o := cardRun(n, i)
			if s.off != "" {
				fmt.Fprintf(&b, "ethtool -K $dev %s off >/dev/null\n", s.off)
			}
			fmt.Fprintf(&b, "ethtool --json -k $dev >%sethtool\n", o)
			fmt.Fprintf(&b, "zcprobe path %s -o json >%spath\n", to, o)
			if i == 0 {
				fmt.Fprintf(&b, "ethtool -i $dev >%sdriver\n", o)
				fmt.Fprintf(&b, "setpriv --reuid=%d --regid=%[1]d --clear-groups zcprobe path %s -o json >%spath-nobody\n", nobody, to, o)
			}
			for _, api := range cardAPIs {
				source := "/data/payload"
				if api != "sendfile" && api != "splice" {
					source = fmt.Sprintf("--memory %d --repeat %d", cardSend, cardSends)
				}
				fmt.Fprintf(&b, "zcprobe send --to %s --backend %s %s -o json >%s%s || true\n", to, api, source, o, api)
			}
			if s.off != "" {
				b.WriteString("ethtool -K $dev tx on sg on tso on >/dev/null 2>&1 || true\n")
			}
		}
	}
	return b.String()
}

// cardShare is where continuous integration tries the cards, for two minutes.
var cardShare = []string{"7.3"}

// TestCards tries every card on every kernel: what is said of it, and what becomes of
// what is sent over it.
func TestCards(t *testing.T) {
	guest.Require(t)
	binary := guest.Build(t, "./cmd/zcprobe")
	payload, file := cardPayload(t)
	for _, series := range allSeries {
		if !guest.Full() && !slices.Contains(cardShare, series) {
			continue
		}
		t.Run(series, func(t *testing.T) {
			c := guest.Config{
				Series: series, CPUs: 1, KeepSunk: true, Collect: []string{"/tmp/out"}, Timeout: 15 * time.Minute,
				Modules: []string{"tcp_diag"},
				Tools:   []string{"sh", "grep", "ethtool", "ip", "mkdir", "uname", "setpriv"},
				Files:   map[string]string{"/bin/zcprobe": binary, "/data/payload": file},
			}
			for _, one := range cards() {
				if one.tap {
					c.Taps = append(c.Taps, one.model)
				} else {
					c.NICs = append(c.NICs, one.model)
				}
			}
			memlock := uint64(64 << 10)
			c.Steps = []guest.Step{
				run("mkdir", "/tmp/out"), run("uname", "-r"), run("ip", "-j", "-d", "link"),
				zcprobe("probe", "-o", "json"),
				{Args: []string{"zcprobe", "probe", "-o", "json"}, UID: nobody, Memlock: &memlock},
				zcprobe("trace", "--exact", "-o", "json", "--", "sh", "-c", cardScript(cards())),
			}
			r := guest.Run(t, c)
			checkCards(t, series, r, payload)
		})
	}
}
