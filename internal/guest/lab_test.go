package guest_test

import (
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
)

// TestLab runs the tests of package lab in guests: the verifier and the helpers
// of BPF, clsact and veth differ between kernels. One guest has no IPv6.
func TestLab(t *testing.T) {
	guest.Require(t)
	binary := guest.BuildTests(t, "./internal/lab")
	for _, c := range []struct{ name, series, commandLine, run string }{
		{"5.10", "5.10", "", "."},
		{"6.12", "6.12", "", "."},
		{"7.3", "7.3", "", "."},
		{"no IPv6", "6.12", "ipv6.disable=1", "^Test(ZeroCopy|ManyConnections|Wire)$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runTests(t, binary, c.run, guest.Config{
				Series: c.series, CommandLine: c.commandLine,
				Modules: []string{"veth", "sch_ingress", "cls_bpf"}, Tools: []string{"ip", "ethtool"},
				Timeout: 5 * time.Minute,
			}, "TestGenerated") // the guest has no compiler to generate with
		})
	}
}
