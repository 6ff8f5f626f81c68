package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
)

// TestClash runs where devices have the names, and addresses, of the lab's: they are
// left as they are, and confuse nobody.
func TestClash(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "ip")
	ns := testenv.NewNetNS(t)
	ns.Run("ip", "link", "add", "lab0", "type", "veth", "peer", "name", "lab1")
	ns.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	ns.Run("ip", "link", "add", "r0", "type", "veth", "peer", "name", "r1")
	ns.Run("ip", "link", "add", "br0", "type", "bridge")
	for _, dev := range []string{"lab0", "lab1", "v0", "v1", "r0", "r1", "br0"} {
		ns.Run("ip", "link", "set", dev, "up")
	}
	for _, e := range []end{nearEnd(), farEnd(), routedEnd()} {
		ns.Run("ip", "addr", "add", e.v4, "dev", "br0")
		ns.Run("ip", "addr", "add", e.v6, "dev", "br0", "nodad")
	}
	ns.Run("ip", "addr", "add", "198.18.0.2/24", "dev", "lab0")
	look := func() string {
		return ns.Run("ip", "-4", "-o", "addr") + ns.Run("ip", "-4", "route", "show", "table", "all")
	}
	before := look()
	all, err := Select(Catalogue(), []string{"plain/write", "no-sg/sendfile", "veth/write", "veth-routed/sendfile", "bridge/msg_zerocopy", "ipv6-veth", "macvlan"})
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(func() {
		r, err := Run(t.Context(), all, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		for _, s := range r.Scenarios {
			if s.Status == probe.Fail || s.SentBytes == 0 && s.Status != probe.Skipped {
				t.Errorf("%+v", s)
			}
		}
	})
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestCannotBeSetUp: what the kernel refuses is told by the step and the kernel's words,
// is never a pass, and fails nobody else.
func TestCannotBeSetUp(t *testing.T) {
	testenv.Root(t)
	good := Scenario{ID: "good/write", Summary: "x", SetUp: Steps{Veth{}}, Traffic: stream("write"), Truths: always(All, apiCopies, "api-copy")}
	bucket := TokenBucket{Device: "v0", Rate: 1e6, Burst: 10_000}
	for _, c := range []struct {
		name   string
		step   []Step
		status probe.CheckStatus
		words  string
	}{
		{"XDP", []Step{XDP{Device: "lo"}}, probe.Skipped, "this machine lacks something: attach a native XDP program to lo at the sender: "},
		{"feature", []Step{Off{Device: "v0", Feature: "tx-none"}}, probe.Skipped, "the kernel has no feature tx-none"},
		{"sysctl", []Step{Sysctl{Name: "net.ipv4.none", Value: "1"}}, probe.Skipped, "set net.ipv4.none=1 at the sender: open /proc/sys/net/ipv4/none: no such file"},
		{"sysctl of another kind", []Step{Sysctl{Name: "net.ipv4.ip_forward", Value: "x"}}, probe.Unknown, "the set-up failed: set net.ipv4.ip_forward=x at the sender: "},
		{"tc", []Step{bucket, TokenBucket{Device: "v0", Rate: 2e6, Burst: 10_000}}, probe.Unknown, "the set-up failed: limit what v0 sends to 2000000 bytes a second, 10000 at once (tbf): RTM_NEWQDISC tbf"},
		{"device", []Step{Tap{Device: "none"}}, probe.Unknown, "device none: "},
		{"namespace", []Step{Tap{At: AtRouter, Device: "lo"}}, probe.Skipped, "the place has no router"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := good
			bad.ID, bad.SetUp = "bad/write", append(Steps{Veth{}}, c.step...)
			before := held(t)
			r, err := Run(t.Context(), []Scenario{bad, good}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Scenarios[0]; got.Status != c.status || !strings.Contains(got.Reason, c.words) {
				t.Errorf("%s: %s", got.Status, got.Reason)
			}
			if got := r.Scenarios[1]; got.Status == probe.Fail || got.SentBytes == 0 {
				t.Errorf("%+v", got)
			}
			left(t, before)
		})
	}
}

// TestChildOfUser runs in a user namespace, where it is root of nothing else.
func TestChildOfUser(t *testing.T) {
	if os.Getenv(childEnv) != "user" {
		return
	}
	all, err := Select(Catalogue(), []string{"veth/write"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(t.Context(), all, Options{})
	var refused *PermissionError
	if !errors.As(err, &refused) || !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("no refusal: %v", err)
	}
	fmt.Println("refused:", refused)
}

// TestUserNamespace: root of a user namespace alone may make namespaces, and look into
// nothing. It is told what that takes.
func TestUserNamespace(t *testing.T) {
	testenv.Root(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestChildOfUser$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=user")
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("needs user namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "refused: the lab makes network namespaces and devices and loads BPF programs: it needs root, or ") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFileStaysInside runs a file that changes what it can: the namespace that it is run
// from, and the directory for temporary files, are as they were.
func TestFileStaysInside(t *testing.T) {
	testenv.Root(t)
	t.Setenv("TMPDIR", t.TempDir())
	all, err := Read("f", []byte(`{"schema": "zcprobe/scenarios/v1", "scenarios": [{
		"id": "mine/write", "summary": "much is changed",
		"set_up": [{"step": "veth"}, {"step": "sysctl", "name": "net.ipv4.ip_default_ttl", "value": "77"},
			{"step": "sysctl", "name": "net.ipv6.conf.all.hop_limit", "value": "77"},
			{"step": "mtu", "device": "lo", "mtu": 1400}, {"step": "off", "device": "lo", "feature": "tx-tcp-segmentation"}],
		"traffic": {"api": "sendfile", "source": "disk", "protocol": "tcp", "size_bytes": 65536, "count": 2, "raw": true},
		"truths": [{"copied": 0, "causes": [], "why": "the packets refer to the page cache"}]
	}]}`))
	if err != nil {
		t.Fatal(err)
	}
	look := func() string {
		out := ""
		for _, name := range []string{"/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/net/ipv6/conf/all/hop_limit", "/sys/class/net/lo/mtu"} {
			b, err := os.ReadFile(name)
			out += fmt.Sprintf("%s %s %v\n", name, b, err)
		}
		files, err := os.ReadDir(os.TempDir())
		return out + fmt.Sprint(files, err)
	}
	before := look()
	r, err := Run(t.Context(), all, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Scenarios[0]; s.Status == probe.Fail || s.SentBytes == 0 && s.Status != probe.Skipped {
		t.Errorf("%+v", s)
	}
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
