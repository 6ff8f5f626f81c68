package guest_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
)

// The tests of the tracer that run in guests.
const (
	functionTests = "^Test(Scenarios|KernelDatagrams|Loopback|Sources|Mixed|VirtualDevices|Tun|DatagramsToHere|Proxy|Renamed|MidStream|Stacks|GuestTranslated)$"

	// What says only what is true while hooks are skipped.
	skippedTests = "^Test(Scenarios|KernelDatagrams|Loopback)$"

	// The tier of tracepoints is not asked for scenarios, which it meets on any
	// machine: to read what it has counted takes it seconds under emulation.
	tracepointTests = "^Test(Loopback|Sources|Mixed|VirtualDevices|Tun|DatagramsToHere|Proxy|Renamed)$"

	// Before Linux 6.16 it does not learn of all calls, and before 5.11 it is none.
	oldTracepointTests = "^TestGuestTracepoint$"
)

// traceShare is what continuous integration runs of TestTrace: each tier, and the
// oldest and the newest kernel, in six minutes. All of a guest is emulated, and takes
// two minutes for most of them: the kernels in between, and the same functions by the
// other tier, are for changes of the tracer, by ZCPROBE_GUESTS=full, which takes
// half an hour.
var traceShare = []string{"5.10/fentry", "5.10/tracepoint", "7.3/kprobe", "7.3/tracepoint"}

// TestTrace runs the tests of the tracer in guests, in each tier on each kernel:
// which functions there are, and what they take, differs between them.
func TestTrace(t *testing.T) {
	guest.Require(t)
	binary := guest.BuildTests(t, "./ebpf")
	for _, series := range []string{"5.10", "6.1", "6.12", "6.18", "7.3"} {
		for _, tier := range []string{"fentry", "kprobe", "tracepoint"} {
			if name := series + "/" + tier; guest.Full() || slices.Contains(traceShare, name) {
				t.Run(name, func(t *testing.T) { trace(t, binary, series, tier, testsOf(series, tier)) })
			}
		}
	}
	if guest.Full() { // not on 5.10, which hangs under emulation while it counts what programs cost
		t.Run("7.3/skipped", func(t *testing.T) {
			trace(t, binary, "7.3", "kprobe", skippedTests, "ZCPROBE_SKIP_HOOKS=1")
		})
		// Gigabytes take minutes there.
		t.Run("5.10/long", func(t *testing.T) { trace(t, binary, "5.10", "fentry", "^TestLongStreams$") })
		t.Run("7.3/long", func(t *testing.T) { trace(t, binary, "7.3", "kprobe", "^TestLongStreams$") })
		t.Run("7.3/cost", func(t *testing.T) { trace(t, binary, "7.3", "fentry", "^TestGuestFunctionCost$") })
	}
}

// coverProfile is where tests in a guest write which statements they reached.
const coverProfile = "/tmp/cover"

// testsOf says which tests a tier passes on a kernel.
func testsOf(series, tier string) string {
	switch {
	case tier != "tracepoint":
		return functionTests
	case slices.Contains([]string{"6.18", "7.3"}, series):
		return tracepointTests
	}
	return oldTracepointTests
}

// trace runs tests of a tier on a kernel in one process: they share a tracer, as to
// start one takes longer than most of them.
func trace(t *testing.T, binary, series, tier, match string, env ...string) {
	out, err := exec.CommandContext(t.Context(), binary, "-test.list="+match).Output()
	if err != nil {
		t.Fatal(err)
	}
	steps := []guest.Step{{Args: []string{"tests", "-test.v", "-test.run=" + match, "-test.timeout=8m"}}}
	var collect []string
	if guest.CoverDir() != "" {
		steps[0].Args = append(steps[0].Args, "-test.coverprofile="+coverProfile)
		collect = append(collect, coverProfile)
	}
	r := guest.Run(t, guest.Config{
		Series: series, CPUs: 1, Modules: []string{"veth", "tun", "vxlan", "sch_ingress", "cls_bpf", "cls_matchall", "act_nat"}, Steps: steps,
		Tools: []string{"ip", "ethtool", "tc"}, Env: append(env, "ZCPROBE_TIER="+tier),
		Files: map[string]string{"/bin/tests": binary}, Collect: collect, Timeout: 10 * time.Minute,
	})
	for _, name := range collect {
		kept := filepath.Join(guest.CoverDir(), strings.ReplaceAll(t.Name(), "/", "-")+".cover")
		if err := os.WriteFile(kept, r.Files[name], 0o644); err != nil {
			t.Error(err)
		}
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !strings.HasPrefix(name, "Test") })
	if len(names) == 0 {
		t.Fatalf("%s has no tests that match %s", binary, match)
	}
	passed := true
	for _, name := range names {
		passed = t.Run(name, func(t *testing.T) { replayOne(t, name, r.Steps[0]) }) && passed
	}
	if passed && r.Steps[0].Status != 0 {
		t.Errorf("status %d %s in the guest:\n%s", r.Steps[0].Status, r.Steps[0].Error, r.Steps[0].Stdout+r.Steps[0].Stderr)
	}
}

// replayOne gives this test the outcome of one of those that a step ran.
func replayOne(t *testing.T, name string, s guest.StepResult) {
	s.Stdout, s.Stderr, s.Status = "\n"+part(s.Stdout+s.Stderr, name), "", 0
	replay(t, name, s)
}

// part is what one test wrote, of what several did.
func part(text, name string) string {
	var b strings.Builder
	in := false
	for line := range strings.Lines(text) {
		if test, ok := strings.CutPrefix(line, "=== RUN   "); ok && !strings.Contains(test, "/") {
			in = strings.TrimSpace(test) == name
		}
		if in {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestTraceRefused tries tiers where they are not to be had: the kernel is locked
// down, the user may not, or there is no type information.
func TestTraceRefused(t *testing.T) {
	guest.Require(t)
	binary := guest.BuildTests(t, "./ebpf")
	step := func(why string, s guest.Step) guest.Step {
		s.Args = []string{"tests", "-test.v", "-test.run=^TestGuestRefusedTiers$"}
		s.Env = []string{"ZCPROBE_REFUSED=" + why}
		return s
	}
	for _, c := range []struct {
		name, series, commandLine string
		steps                     map[string]guest.Step
	}{
		{"integrity", "6.12", "lockdown=integrity", map[string]guest.Step{
			"attaches": {Args: []string{"tests", "-test.v", "-test.run=^TestClosed$"}, Env: []string{"ZCPROBE_TIER=kprobe"}},
			"user":     step("user", guest.Step{UID: 65534}), "no types": step("no types", guest.Step{Without: []string{"/sys"}})}},
		{"confidentiality", "6.12", "lockdown=confidentiality", map[string]guest.Step{
			"root": step("confidentiality", guest.Step{})}},
		{"5.10", "5.10", "", map[string]guest.Step{
			"user": step("user", guest.Step{UID: 65534}), "no types": step("no types", guest.Step{Without: []string{"/sys"}})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := guest.Config{Series: c.series, CPUs: 1, CommandLine: c.commandLine, Files: map[string]string{"/bin/tests": binary}}
			names := slices.Sorted(maps.Keys(c.steps))
			for _, name := range names {
				config.Steps = append(config.Steps, c.steps[name])
			}
			r := guest.Run(t, config)
			for i, name := range names {
				test := "TestGuestRefusedTiers"
				if name == "attaches" {
					test = "TestClosed"
				}
				t.Run(name, func(t *testing.T) { replay(t, test, r.Steps[i]) })
			}
		})
	}
}
