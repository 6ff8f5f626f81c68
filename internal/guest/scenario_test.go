package guest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// labShare is where continuous integration runs the scenarios: on the oldest and the
// newest kernel. The others run by ZCPROBE_GUESTS=full.
var labShare = []string{"5.10", "7.3"}

// TestScenarios runs "zcprobe lab run" in guests: on each kernel, what is predicted,
// what completions report and what is observed agree with the truth of each scenario.
func TestScenarios(t *testing.T) {
	guest.Require(t)
	binary := guest.Build(t, "./cmd/zcprobe")
	for _, series := range []string{"5.10", "6.1", "6.12", "6.18", "7.3"} {
		if !guest.Full() && !slices.Contains(labShare, series) {
			continue
		}
		t.Run(series, func(t *testing.T) {
			r := guest.Run(t, guest.Config{
				Series: series, CPUs: 1, // what patches code races with the emulator's other CPUs
				Modules: []string{"veth", "tun", "ifb", "macvlan", "bridge", "dummy", "sch_ingress", "cls_bpf", "cls_matchall", "act_mirred",
					"sch_netem", "sch_tbf", "tcp_diag", "udp_diag", "af_packet_diag"},
				Files: map[string]string{"/bin/zcprobe": binary},
				Steps: []guest.Step{{Args: append([]string{"zcprobe", "lab", "run", "--disturb", "-o", "json"}, chosen()...)}}, Timeout: 12 * time.Minute,
			})
			checkScenarios(t, r.Steps[0])
		})
	}
}

// more are set-ups that continuous integration runs on its own kernel alone: IPv6, and
// two things on the way. They run in guests by ZCPROBE_GUESTS=full.
var more = []string{"no-sg-tap", "no-csum-tap", "no-sg-no-csum", "two-taps", "tbf-tap", "tbf-no-sg", "loopback-tap", "bridge-tap", "bridge-no-csum",
	"xdp-no-sg", "xdp-sender", "macvlan-no-sg", "macvlan-no-csum", "macvlan-tap", "udp-gso-mtu-576", "relay-no-sg", "relay-no-csum", "pipe-no-sg", "pipe-no-csum",
	"routed-no-csum", "routed-tap"}

// chosen are the ids of the scenarios that run in guests.
func chosen() []string {
	var ids []string
	for _, s := range scenario.Catalogue() {
		setUp, _, _ := strings.Cut(s.ID, "/")
		if guest.Full() || !slices.Contains(more, setUp) && !strings.HasPrefix(setUp, "ipv6-") {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// checkScenarios makes a test of each scenario that a guest has run.
func checkScenarios(t *testing.T, s guest.StepResult) {
	var report scenario.Report
	if err := json.Unmarshal([]byte(s.Stdout), &report); err != nil {
		t.Fatalf("status %d %s, %v:\n%s\n%s", s.Status, s.Error, err, s.Stdout, s.Stderr)
	}
	if len(report.Scenarios) != len(chosen()) {
		t.Errorf("%d scenarios of %d", len(report.Scenarios), len(chosen()))
	}
	t.Logf("kernel %s, tier %s: %s", report.Kernel, report.Tier, report.Verdict.Summary)
	for _, one := range report.Scenarios {
		t.Run(one.ID, func(t *testing.T) {
			switch one.Status {
			case probe.Pass:
			case probe.Skipped:
				t.Skip("needs another kernel: " + one.Reason)
			default:
				t.Error(describe(one))
			}
		})
	}
}

// describe shows what each layer said of a scenario that did not pass.
func describe(r scenario.Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s", r.ID, r.Status, r.Reason)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\n%s: %s: %s", f.Layer, f.Kind, f.Text)
	}
	for name, c := range map[string]scenario.Column{"expected": r.Expected, "predicted": r.Predicted, "reported": r.Reported, "observed": r.Observed} {
		copied := "?"
		if c.CopiedBytes != nil {
			copied = fmt.Sprint(*c.CopiedBytes)
		}
		fmt.Fprintf(&b, "\n%s: %s of %d bytes copied by %v (%s)", name, copied, r.SentBytes, c.Causes, c.Detail)
	}
	return b.String()
}
