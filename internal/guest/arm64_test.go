package guest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// arm64Series is the kernel that arm64 is tried on: the newest whose image QEMU takes
// as Debian ships it.
const arm64Series = "6.1"

// The rows of the matrix for arm64.
const (
	arm64Program = "version, explain, select, probe"
	arm64Fentry  = "trace, tier fentry"
	arm64Lab     = "laboratory"
)

// arm64Sends are traced sends by MSG_ZEROCOPY, over a card that gathers and sums, and
// one that does neither. The two cards have numbers 0 and 1.
var arm64Sends = []struct {
	row, tier string
	card      int
}{
	{"trace, tier kprobe, e1000e", "kprobe", 0},
	{"trace, tier kprobe, ne2k_pci", "kprobe", 1},
	{"trace, tier tracepoint, e1000e", "tracepoint", 0},
}

func arm64Rows() []string {
	rows := []string{arm64Program, arm64Fentry}
	for _, s := range arm64Sends {
		rows = append(rows, s.row)
	}
	return append(rows, arm64Lab)
}

// TestARM64 runs the program, built for arm64, on such a machine: what it says, what it
// sends, and its BPF programs.
func TestARM64(t *testing.T) {
	guest.Require(t)
	steps := []guest.Step{
		zcprobe("version"), zcprobe("explain", "no-scatter-gather"), zcprobe("select", "--from", "memory", "--size", "1M", "-o", "json"),
		zcprobe("probe", "-o", "json"), zcprobe("trace", "--tier", "fentry", "-o", "json", "--", "zcprobe", "version"),
	}
	labRun := []string{"lab", "run", "-o", "json"}
	if !guest.Full() {
		labRun = append(labRun, "plain", "no-sg", "no-csum", "loopback", "veth")
	}
	steps = append(steps, zcprobe(labRun...))
	for _, s := range arm64Sends {
		to := []string{"10.0.10.100:9", "10.0.11.100:9"}[s.card]
		steps = append(steps, zcprobe("trace", "-q", "--exact", "--tier", s.tier, "-o", "json", "--",
			"zcprobe", "send", "--to", to, "--backend", "msg_zerocopy", "--memory", "64K", "--repeat", "8", "-o", "json"))
	}
	r := guest.Run(t, guest.Config{
		Series: arm64Series, Arch: "arm64", CPUs: 1, NICs: []string{"e1000e", "ne2k_pci"}, KeepSunk: true, Steps: steps,
		Modules: []string{"veth", "tun", "ifb", "macvlan", "bridge", "dummy", "sch_ingress", "cls_bpf", "cls_matchall", "act_mirred",
			"sch_netem", "sch_tbf", "tcp_diag", "udp_diag", "af_packet_diag"},
		Files: map[string]string{"/bin/zcprobe": guest.BuildFor(t, "arm64", "./cmd/zcprobe")}, Timeout: 15 * time.Minute,
	})
	report := decode[probe.Report](t, "probe", r.Steps[3])
	l := newLedger(t, "arm64", arm64Series, report.Host.Kernel)
	t.Run("program", func(t *testing.T) { arm64Says(t, l, report, r.Steps) })
	t.Run("lab", func(t *testing.T) { arm64Scenarios(t, l, r.Steps[5]) })
	sunk := r.Sunk
	for i, s := range arm64Sends {
		t.Run(s.row, func(t *testing.T) {
			sunk[s.card] = arm64Sent(t, r.Steps[6+i], s.tier, s.card == 0, sunk[s.card])
			l.right(s.row, 4) // content, reported, observed bytes and copies
		})
	}
	l.close()
}

// arm64Says checks what the program says.
func arm64Says(t *testing.T, l *ledger, report probe.Report, steps []guest.StepResult) {
	for i, want := range []string{"linux/arm64", "no-scatter-gather", `"backend": "`} {
		if s := steps[i]; s.Status != 0 || !strings.Contains(s.Stdout, want) {
			t.Errorf("status %d, want %q in\n%s%s", s.Status, want, s.Stdout, s.Stderr)
		}
		l.right(arm64Program, 1)
	}
	hosttest.Validate(t, "probe.v1", []byte(steps[3].Stdout))
	if report.Host.Arch != "arm64" || len(steps[3].Asked) > 0 || !steps[3].Unaltered {
		t.Errorf("architecture %q, modules asked for %q", report.Host.Arch, steps[3].Asked)
	}
	// Before Linux 6.4 nothing attaches to the entry of functions of arm64, and Debian's
	// kernels of that time have no CONFIG_FPROBE.
	for _, tier := range report.Tracing.Tiers {
		want := probe.Supported
		if tier.ID == "fentry" || tier.ID == "kprobe_multi" {
			want = probe.Unsupported
		}
		if tier.Status != want {
			t.Errorf("%s is %s, want %s: %s", tier.ID, tier.Status, want, tier.Detail)
		}
		l.right(arm64Program, 1)
	}
	for _, id := range []string{"sendfile.tcp", "splice.file-tcp", "msg_zerocopy.tcp4", "msg_zerocopy.udp6", "io_uring.send_zc", "tee", "vmsplice"} {
		if f, ok := feature(report, id, ""); !ok || f.Status != probe.Supported {
			t.Errorf("%s is %s: %s", id, f.Status, f.Detail)
		}
		l.right(arm64Program, 1)
	}
	const why = "tier fentry: attach: create raw tracepoint: not supported"
	tierLevel{steps: map[string]guest.StepResult{"fentry": steps[4]}}.refused(t, "fentry", why)
	l.untold(arm64Fentry, why)
}

// arm64Scenarios: prediction, completions and observation agree with the truth.
func arm64Scenarios(t *testing.T, l *ledger, s guest.StepResult) {
	report := decode[scenario.Report](t, "lab run", s)
	for _, one := range report.Scenarios {
		switch one.Status {
		case probe.Pass:
			l.right(arm64Lab, 1)
		case probe.Skipped:
			t.Logf("%s: skipped: %s", one.ID, one.Reason)
		default:
			t.Error(describe(one))
		}
	}
	if len(report.Scenarios) < 20 || l.row(arm64Lab).Right < len(report.Scenarios)/2 {
		t.Errorf("of %d scenarios, %d passed", len(report.Scenarios), l.row(arm64Lab).Right)
	}
}

// arm64Sent checks one traced send, and returns what the card's peer got beyond it.
func arm64Sent(t *testing.T, s guest.StepResult, tier string, able bool, got []byte) []byte {
	trace := decode[ebpf.Summary](t, "trace", s)
	var sent sending
	// With -o json what the program writes goes to stderr.
	text := s.Stderr[max(0, strings.Index(s.Stderr, "{")):]
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&sent); err != nil {
		t.Fatalf("%v:\n%s", err, s.Stderr)
	}
	const total = 8 * 64 << 10
	n := min(len(got), total)
	if sum := sha256.Sum256(got[:n]); n != total || hex.EncodeToString(sum[:]) != sent.SHA256 {
		t.Errorf("%d bytes arrived, with another checksum", n)
	}
	var seen, copied uint64
	for _, f := range trace.Flows {
		if f.Local == sent.Local && f.Remote == sent.Remote {
			seen += f.Bytes
			copied += f.CopiedBytes
		}
	}
	want := uint64(0)
	if !able {
		want = total
	}
	if string(trace.Tier) != tier || seen != total || copied != want || able && sent.CopiedSends > 0 || sent.NotifiedSends != sent.ZerocopySends {
		t.Errorf("tier %s: %d bytes seen, %d copied, want %d; %+v", trace.Tier, seen, copied, want, sent)
	}
	return got[n:]
}
