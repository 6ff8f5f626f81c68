package guest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

// nobody is the user id of the ordinary user.
const nobody = 65534

// recordDir is where the guest keeps its record.
const recordDir = "/tmp/record"

// A commandRun is what zcprobe and the tools it is compared with said in one
// guest, by the name of the step.
type commandRun struct {
	series, nic string
	steps       map[string]guest.StepResult
	files       map[string][]byte
	binary      string
}

// ours says whether a step ran zcprobe.
func ours(name string) bool { return !strings.HasPrefix(name, "tool: ") }

type namedStep struct {
	name string
	step guest.Step
}

func run(args ...string) guest.Step { return guest.Step{Args: args} }

func zcprobe(args ...string) guest.Step { return run(append([]string{"zcprobe"}, args...)...) }

func script(text string) guest.Step { return run("sh", "-c", text) }

func commandSteps() []namedStep {
	memlock := uint64(64 << 10)
	asNobody := func(s guest.Step) guest.Step {
		s.UID, s.Memlock = nobody, &memlock
		return s
	}
	without := func(s guest.Step, mounts ...string) guest.Step { s.Without = mounts; return s }
	bare := without(zcprobe("probe", "-o", "json"), "/proc", "/sys")
	bare.ReadOnly = true
	readOnly := zcprobe("probe", "-o", "json")
	readOnly.ReadOnly = true
	return []namedStep{
		{"tool: features eth0", run("ethtool", "--json", "-k", "eth0")},
		{"tool: features lo", run("ethtool", "--json", "-k", "lo")},
		{"tool: links", run("ip", "-j", "-d", "link")},
		{"tool: route", run("ip", "-j", "route", "get", "10.0.10.2")},
		{"tool: optmem", run("cat", "/proc/sys/net/core/optmem_max")},
		{"probe", zcprobe("probe", "-o", "json")},
		{"probe as nobody", asNobody(zcprobe("probe", "-o", "json"))},
		{"summary", zcprobe()},
		{"summary as nobody", asNobody(zcprobe())},
		{"probe without /proc", without(zcprobe("probe", "-o", "json"), "/proc")},
		{"probe without /sys", without(zcprobe("probe", "-o", "json"), "/sys")},
		{"probe read-only", readOnly},
		{"probe without anything", bare},
		{"probe as nobody without anything", asNobody(bare)},
		{"path", zcprobe("path", "10.0.10.2:9", "-o", "json")},
		{"path as nobody", asNobody(zcprobe("path", "10.0.10.2:9", "-o", "json"))},
		{"path to itself", zcprobe("path", "10.0.10.15:9", "-o", "json")},
		{"path without a route", zcprobe("path", "192.0.2.1:9", "-o", "json")},
		{"path without anything", without(zcprobe("path", "10.0.10.2:9", "-o", "json"), "/proc", "/sys")},
		{"preflight", zcprobe("preflight", "-o", "json")},
		{"preflight as nobody", asNobody(zcprobe("preflight", "-o", "json"))},
		{"preflight without anything", without(zcprobe("preflight", "-o", "json"), "/proc", "/sys")},
		{"record", zcprobe("record", recordDir, "--to", "10.0.10.2:9")},
		{"replay", zcprobe("probe", "--from-record", recordDir, "-o", "json")},
		{"probe under a tap", script("tcpdump -Z root -i eth0 -w /dev/null 2>/dev/null & p=$!; sleep 3; zcprobe probe -o json; s=$?; kill $p; exit $s")},
		{"tool: sg off", run("ethtool", "-K", "eth0", "sg", "off")},
		{"path with sg off", zcprobe("path", "10.0.10.2:9", "-o", "json")},
	}
}

// TestCommand runs the program itself where it will be used, and holds what it
// says against the tools of the system and against itself.
func TestCommand(t *testing.T) {
	guest.Require(t)
	binary := guest.Build(t, "./cmd/zcprobe")
	for _, series := range serieses {
		for _, nic := range nics {
			t.Run(series+"/"+nic, func(t *testing.T) {
				c := guest.Config{
					Series: series, NICs: []string{nic}, CPUs: 1, // trying tiers of tracing patches code
					Loadable: slices.Concat(networkModules, loadable, tlsModules(series)),
					Tools:    tools, Files: map[string]string{"/bin/zcprobe": binary}, Collect: []string{recordDir},
				}
				steps := commandSteps()
				for _, s := range steps {
					c.Steps = append(c.Steps, s.step)
				}
				r := guest.Run(t, c)
				run := commandRun{series: series, nic: nic, binary: binary, files: r.Files, steps: map[string]guest.StepResult{}}
				for i, s := range steps {
					run.steps[s.name] = r.Steps[i]
				}
				run.check(t)
			})
		}
	}
}

