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
	"github.com/zcprobe/zcprobe/probe"
)

// The levels of lockdown, in the order in which a running kernel can be brought to them.
var lockdowns = []string{"none", "integrity", "confidentiality"}

// traceTiers are what "zcprobe trace" can be asked for.
var traceTiers = []string{"fentry", "kprobe", "tracepoint"}

// tierShare is where continuous integration locks kernels down, for a minute.
var tierShare = []string{"7.3"}

func tierRow(lockdown, user string) string { return "lockdown " + lockdown + ", " + user }

func tierRows() (rows []string) {
	for _, l := range lockdowns {
		rows = append(rows, tierRow(l, "root"), tierRow(l, "ordinary user"))
	}
	return rows
}

// attachable says which ways to attach a kernel is known to have: it was measured with
// cilium/ebpf. Debian's kernels before 6.12 are built without CONFIG_FPROBE.
func attachable(series, lockdown, id string) []probe.FeatureStatus {
	absent := id == "kprobe_multi" && slices.Contains([]string{"5.10", "6.1"}, series)
	switch {
	case lockdown == "confidentiality" && absent:
		return []probe.FeatureStatus{probe.Unsupported, probe.Denied}
	case lockdown == "confidentiality": // LOCKDOWN_BPF_READ_KERNEL
		return []probe.FeatureStatus{probe.Denied}
	case absent:
		return []probe.FeatureStatus{probe.Unsupported}
	}
	return []probe.FeatureStatus{probe.Supported}
}

// lockedDown is what the tiers say of lockdown=confidentiality.
const lockedDown = "the kernel is locked down (confidentiality), and nobody may read its memory"

// refusal is what the error of a tier must say; "" where it is to be had.
func refusal(series, lockdown, tier string) string {
	switch {
	case tier == "tracepoint" && series == "5.10":
		return "the kernel does not show programs the system call of a task"
	case lockdown == "confidentiality":
		return lockedDown
	}
	return ""
}

// tierSteps are those of one level of lockdown.
func tierSteps(lockdown string) []namedStep {
	const send = "zcprobe send --to 10.0.10.100:9 --backend msg_zerocopy --memory 64K --repeat 8 -o json >/tmp/sent"
	asNobody := func(s guest.Step) guest.Step { s.UID = nobody; return s }
	steps := []namedStep{
		{"lock " + lockdown, script("test " + lockdown + " = none || echo " + lockdown + " >/sys/kernel/security/lockdown; cat /sys/kernel/security/lockdown")},
		{"probe", zcprobe("probe", "-o", "json")},
		{"probe as nobody", asNobody(zcprobe("probe", "-o", "json"))},
		{"trace as nobody", asNobody(zcprobe("trace", "--tier", "kprobe", "-o", "json", "--", "zcprobe", "version"))},
	}
	steps = append(steps, namedStep{"trace by any tier", zcprobe("trace", "-o", "json", "--", "zcprobe", "version")})
	for _, tier := range traceTiers {
		steps = append(steps, namedStep{"trace " + tier, zcprobe("trace", "--exact", "--tier", tier, "-o", "json", "--", "sh", "-c", send)},
			namedStep{"sent " + tier, script("cat /tmp/sent 2>/dev/null; rm -f /tmp/sent")})
	}
	return steps
}

// TestTiers locks each kernel down, step by step, and looks at what is left.
func TestTiers(t *testing.T) {
	guest.Require(t)
	binary := guest.Build(t, "./cmd/zcprobe")
	for _, series := range allSeries {
		if !guest.Full() && !slices.Contains(tierShare, series) {
			continue
		}
		t.Run(series, func(t *testing.T) {
			c := guest.Config{
				Series: series, CPUs: 1, NICs: []string{"e1000e"}, Modules: []string{"tcp_diag"}, Timeout: 10 * time.Minute,
				Tools: []string{"sh", "cat", "rm", "uname"}, Files: map[string]string{"/bin/zcprobe": binary}, Steps: []guest.Step{run("uname", "-r")},
			}
			for _, l := range lockdowns {
				for _, s := range tierSteps(l) {
					c.Steps = append(c.Steps, s.step)
				}
			}
			r := guest.Run(t, c)
			l := newLedger(t, "tiers", series, r.Steps[0].Stdout)
			for i, lockdown := range lockdowns {
				names := tierSteps(lockdown)
				level := tierLevel{series: series, lockdown: lockdown, ledger: l, steps: map[string]guest.StepResult{}}
				for j, s := range names {
					level.steps[strings.TrimSuffix(s.name, " "+lockdown)] = r.Steps[1+i*len(names)+j]
				}
				t.Run(lockdown, level.check)
			}
			l.close()
		})
	}
}

