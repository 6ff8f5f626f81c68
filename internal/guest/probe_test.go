package guest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/testenv"
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

// withTLS adds the module tls where the kernel has it: Debian's 5.10 is built
// without CONFIG_TLS.
func withTLS(series string, modules []string) []string {
	if series == "5.10" {
		return modules
	}
	return append(slices.Clone(modules), "tls")
}

// TestPackages runs the TestGuest tests of the packages in guests.
func TestPackages(t *testing.T) {
	guest.Require(t)
	for _, pkg := range []string{"probe"} {
		binary := guest.BuildTests(t, "./"+pkg)
		for _, series := range serieses {
			t.Run(pkg+"/"+series, func(t *testing.T) {
				r := guest.Run(t, guest.Config{
					Series: series, NICs: nics, Modules: withTLS(series, networkModules), Loadable: withTLS(series, loadable),
					Tools: tools, Files: map[string]string{"/bin/tests": binary},
					Steps:   []guest.Step{{Args: []string{"tests", "-test.run=^TestGuest", "-test.v=test2json", "-test.timeout=9m"}}},
					Timeout: 10 * time.Minute,
				})
				replay(t, r.Steps[0])
			})
		}
	}
}

// replay gives each test of the guest a subtest here with the same outcome.
func replay(t *testing.T, s guest.StepResult) {
	type event struct{ Action, Test, Output string }
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "go"), "tool", "test2json")
	cmd.Stdin = strings.NewReader(s.Stdout)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("test2json: %v", err)
	}
	text, outcome := map[string]string{}, map[string]string{}
	var order []string
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(e.Test, "/")
		switch {
		case e.Action == "run" && e.Test == name:
			order = append(order, name)
		case e.Action == "output":
			text[name] += e.Output
		case e.Test == name:
			outcome[name] = e.Action
		}
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			switch outcome[name] {
			case "pass":
				t.Log(text[name])
			case "skip":
				t.Skip(skipReason(text[name]))
			default:
				t.Errorf("%q in the guest:\n%s", outcome[name], text[name])
			}
		})
	}
	if s.Status != 0 && !t.Failed() || len(order) == 0 {
		t.Errorf("the tests ended with status %d %s after %d tests:\n%s%s", s.Status, s.Error, len(order), text[""], s.Stderr)
	}
}

// skipReason picks the reason from what a skipped test wrote: the last line
// that is not the testing package's own.
func skipReason(text string) string {
	reason := ""
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
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
	got := skipReason("=== RUN   TestX\n    x_test.go:3: needs a guest with a NIC of driver e1000e\n--- SKIP: TestX (0.00s)\n")
	if got != "needs a guest with a NIC of driver e1000e" {
		t.Errorf("got %q", got)
	}
}