func (r commandRun) check(t *testing.T) {
	for name, s := range r.steps {
		if s.Stderr != "" || s.Status != 0 {
			t.Logf("%s: status %d, stderr %s", name, s.Status, s.Stderr)
		}
		if strings.HasPrefix(name, "tool: ") && s.Status != 0 {
			t.Errorf("%s failed", name)
		}
	}
	t.Run("changes nothing", r.changesNothing)
	t.Run("statuses", r.statuses)
	t.Run("schemas", r.schemas)
	t.Run("devices", r.devices)
	t.Run("kernel", r.kernel)
	t.Run("limits", r.limits)
	t.Run("blindness", r.blindness)
	t.Run("paths", r.paths)
	t.Run("taps", r.taps)
	t.Run("replay", r.replay)
}

func (r commandRun) report(t *testing.T, step string) probe.Report {
	t.Helper()
	return decode[probe.Report](t, step, r.steps[step])
}

func (r commandRun) path(t *testing.T, step string) probe.PathReport {
	t.Helper()
	return decode[probe.PathReport](t, step, r.steps[step])
}

func decode[T any](t *testing.T, step string, s guest.StepResult) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.Stdout), &v); err != nil {
		t.Fatalf("%s: %v\nstatus %d\n%s%s", step, err, s.Status, s.Stdout, s.Stderr)
	}
	return v
}

// changesNothing: the kernel was asked for no module, and none came or went,
// although every one that could matter lay ready.
func (r commandRun) changesNothing(t *testing.T) {
	for name, s := range r.steps {
		if ours(name) && (len(s.Asked) > 0 || !s.Unaltered) {
			t.Errorf("%s: the kernel asked for modules %q, the list is unaltered: %v", name, s.Asked, s.Unaltered)
		}
	}
}

func (r commandRun) statuses(t *testing.T) {
	for name, s := range r.steps {
		want := 0
		switch {
		case !ours(name):
			continue
		case strings.HasPrefix(name, "preflight"):
			var doc struct{ Verdict probe.Verdict }
			if err := json.Unmarshal([]byte(s.Stdout), &doc); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			exits := map[probe.CheckStatus]int{probe.Pass: 0, probe.Warn: 0, probe.Fail: 1, probe.Unknown: 3}
			code, known := exits[doc.Verdict.Status]
			if !known {
				t.Errorf("%s: verdict %q", name, doc.Verdict.Status)
			}
			want = code
		case name == "path without a route":
			continue // checked with the paths
		}
		if s.Status != want || s.Error != "" {
			t.Errorf("%s: exit status %d %s, want %d\n%s", name, s.Status, s.Error, want, s.Stderr)
		}
		if strings.Contains(s.Stderr, "panic") || strings.Contains(s.Stderr, "goroutine ") {
			t.Errorf("%s: %s", name, s.Stderr)
		}
	}
}

func (r commandRun) schemas(t *testing.T) {
	for name, s := range r.steps {
		if !ours(name) || s.Stdout == "" || s.Stdout[0] != '{' {
			continue
		}
		var doc struct{ Schema string }
		if err := json.Unmarshal([]byte(s.Stdout), &doc); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// "zcprobe/probe/v1" is described in probe.v1.json.
		parts := strings.Split(doc.Schema, "/")
		if len(parts) != 3 {
			t.Errorf("%s: schema %q", name, doc.Schema)
			continue
		}
		t.Run(name, func(t *testing.T) { hosttest.Validate(t, parts[1]+"."+parts[2], []byte(s.Stdout)) })
	}
}

// kernel compares with what these kernels are known to have. Debian builds 5.10
// without kTLS; memfd_secret came with 5.14, the zero-copy sends of io_uring
// with 6.0 and 6.1.
func (r commandRun) kernel(t *testing.T) {
	old := r.series == "5.10"
	pick := func(then, now probe.FeatureStatus) probe.FeatureStatus {
		if old {
			return then
		}
		return now
	}
	rep := r.report(t, "probe")
	for id, want := range map[string]probe.FeatureStatus{
		"sendfile.tcp": probe.Supported, "sendfile.unix": probe.Supported, "sendfile.file": probe.Supported,
		"splice.file-tcp": probe.Supported, "splice.tcp-tcp": probe.Supported, "vmsplice": probe.Supported, "tee": probe.Supported,
		"pipe.resize": probe.Supported, "copy_file_range": probe.Supported, "memfd.seal": probe.Supported,
		"msg_zerocopy.tcp4": probe.Supported, "msg_zerocopy.tcp6": probe.Supported,
		"msg_zerocopy.udp4": probe.Supported, "msg_zerocopy.udp6": probe.Supported, "udp.gso": probe.Supported,
		"tcp_zerocopy_receive": probe.Supported, "packet_tx_ring": probe.Supported, "tcp.cork": probe.Supported,
		"io_uring":         probe.Supported,
		"io_uring.send_zc": pick(probe.Unsupported, probe.Supported), "io_uring.sendmsg_zc": pick(probe.Unsupported, probe.Supported),
		"memfd_secret": pick(probe.Unsupported, probe.Supported),
		"ktls.tx":      pick(probe.Unsupported, probe.Disabled),
		"reflink":      probe.SkippedFeature, "file.lease": probe.SkippedFeature,
	} {
		if f, ok := feature(rep, id, ""); !ok || f.Status != want {
			t.Errorf("%s is %q (%s), want %q", id, f.Status, f.Detail, want)
		}
	}
}

