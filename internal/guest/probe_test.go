package guest_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
)

// The kernels that everything is tried on: the oldest one supported, the one
// that most machines run, and the newest.
var serieses = []string{"5.10", "6.12", "7.3"}

// nics have every offload that matters, and none.
var nics = []string{"e1000e", "ne2k_pci"}

// networkModules make the devices that paths are built of.
var networkModules = []string{
	"bonding", "8021q", "vxlan", "wireguard", "macvlan", "ipvlan", "veth", "dummy", "tun", "bridge",
	"team", "team_mode_activebackup", "team_mode_roundrobin", "team_mode_loadbalance", "team_mode_broadcast",
}

// loadable is more that a test can make the kernel load.
var loadable = []string{"geneve", "gre", "ip_gre", "ip6_gre", "ipip", "sit", "ip6_tunnel", "vrf", "ifb", "macvtap", "nlmon", "af_packet_diag", "unix_diag", "tcp_diag", "udp_diag", "sch_fq", "sch_netem", "sch_tbf", "cls_bpf", "vsock_loopback"}

var tools = []string{"sh", "cat", "ls", "sleep", "ip", "ss", "tc", "bridge", "ethtool", "tcpdump"}

// tlsModules are the module tls and the ciphers it takes, where the kernel has them:
// Debian's 5.10 is built without CONFIG_TLS, and 7.3 has built in what others have as
// modules.
func tlsModules(series string) []string {
	switch series {
	case "5.10":
		return nil
	case "7.3":
		return []string{"tls", "gcm", "ctr", "chacha20poly1305", "chacha"}
	}
	return []string{"tls", "gcm", "ctr", "ghash-generic", "chacha20poly1305", "chacha_generic", "poly1305_generic"}
}

// TestPackages runs the TestGuest tests of the packages in guests.
func TestPackages(t *testing.T) {
	guest.Require(t)
	for _, pkg := range []string{"probe", "transmit"} {
		binary := guest.BuildTests(t, "./"+pkg)
		for _, series := range serieses {
			t.Run(pkg+"/"+series, func(t *testing.T) {
				c := guest.Config{
					Series: series, NICs: nics, Modules: []string{"tun"}, Loadable: slices.Concat(networkModules, loadable), Tools: tools,
					Timeout: 10 * time.Minute,
				}
				if pkg == "probe" {
					c.Loadable = append(c.Loadable, tlsModules(series)...) // and must not load them
				} else {
					c.Modules = append(c.Modules, tlsModules(series)...)
				}
				runTests(t, binary, "^TestGuest", c)
			})
		}
	}
}

// runTests runs the tests of a binary whose names match, but for some, in one
// guest. Each has a process of its own, so that what one leaves open does not
// disturb the next, and a subtest here.
func runTests(t *testing.T, binary, match string, c guest.Config, but ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, "-test.list="+match).Output()
	if err != nil {
		t.Fatal(err)
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		return !strings.HasPrefix(name, "Test") || slices.Contains(but, name)
	})
	if len(names) == 0 {
		t.Fatalf("%s has no tests that match %s", binary, match)
	}
	c.Files = map[string]string{"/bin/tests": binary}
	for _, name := range names {
		c.Steps = append(c.Steps, guest.Step{Args: []string{"tests", "-test.v", "-test.run=^" + name + "$", "-test.timeout=5m"}})
	}
	r := guest.Run(t, c)
	for i, name := range names {
		t.Run(name, func(t *testing.T) { replay(t, name, r.Steps[i]) })
	}
}

// replay gives this test the outcome of the one in the guest.
func replay(t *testing.T, name string, s guest.StepResult) {
	switch text := s.Stdout + s.Stderr; {
	case s.Status != 0:
		t.Errorf("status %d %s in the guest:\n%s", s.Status, s.Error, text)
	case strings.Contains(text, "\n--- SKIP: "+name):
		t.Skip(skipReason(text))
	case strings.Contains(text, "\n--- PASS: "+name):
		t.Log(text)
	default:
		t.Errorf("it did not run in the guest:\n%s", text)
	}
}

// skipReason picks the reason from what a skipped test wrote: the last line
// that is not the testing package's own.
func skipReason(text string) string {
	reason := ""
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "PASS" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			_, after, ok := strings.Cut(line, ": ")
			if ok {
				line = after
			}
			reason = line
		}
	}
	return reason
}

func TestSkipReason(t *testing.T) {
	got := skipReason("=== RUN   TestX\n    x_test.go:3: needs a guest with a NIC of driver e1000e\n--- SKIP: TestX (0.00s)\nPASS\n")
	if got != "needs a guest with a NIC of driver e1000e" {
		t.Errorf("got %q", got)
	}
}
