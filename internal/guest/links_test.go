package guest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
)

// A virtual is a device that is no hardware, on a pair of veth devices of which the
// other end is in another namespace.
type virtual struct {
	kind, module string

	// Commands of the shell that make it, $x, on the veth device $a, and its peer, $y,
	// on $b in the namespace called peer. $n is its number: addresses are of 10.3.$n.0/24
	// below it. Without a peer nothing is sent.
	make []string

	copies string // the cause of a device that copies what passes it
	off    string // a feature of $a that is switched off, for want of which it copies
}

func virtuals() []virtual {
	const below = "ip addr add 10.3.$n.1/24 dev $a; ip -n peer addr add 10.3.$n.2/24 dev $b"
	direct := []string{"ip link add link $a name $x type vlan id 7", "ip -n peer link add link $b name $y type vlan id 7"}
	bond := []string{"ip link add $x type bond mode active-backup", "ip link set $a down", "ip link set $a master $x", "y=$b"}
	vxlan := []string{below, "ip link add $x type vxlan id 7$n local 10.3.$n.1 remote 10.3.$n.2 dstport 4789 dev $a",
		"ip -n peer link add $y type vxlan id 7$n local 10.3.$n.2 remote 10.3.$n.1 dstport 4789 dev $b"}
	return []virtual{
		{kind: "vlan", module: "8021q", make: direct},
		{kind: "vlan", module: "8021q", make: direct, off: "sg", copies: "no-scatter-gather"},
		{kind: "bond", module: "bonding", make: bond},
		{kind: "bond", module: "bonding", make: bond, off: "sg", copies: "no-scatter-gather"},
		{kind: "vxlan", module: "vxlan", make: vxlan},
		{kind: "vxlan", module: "vxlan", make: vxlan, off: "sg", copies: "no-scatter-gather"},
		{kind: "wireguard", module: "wireguard", copies: "wireguard", make: []string{below,
			"umask 077; wg genkey >/tmp/one; wg genkey >/tmp/two", "ip link add $x type wireguard", "ip -n peer link add $y type wireguard",
			"wg set $x listen-port 51820 private-key /tmp/one peer $(wg pubkey </tmp/two) allowed-ips 10.2.$n.2/32 endpoint 10.3.$n.2:51820",
			"ip netns exec peer wg set $y listen-port 51820 private-key /tmp/two peer $(wg pubkey </tmp/one) allowed-ips 10.2.$n.1/32 endpoint 10.3.$n.1:51820"}},
		{kind: "team", module: "team", make: []string{"ip link add $x type team"}},
		{kind: "dummy", module: "dummy", make: []string{"ip link add $x type dummy"}},
	}
}

// ktlsRow is not of a device, but of a protocol on top of TCP.
const ktlsRow = "kernel TLS"

// row is its name in the matrix.
func (v virtual) row() string {
	if v.off != "" {
		return v.kind + " over veth without scatter-gather"
	}
	return v.kind
}

func (v virtual) sends() bool { return v.kind != "team" && v.kind != "dummy" }

// truth is what becomes of what is sent over it, to a program on the same machine.
func (v virtual) truth(api string) scenario.Truth {
	t := scenario.Truth{Copied: scenario.None, Why: "each device hands the same pages on"}
	if api == "write" {
		t.Copied, t.Causes = scenario.All, append(t.Causes, "api-copy")
	}
	if v.kind == "wireguard" { // encrypt_packet sums first what was left to the device
		t.Causes = append(t.Causes, "checksum-pass")
	}
	switch {
	case v.copies != "":
		t.Copied, t.Causes, t.Why = scenario.All, append(t.Causes, v.copies), "the device copies all of it"
	case api == "msg_zerocopy" || api == "io_uring_send_zc":
		t.Copied, t.Causes, t.Why = scenario.All, append(t.Causes, "loopback-delivery"), "it is lent, and delivered to this machine"
	}
	slices.Sort(t.Causes)
	return t
}

func virtualRun(n int) string { return fmt.Sprintf("/tmp/out/v%d.", n) }

