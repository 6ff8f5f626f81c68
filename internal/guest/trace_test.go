package guest_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
)

// traceTests are the tests of the tracer that the tiers of functions must pass in
// guests.
const traceTests = "^Test(Scenarios|KernelDatagrams|Loopback|Sources|Mixed|VirtualDevices|Tun|DatagramsToHere|Proxy|MidStream|GuestFunctionCost)$"

// TestTrace runs the tests of the tracer in guests, in the tiers that this
// machine has not, on each kernel: which functions there are, and what they take,
// differs between them.
func TestTrace(t *testing.T) {
	guest.Require(t)
	binary := guest.BuildTests(t, "./ebpf")
	for _, series := range []string{"5.10", "6.1", "6.12", "6.18", "7.3"} {
		for _, tier := range []string{"fentry", "kprobe"} {
			t.Run(series+"/"+tier, func(t *testing.T) {
				runTests(t, binary, traceTests, guest.Config{
					Series: series, Modules: []string{"veth", "tun", "vxlan", "sch_ingress", "cls_bpf"},
					Tools: []string{"ip", "ethtool"}, Env: []string{"ZCPROBE_TIER=" + tier}, Timeout: 25 * time.Minute,
				})
			})
		}
	}
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
			config := guest.Config{Series: c.series, CommandLine: c.commandLine, Files: map[string]string{"/bin/tests": binary}}
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
