package ebpf_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestWithoutAddresses: who may load programs, and does not see the addresses of
// functions, is told which capability that takes.
func TestWithoutAddresses(t *testing.T) {
	testenv.Root(t)
	const again = "ZCPROBE_WITHOUT_ADDRESSES"
	if os.Getenv(again) == "" {
		cmd := exec.Command(testenv.Tool(t, "setpriv"), "--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all",
			os.Args[0], "-test.run=^TestWithoutAddresses$", "-test.v")
		cmd.Env = append(os.Environ(), again+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestWithoutAddresses") {
			t.Errorf("%v\n%s", err, out)
		} else if strings.Contains(string(out), "it sees them") {
			t.Skip("needs a kernel that hides addresses: kernel.perf_event_paranoid above 1, or kernel.kptr_restrict")
		}
		return
	}
	tracer, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if err == nil {
		t.Log("it sees them")
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_SYSLOG") || strings.Contains(err.Error(), "container") {
		t.Error(err)
	}
	plan, err := ebpf.NewPlan(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Err == nil || !strings.Contains(plan.Err.Error(), "CAP_SYSLOG") {
		t.Errorf("the plan says %v", plan.Err)
	}
}