// virtualScript makes all devices, and sends over each by every API.
func virtualScript(all []virtual) string {
	var b strings.Builder
	b.WriteString("set -e\nip netns add peer\n")
	for n, v := range all {
		fmt.Fprintf(&b, "n=%d a=a$n b=b$n x=x$n y=y$n\nip link add $a type veth peer name $b netns peer\n", n)
		b.WriteString("ip link set $a up; ip -n peer link set $b up\n")
		if v.off != "" {
			fmt.Fprintf(&b, "ethtool -K $a %s off >/dev/null\n", v.off)
		}
		b.WriteString(strings.Join(v.make, "\n") + "\nip addr add 10.2.$n.1/24 dev $x; ip link set $x up\n")
		out := virtualRun(n)
		fmt.Fprintf(&b, "ethtool --json -k $x >%sethtool\n", out)
		if !v.sends() {
			continue
		}
		b.WriteString("ip -n peer addr add 10.2.$n.2/24 dev $y; ip -n peer link set $y up\n")
		fmt.Fprintf(&b, "until ip netns exec peer zcprobe path 10.2.$n.1:9 -o json >/dev/null; do sleep 0.1; done\n")
		fmt.Fprintf(&b, "zcprobe path 10.2.$n.2:9 -o json >%spath\n", out)
		for _, api := range cardAPIs {
			source := "/data/payload"
			if api != "sendfile" && api != "splice" {
				source = fmt.Sprintf("--memory %d --repeat %d", cardSend, cardSends)
			}
			fmt.Fprintf(&b, "ip netns exec peer zcprobe recv --discard --listen 10.2.$n.2:9 -o json >%s%s.got &\n", out, api)
			fmt.Fprintf(&b, "until grep -q listening %s%s.got; do sleep 0.1; done\n", out, api)
			fmt.Fprintf(&b, "zcprobe send --to 10.2.$n.2:9 --backend %s %s -o json >%s%s || kill $! 2>/dev/null || true\nwait || true\n", api, source, out, api)
		}
	}
	return b.String()
}

func virtualRows() []string {
	rows := []string{ktlsRow}
	for _, v := range virtuals() {
		rows = append(rows, v.row())
	}
	return rows
}

// virtualShare is where continuous integration tries virtual devices, for a minute.
var virtualShare = []string{"6.1"}

// TestVirtualLinks tries devices that are no hardware, from the modules of each kernel.
func TestVirtualLinks(t *testing.T) {
	guest.Require(t)
	testenv.Tool(t, "wg")
	binary := guest.Build(t, "./cmd/zcprobe")
	_, file := cardPayload(t)
	for _, series := range allSeries {
		if !guest.Full() && !slices.Contains(virtualShare, series) {
			continue
		}
		t.Run(series, func(t *testing.T) {
			c := guest.Config{
				Series: series, CPUs: 1, Collect: []string{"/tmp/out"}, Timeout: 10 * time.Minute,
				Modules: []string{"tcp_diag", "veth", "tls"},
				Tools:   []string{"sh", "grep", "ethtool", "ip", "mkdir", "uname", "sleep", "cat", "wg"},
				Files:   map[string]string{"/bin/zcprobe": binary, "/data/payload": file},
			}
			for _, v := range virtuals() {
				c.Modules = append(c.Modules, v.module)
			}
			c.Modules = slices.Compact(c.Modules)
			if series == "5.10" { // is built without
				c.Modules = slices.DeleteFunc(c.Modules, func(name string) bool { return name == "tls" })
			}
			c.Steps = []guest.Step{
				run("mkdir", "/tmp/out"), run("uname", "-r"),
				zcprobe("trace", "--exact", "-o", "json", "--", "sh", "-c", virtualScript(virtuals())),
				run("ip", "-j", "-d", "link"), zcprobe("probe", "-o", "json"),
				{Args: []string{"zcprobe", "probe", "-o", "json"}, UID: nobody},
				run("cat", "/proc/sys/net/ipv4/tcp_available_ulp"),
			}
			checkVirtual(t, series, guest.Run(t, c))
		})
	}
}