// A tierLevel is what a kernel has shown at one level of lockdown.
type tierLevel struct {
	series, lockdown string
	ledger           *ledger
	steps            map[string]guest.StepResult
}

func (l tierLevel) check(t *testing.T) {
	if got := l.steps["lock"].Stdout; !strings.Contains(got, "["+l.lockdown+"]") {
		t.Fatalf("the kernel is not brought to %s: %s%s", l.lockdown, got, l.steps["lock"].Stderr)
	}
	for step, user := range map[string]string{"probe": "root", "probe as nobody": "ordinary user"} {
		rep := decode[probe.Report](t, step, l.steps[step])
		if len(rep.Tracing.Tiers) < 7 {
			t.Errorf("%s: %d ways to attach", step, len(rep.Tracing.Tiers))
		}
		for _, tier := range rep.Tracing.Tiers {
			want := attachable(l.series, l.lockdown, tier.ID)
			if user != "root" {
				want = []probe.FeatureStatus{probe.Denied}
			}
			if !slices.Contains(want, tier.Status) {
				t.Errorf("%s: %s is %s, want %s: %s", step, tier.ID, tier.Status, want, tier.Detail)
			}
			l.ledger.right(tierRow(l.lockdown, user), 1)
		}
	}
	why, any := "CAP_BPF", "fentry"
	if l.lockdown == "confidentiality" {
		why, any = lockedDown, "none"
	}
	l.refused(t, "trace as nobody", why)
	if got := decode[ebpf.Summary](t, "trace by any tier", l.steps["trace by any tier"]); string(got.Tier) != any || l.steps["trace by any tier"].Status != 0 {
		t.Errorf("the best tier is %s, want %s", got.Tier, any)
	}
	l.ledger.right(tierRow(l.lockdown, "ordinary user"), 1)
	for _, tier := range traceTiers {
		row := tierRow(l.lockdown, "root")
		if why := refusal(l.series, l.lockdown, tier); why != "" {
			l.refused(t, "trace "+tier, why)
			l.ledger.untold(row, fmt.Sprintf("tier %s: %s", tier, why))
		} else {
			l.sees(t, tier)
		}
		l.ledger.right(row, 1)
	}
}

// refused: the step failed, and its error says why.
func (l tierLevel) refused(t *testing.T, step, why string) {
	t.Helper()
	s := l.steps[step]
	var doc struct{ Error string }
	if err := json.NewDecoder(strings.NewReader(s.Stdout)).Decode(&doc); err != nil || s.Status != 2 || !strings.Contains(doc.Error, why) {
		t.Errorf("%s: status %d, %v, want an error with %q:\n%s%s", step, s.Status, err, why, s.Stdout, s.Stderr)
	}
}

// sees: all that was sent is seen, and that it was not copied.
func (l tierLevel) sees(t *testing.T, tier string) {
	t.Helper()
	sent := decode[sending](t, "sent "+tier, l.steps["sent "+tier])
	trace := decode[ebpf.Summary](t, "trace "+tier, l.steps["trace "+tier])
	var bytes, zeroCopied, copied uint64
	for _, f := range trace.Flows {
		if f.Local == sent.Local && f.Remote == sent.Remote {
			bytes += f.Bytes
			zeroCopied += f.ZeroCopiedBytes
			copied += f.CopiedBytes
		}
	}
	if string(trace.Tier) != tier || bytes != 8*64<<10 || bytes != sent.SentBytes || copied != sent.wrote() || zeroCopied != bytes-copied || zeroCopied == 0 ||
		sent.CopiedSends != 0 {
		t.Errorf("tier %s: %d of %d bytes seen, %d uncopied, %d copied, %d written, %d sends reported as copied",
			trace.Tier, bytes, sent.SentBytes, zeroCopied, copied, sent.wrote(), sent.CopiedSends)
	}
}
