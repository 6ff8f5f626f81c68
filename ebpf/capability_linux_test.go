package ebpf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
)

var capabilities = []string{"fentry", "kprobe", "kprobe_multi", "tp_btf", "raw_tracepoint", "tracepoint", "perf_event"}

// What is supported agrees with what the tracer can do, and trying leaves no
// descriptor behind.
func TestProbe(t *testing.T) {
	testenv.Root(t)
	ebpf.Probe(t.Context()) // the loader keeps some of the first time
	before := descriptors(t)
	got := ebpf.Probe(t.Context())
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors were %v and are %v", before, after)
	}
	var ids []string
	for _, c := range got {
		ids = append(ids, c.ID)
		if c.Detail == "" || strings.Contains(c.Detail, "\n") {
			t.Errorf("%+v", c)
		}
		switch c.Status {
		case probe.Supported, probe.Unsupported, probe.Disabled, probe.Denied:
		default:
			t.Errorf("%s is %s: %s", c.ID, c.Status, c.Detail)
		}
	}
	if !slices.Equal(ids, capabilities) {
		t.Errorf("%v, want %v", ids, capabilities)
	}
	traced, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if err == nil {
		err = traced.Close()
	}
	if works := got[3].Status == probe.Supported; works != (err == nil) {
		t.Errorf("tp_btf is %s, and the tracer says %v", got[3].Status, err)
	}
	_, err = os.Stat("/sys/bus/event_source/devices/kprobe")
	if c := got[1]; (c.Status == probe.Supported) != (err == nil) {
		t.Errorf("kprobe is %s (%s), and its kind of event: %v", c.Status, c.Detail, err)
	}
}

func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			out = append(out, to)
		}
	}
	slices.Sort(out)
	return out
}

// A context that has ended leaves nothing to try, and what was not tried is
// unknown.
func TestProbeEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range ebpf.Probe(ctx) {
		if c.Status != probe.UnknownFeature {
			t.Errorf("%+v", c)
		}
	}
	if p, err := ebpf.NewPlan(ctx, ebpf.Options{}); !errors.Is(err, context.Canceled) || p != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// An ordinary user is told what is missing: this test's program, run as one.
func TestProbeDenied(t *testing.T) {
	testenv.Root(t)
	if b, err := os.ReadFile("/proc/sys/kernel/unprivileged_bpf_disabled"); err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Skip("needs kernel.unprivileged_bpf_disabled")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "zcprobe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/test", self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir + "/test")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), childEnv+"=probe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, id := range []string{"fentry", "tp_btf", "raw_tracepoint", "perf_event"} {
		if !strings.Contains(string(out), id+" denied Tracing needs CAP_BPF and CAP_PERFMON, or root; kernel.unprivileged_bpf_disabled is ") {
			t.Errorf("%s: %s", id, out)
		}
	}
	if !strings.Contains(string(out), "open: permission") || !strings.Contains(string(out), "needs CAP_BPF and CAP_PERFMON, or root") {
		t.Errorf("%s", out)
	}
}

// sayProbe is what the child does for TestProbeDenied.
func sayProbe() error {
	for _, c := range ebpf.Probe(context.Background()) {
		fmt.Println(c.ID, c.Status, c.Detail)
	}
	_, err := ebpf.Open(context.Background(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if p, ok := errors.AsType[*ebpf.PermissionError](err); ok && errors.Is(err, os.ErrPermission) {
		fmt.Println("open: permission", p.Needs)
	}
	return nil
}

// A plan says of each hook whether it would be attached, as the tracer then does.
func TestPlan(t *testing.T) {
	testenv.Root(t)
	p, err := ebpf.NewPlan(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if err != nil {
		t.Fatal(err)
	}
	traced, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
	if err != nil {
		t.Fatal(err)
	}
	defer traced.Close()
	hooks := traced.Hooks()
	if len(hooks) != len(p.Hooks) {
		t.Fatalf("%d hooks, planned %d", len(hooks), len(p.Hooks))
	}
	for i, h := range hooks {
		if p.Hooks[i].Name != h.Name || (p.Hooks[i].Err == nil) != h.Attached || p.Hooks[i].Attached {
			t.Errorf("planned %+v, got %+v", p.Hooks[i], h)
		}
	}
	for _, n := range p.Needs {
		if !n.Held {
			t.Errorf("%+v, and it works", n)
		}
	}
}
