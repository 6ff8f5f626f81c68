package guest

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// shell makes a step of a command for sh(1).
func shell(command string) Step { return Step{Args: []string{"sh", "-c", command}} }

// TestHarness proves the harness itself: each line below is a way in which a
// test's findings in a guest could be wrong if it did not hold.
func TestHarness(t *testing.T) {
	Require(t)
	extra := t.TempDir() + "/greeting"
	if err := os.WriteFile(extra, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	as := func(s Step, change func(*Step)) Step { change(&s); return s }
	var memlock uint64 = 65536
	steps := []struct {
		name           string
		step           Step
		status         int
		stdout, stderr string // contained
		asked          string
	}{
		{name: "status", step: shell("exit 7"), status: 7},
		{name: "killed", step: shell("kill -9 $$"), status: 137},
		{name: "no such program", step: Step{Args: []string{"absent"}}, status: 127, stderr: "not found"},
		{name: "outputs apart", step: shell("echo out; echo err >&2"), stdout: "out\n", stderr: "err\n"},
		{name: "series", step: shell("echo $" + testenv.GuestEnv + "; uname -r"), stdout: "7.3\n7.3."},
		{name: "environment", step: as(shell("echo $A$B"), func(s *Step) { s.Env = []string{"B=2"} }), stdout: "12\n"},
		{name: "file", step: shell("cat /data/greeting"), stdout: "hello"},
		{name: "root", step: shell("id -u; grep CapEff /proc/self/status"), stdout: "0\nCapEff:\t000001ffffffffff\n"},
		{name: "nobody", step: as(shell("id -u; id -G; grep CapEff /proc/self/status"), func(s *Step) { s.UID = 65534 }), stdout: "65534\n65534\nCapEff:\t0000000000000000\n"},
		{name: "memlock", step: as(shell("ulimit -l"), func(s *Step) { s.Memlock = &memlock }), stdout: "64\n"},
		{name: "no proc", step: as(shell("ls /proc; echo $?"), func(s *Step) { s.Without = []string{"/proc"} }), stdout: "0\n"},
		{name: "proc is back", step: shell("ls /proc/self/exe"), stdout: "/proc/self/exe"},
		{name: "read-only", step: as(shell("for d in / /tmp /run /dev/shm; do echo x >$d/x || echo no; done"), func(s *Step) { s.ReadOnly = true }), stdout: "no\nno\nno\nno\n", stderr: "Read-only file system"},
		{name: "writable again", step: shell("echo x >/tmp/x && echo yes"), stdout: "yes\n"},
		{name: "e1000e", step: shell("ethtool -i eth0"), stdout: "driver: e1000e\n"},
		{name: "ne2k", step: shell("ethtool -i eth1"), stdout: "driver: ne2k-pci\n"},
		{name: "addresses", step: shell("ip -br -4 addr"), stdout: "10.0.11.15/24"},
		{name: "link up", step: shell("cat /sys/class/net/eth[01]/carrier"), stdout: "1\n1\n"},
		{name: "asks for a module", step: shell("ip link add v0 type vxcan; true"), asked: "rtnl-link-vxcan"},
		{name: "asks for a module that is there", step: shell("ip link add d0 type dummy && ip link del d0"), asked: "rtnl-link-dummy"},
		{name: "asks for nothing", step: shell("cat /proc/modules"), stdout: "dummy "},
		{name: "leaves a tree", step: shell("mkdir -p /tmp/rec/sub && echo 1 >/tmp/rec/a && head -c 1000000 /dev/zero >/tmp/rec/sub/b")},
	}
	c := Config{
		Series: "7.3", NICs: []string{"e1000e", "ne2k_pci"}, Modules: []string{"bonding"}, Loadable: []string{"dummy"},
		Tools: []string{"sh", "cat", "id", "ls", "grep", "head", "mkdir", "uname", "ip", "ethtool"},
		Files: map[string]string{"/data/greeting": extra}, Env: []string{"A=1"}, Collect: []string{"/tmp/rec"},
	}
	for _, s := range steps {
		c.Steps = append(c.Steps, s.step)
	}
	r := Run(t, c)
	for i, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			got := r.Steps[i]
			if got.Status != s.status || got.Error != "" {
				t.Errorf("status %d (%s), want %d", got.Status, got.Error, s.status)
			}
			if !strings.Contains(got.Stdout, s.stdout) || !strings.Contains(got.Stderr, s.stderr) || (got.Stderr != "") != (s.stderr != "") && s.asked == "" {
				t.Errorf("stdout %q, stderr %q, want %q, %q", got.Stdout, got.Stderr, s.stdout, s.stderr)
			}
			if s.asked != "" && !slices.Contains(got.Asked, s.asked) || s.asked == "" && len(got.Asked) > 0 {
				t.Errorf("the kernel asked for modules %q, want %q", got.Asked, s.asked)
			}
			if loads := s.asked == "rtnl-link-dummy"; got.Unaltered == loads {
				t.Errorf("modules unaltered is %v", got.Unaltered)
			}
			if !slices.Contains(got.Modules, "bonding") {
				t.Errorf("bonding is not among the modules: %q", got.Modules)
			}
		})
	}
	if string(r.Files["/tmp/rec/a"]) != "1\n" || len(r.Files["/tmp/rec/sub/b"]) != 1000000 || len(r.Files) != 2 {
		t.Errorf("collected %d files, %d bytes", len(r.Files), len(r.Files["/tmp/rec/sub/b"]))
	}
}

// TestHarnessFailures shows that a guest that goes wrong is an error, never an
// empty result.
func TestHarnessFailures(t *testing.T) {
	Require(t)
	first := Build(t, "./internal/guest/init")
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"panic", Config{Steps: []Step{shell("echo before; sleep 1; echo c >/proc/sysrq-trigger")}}, "ended before it was done"},
		{"no first process", Config{CommandLine: "rdinit=/nonesuch init=/nonesuch"}, "did not come to its first step"},
		{"never done", Config{Steps: []Step{shell("echo before; sleep 1000")}, Timeout: 30 * time.Second}, "not done after 30s"},
		{"no such module", Config{Modules: []string{"nonesuch"}}, "no module nonesuch"},
		{"no such NIC", Config{NICs: []string{"nonesuch"}}, "no driver is known for nonesuch"},
		{"bad device option", Config{NICs: []string{"e1000e,nonesuch=1"}}, "nonesuch"},
		{"no such program here", Config{Tools: []string{"nonesuch"}}, "needs the tool nonesuch"},
		{"nothing to collect", Config{Collect: []string{"/tmp/nonesuch"}}, "nonesuch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Series = "6.12"
			if len(c.config.Steps) > 0 {
				c.config.Tools = []string{"sh", "sleep"}
			}
			r, err := boot(t.Context(), t.TempDir(), first, c.config)
			for n := 1; n < starts && strings.Contains(r.Console, emulatorCrash); n++ {
				r, err = boot(t.Context(), t.TempDir(), first, c.config)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
			if len(c.config.Steps) > 0 && (r.Steps[0].Stdout != "before\n" || errors.Is(err, errNotBegun)) {
				t.Errorf("what was written before is lost, or it would be started again: %+v, %v", r.Steps[0], err)
			}
		})
	}
}