func checkVirtual(t *testing.T, series string, r guest.Result) {
	for i, s := range r.Steps {
		if s.Status != 0 {
			t.Fatalf("step %d: status %d %s\n%s\n%s", i, s.Status, s.Error, s.Stderr, s.Stdout)
		}
	}
	c := cardResult{Result: r, ledger: newLedger(t, "virtual", series, r.Steps[1].Stdout), trace: decode[ebpf.Summary](t, "trace", r.Steps[2])}
	if c.trace.LostEvents > 0 || c.trace.Tier != ebpf.TierFentry {
		t.Errorf("tier %s, %d events lost", c.trace.Tier, c.trace.LostEvents)
	}
	defer func() {
		if t.Failed() {
			t.Log(r.Steps[2].Stderr)
		}
	}()
	reports := []probe.Report{decode[probe.Report](t, "probe", r.Steps[4]), decode[probe.Report](t, "probe as nobody", r.Steps[5])}
	for _, rep := range reports {
		agreeOnLinks(t, rep, r.Steps[3].Stdout)
		c.ktls(t, rep, r.Steps[6].Stdout)
	}
	for n, v := range virtuals() {
		t.Run(v.row(), func(t *testing.T) {
			for _, rep := range reports {
				i := slices.IndexFunc(rep.NICs, func(nic probe.NIC) bool { return nic.Name == fmt.Sprintf("x%d", n) })
				if i < 0 {
					t.Fatal("the device is missing")
				}
				c.ledger.right(v.row(), agreeOnFeatures(t, "probe", rep.NICs[i], string(c.file(t, virtualRun(n)+"ethtool"))))
				if kind := rep.NICs[i].Kind; kind != v.kind {
					t.Errorf("kind %s, want %s", kind, v.kind)
				}
			}
			if v.sends() {
				c.virtual(t, n, v)
			}
		})
	}
	c.ledger.close()
}

// ktls: what is said of kernel TLS is what the kernel lists of protocols on top of TCP.
func (c *cardResult) ktls(t *testing.T, rep probe.Report, listed string) {
	i := slices.IndexFunc(rep.Features, func(f probe.Feature) bool { return f.ID == "ktls.tx" })
	has := slices.Contains(strings.Fields(listed), "tls")
	if i < 0 || has != (rep.Features[i].Status == probe.Supported) {
		t.Errorf("the kernel lists %s of protocols on top of TCP, and of kernel TLS is said: %+v", listed, rep.Features)
		return
	}
	c.ledger.right(ktlsRow, 1)
	if !has {
		c.ledger.untold(ktlsRow, "This kernel is built without kernel TLS.")
	}
}

// virtual: what is sent by each API over a virtual device.
func (c *cardResult) virtual(t *testing.T, n int, v virtual) {
	report := c.path(t, virtualRun(n)+"path")
	for _, api := range cardAPIs {
		var sent sending
		name := virtualRun(n) + api
		if err := json.Unmarshal(c.file(t, name), &sent); err != nil {
			t.Errorf("%s: %v\n%s", api, err, c.Files[name])
			continue
		}
		if sent.Error != "" {
			if api == "io_uring_send_zc" && strings.Contains(sent.Error, unknownRequest) {
				c.ledger.untold(v.row(), "io_uring SEND_ZC: this kernel does not know it ("+unknownRequest+").")
			} else {
				t.Errorf("%s: %s", api, sent.Error)
			}
			continue
		}
		w := scenario.Witness{Sent: sent.SentBytes, Tier: string(c.trace.Tier), Lost: c.trace.LostEvents}
		c.received(t, name+".got", sent, &w)
		c.observed(card{}, sent, api, &w)
		truth := v.truth(api)
		want := &scenario.Scenario{ID: v.row() + "/" + api, Truths: []scenario.Truth{truth},
			Traffic: scenario.Traffic{API: api, Protocol: "tcp", Size: int(w.Sent), Count: 1}}
		w.Predicted, w.PassesUnknown = scenario.Predicted(&report, want.Traffic)
		// Of what wireguard encrypts, packet by packet, completions say anything.
		if v.kind != "wireguard" {
			w.Reported = reportedColumn(sent, w.Sent)
			c.ledger.right(v.row(), 1)
		}
		if r := scenario.Judge(want, truth, w); r.Status != probe.Pass {
			t.Errorf("%s\n%+v", describe(r), sent)
			continue
		}
		c.ledger.right(v.row(), 3) // content, predicted, observed
	}
}

// received compares what a program got with what was sent.
func (c *cardResult) received(t *testing.T, name string, sent sending, w *scenario.Witness) {
	lines := strings.Split(strings.TrimSpace(string(c.file(t, name))), "\n")
	var got struct {
		ReceivedBytes uint64 `json:"received_bytes"`
		SHA256        string `json:"sha256"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	w.Arrived = &got.ReceivedBytes
	if got.SHA256 != sent.SHA256 || got.ReceivedBytes != sent.SentBytes {
		t.Errorf("%s: %d bytes %s arrived of %d bytes %s", name, got.ReceivedBytes, got.SHA256, sent.SentBytes, sent.SHA256)
	}
}