func feature(r probe.Report, id, subject string) (probe.Feature, bool) {
	i := slices.IndexFunc(r.Features, func(f probe.Feature) bool { return f.ID == id && (subject == "" || f.Subject == subject) })
	if i < 0 {
		return probe.Feature{}, false
	}
	return r.Features[i], true
}

func (r commandRun) limits(t *testing.T) {
	optmem, err := strconv.ParseUint(strings.TrimSpace(r.steps["tool: optmem"].Stdout), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"probe", "probe as nobody"} {
		if got := r.report(t, step).Limits.OptmemMaxBytes; got == nil || *got != optmem {
			t.Errorf("%s: optmem_max %v, want %d", step, got, optmem)
		}
	}
	root, user := r.report(t, "probe").Limits, r.report(t, "probe as nobody").Limits
	if !root.MemlockExempt || user.MemlockExempt {
		t.Errorf("exempt from the limit of locked memory: root %v, nobody %v", root.MemlockExempt, user.MemlockExempt)
	}
	if user.MemlockBytes == nil || *user.MemlockBytes != 64<<10 || user.UID != nobody {
		t.Errorf("nobody's limits: memlock %v, uid %d", user.MemlockBytes, user.UID)
	}
}

// blindness: whoever sees less may know less, and says so; it never claims the
// opposite of what the one who sees everything found.
func (r commandRun) blindness(t *testing.T) {
	full := r.report(t, "probe")
	honest := []probe.FeatureStatus{probe.UnknownFeature, probe.Denied, probe.SkippedFeature}
	for _, step := range []string{"probe without /proc", "probe without /sys", "probe read-only", "probe without anything"} {
		for _, f := range r.report(t, step).Features {
			whole, ok := feature(full, f.ID, f.Subject)
			if !ok || f.Status != whole.Status && !slices.Contains(honest, f.Status) {
				t.Errorf("%s: %s %s is %q (%s), with sight %q (%s)", step, f.ID, f.Subject, f.Status, f.Detail, whole.Status, whole.Detail)
			}
		}
	}
	for _, step := range []string{"probe as nobody", "probe as nobody without anything"} {
		for _, f := range r.report(t, step).Features {
			if whole, ok := feature(full, f.ID, f.Subject); f.Status == probe.Supported && (!ok || whole.Status != probe.Supported) {
				t.Errorf("%s: %s %s is supported, for root %q (%s)", step, f.ID, f.Subject, whole.Status, whole.Detail)
			}
		}
	}
}

// taps: the capture is found with its owner, by root; and not before it ran.
func (r commandRun) taps(t *testing.T) {
	captures := func(step string) (n int) {
		for _, tap := range r.report(t, step).Taps {
			if tap.Comm == "tcpdump" && tap.Device == "eth0" && tap.Protocol == 3 && tap.PID > 0 {
				n++
			}
		}
		return n
	}
	if before, during := captures("probe"), captures("probe under a tap"); before != 0 || during != 1 {
		t.Errorf("%d captures before, %d while tcpdump ran: %+v", before, during, r.report(t, "probe under a tap").Taps)
	}
}

// replay: the record gives the same report here as in the guest, byte for byte.
func (r commandRun) replay(t *testing.T) {
	dir := t.TempDir()
	r.write(t, dir)
	out, err := exec.CommandContext(t.Context(), r.binary, "probe", "--from-record", dir, "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := r.steps["replay"].Stdout; string(out) != want {
		t.Errorf("the record gives another report here than in the guest:\n%s\n%s", out, want)
	}
}

// write puts the record into dir.
func (r commandRun) write(t *testing.T, dir string) {
	t.Helper()
	if len(r.files) == 0 {
		t.Fatal("the guest left no record")
	}
	for name, data := range r.files {
		rel, err := filepath.Rel(recordDir, name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
