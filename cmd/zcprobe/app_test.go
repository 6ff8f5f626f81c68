package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	labbench "github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// A bench is an app whose world is a test's.
type bench struct {
	*app
	out, err bytes.Buffer
	env      map[string]string
	state    string // where calibrations are
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{env: map[string]string{"LANG": "C.UTF-8"}, state: filepath.Join(t.TempDir(), "state")}
	b.fresh()
	return b
}

// fresh makes the app new, as for a new process.
func (b *bench) fresh() {
	b.out.Reset()
	b.err.Reset()
	b.app = newApp(&b.out, &b.err, func(name string) string { return b.env[name] })
	b.app.tiers = func(context.Context) []probe.Tier { return nil }
	b.app.confine = func() error { return nil }                       // this process has more to do
	b.app.calibrations = func() []string { return []string{b.state} } // and not this machine's
	b.app.now = func() time.Time { return time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC) }
}

func (b *bench) run(ctx context.Context, args ...string) int { return run(ctx, args, b.app) }

func TestInterrupted(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		b.collect = func(ctx context.Context, _ probe.Options) (*probe.Facts, error) {
			cancel(errors.New("interrupt signal received"))
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		args := []string{"probe"}
		if asJSON {
			args = append(args, "-o", "json")
		}
		if code := b.run(ctx, args...); code != 130 {
			t.Errorf("exit %d, want 130", code)
		}
		if b.err.String() != "zcprobe: interrupted\n" {
			t.Errorf("stderr %q", b.err.String())
		}
		if got := strings.Contains(b.out.String(), `"kind": "interrupted"`); got != asJSON {
			t.Errorf("stdout %q", b.out.String())
		}
	}
}

func TestErrorsOfTheProbe(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind string
	}{
		{fmt.Errorf("probe: %w", errors.ErrUnsupported), kindUnsupported},
		{fmt.Errorf("open: %w", os.ErrPermission), kindPermission},
		{errors.New("no idea"), kindInternal},
	} {
		b := newBench(t)
		b.collect = func(context.Context, probe.Options) (*probe.Facts, error) { return nil, c.err }
		if code := b.run(t.Context(), "preflight", "-o", "json"); code != exitError {
			t.Errorf("%v: exit %d", c.err, code)
		}
		hosttest.Validate(t, "error.v1", b.out.Bytes())
		if !strings.Contains(b.out.String(), `"kind": "`+c.kind+`"`) || b.err.Len() == 0 {
			t.Errorf("%v: %s, stderr %q", c.err, b.out.String(), b.err.String())
		}
	}
}

// An error that quotes the host must not reach the terminal as it is.
func TestErrorsAreEscaped(t *testing.T) {
	b := newBench(t)
	b.collect = func(context.Context, probe.Options) (*probe.Facts, error) {
		return nil, errors.New("device " + fixture.Hostile)
	}
	if code := b.run(t.Context(), "probe", "-o", "json"); code != exitError {
		t.Errorf("exit %d", code)
	}
	checkHarmless(t, "stderr", b.err.String())
	checkHarmless(t, "stdout", b.out.String())
}

func checkHarmless(t *testing.T, name, s string) {
	t.Helper()
	for _, r := range strings.ReplaceAll(s, "\n", "") {
		if !unicode.IsPrint(r) {
			t.Errorf("%s holds %q: %q", name, r, s)
			return
		}
	}
}

func TestColour(t *testing.T) {
	for _, c := range []struct {
		name, flag string
		tty        bool
		env        map[string]string
		want       bool
	}{
		{"terminal", "auto", true, nil, true},
		{"file", "auto", false, nil, false},
		{"NO_COLOR", "auto", true, map[string]string{"NO_COLOR": "1"}, false},
		{"NO_COLOR empty", "auto", true, map[string]string{"NO_COLOR": ""}, true},
		{"dumb terminal", "auto", true, map[string]string{"TERM": "dumb"}, false},
		{"never", "never", true, nil, false},
		{"always, to a file", "always", false, map[string]string{"NO_COLOR": "1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.terminal = func(io.Writer) (int, bool) { return 100, c.tty }
			b.app.getenv = func(s string) string { return c.env[s] }
			if code := b.run(t.Context(), "explain", "tee", "--color", c.flag); code != 0 {
				t.Fatalf("exit %d: %s", code, b.err.String())
			}
			if got := strings.Contains(b.out.String(), "\x1b["); got != c.want {
				t.Errorf("colour %v, want %v: %q", got, c.want, b.out.String())
			}
		})
	}
}

func TestLocale(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{map[string]string{"LANG": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "C.UTF-8"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": ""}, true},
		{nil, false},
	} {
		b := newBench(t)
		b.env = c.env
		if got := b.utf8(); got != c.want {
			t.Errorf("%v: UTF-8 %v, want %v", c.env, got, c.want)
		}
	}
}

// Progress is shown to people who wait, and to nobody else.
func TestProgress(t *testing.T) {
	b := newBench(t)
	b.terminal = func(io.Writer) (int, bool) { return 80, false }
	b.progress("waiting")()
	b.terminal = func(io.Writer) (int, bool) { return 80, true }
	b.progress("waiting")() // over before anyone wondered
	if b.err.Len() > 0 {
		t.Errorf("stderr %q", b.err.String())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}
}

func TestBrokenPipeIsQuiet(t *testing.T) {
	b := newBench(t)
	b.stdout.w = brokenPipe{}
	if code := b.run(t.Context(), "explain"); code != exitError || b.err.Len() > 0 {
		t.Errorf("exit %d, stderr %q", code, b.err.String())
	}
}

// Every recorded host gives answers that are valid, harmless and 80 columns
// wide, the same each time, and whose every id can be looked up.
func TestRecordedHosts(t *testing.T) {
	known := explainable()
	for _, name := range hosttest.Names(t) {
		t.Run(name, func(t *testing.T) {
			dir := hosttest.Dir(t, name)
			b := newBench(t)
			for _, args := range [][]string{{"probe"}, {"probe", "-v"}, {"preflight"}, {"preflight", "-v"}} {
				out := b.text(t, append(args, "--from-record", dir)...)
				checkHarmless(t, "stdout", out)
				for l := range strings.Lines(out) {
					if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 {
						t.Errorf("%v: %d columns: %q", args, n, l)
					}
				}
			}
			var r probe.Report
			b.json(t, "probe.v1", &r, "probe", "--from-record", dir)
			for _, f := range r.Features {
				if !slices.Contains(known, f.ID) {
					t.Errorf("explain does not know the feature %s", f.ID)
				}
			}
			for _, c := range r.Blockers {
				if !slices.Contains(known, c.ID) {
					t.Errorf("explain does not know the check %s", c.ID)
				}
			}
			for _, q := range hosttest.Load(t, name).Paths {
				var p probe.PathReport
				b.json(t, "path.v1", &p, "path", q.Asked, "--from-record", dir)
				checkHarmless(t, "stdout", b.text(t, "path", q.Asked, "--from-record", dir))
			}
			checkRecommendations(t, r.Recommendations, known)
			checkSelect(t, b, dir, known)
			checkPreflight(t, b, dir, known)
		})
	}
}

func (b *bench) text(t *testing.T, args ...string) string {
	t.Helper()
	b.fresh()
	if code := b.run(t.Context(), args...); code == exitError {
		t.Fatalf("%v: exit %d: %s", args, code, b.err.String())
	}
	return b.out.String()
}

func (b *bench) json(t *testing.T, schema string, v any, args ...string) int {
	t.Helper()
	args = append(args, "-o", "json")
	b.fresh()
	code := b.run(t.Context(), args...)
	first := b.out.String()
	hosttest.Validate(t, schema, b.out.Bytes())
	checkHarmless(t, "stdout", first)
	if err := json.Unmarshal(b.out.Bytes(), v); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	b.fresh()
	if b.run(t.Context(), args...); b.out.String() != first {
		t.Errorf("%v gave two answers", args)
	}
	return code
}

// checkPreflight compares the exit code with what the checks say, and lets the
// host pass the policy that is made from it.
func checkPreflight(t *testing.T, b *bench, dir string, known []string) {
	t.Helper()
	var r struct {
		Verdict probe.Verdict
		Checks  []probe.Check
	}
	code := b.json(t, "preflight.v1", &r, "preflight", "--from-record", dir)
	worst := probe.Skipped
	for _, c := range r.Checks {
		worst = worst.Worse(c.Status)
		for _, id := range append(c.Causes, c.ID) {
			if !slices.Contains(known, id) {
				t.Errorf("explain does not know %s", id)
			}
		}
	}
	want := map[probe.CheckStatus]int{probe.Pass: 0, probe.Warn: 0, probe.Fail: 1, probe.Unknown: 3}[worst]
	if code != want || r.Verdict.Status != worst {
		t.Errorf("exit %d, verdict %s; the checks say %s", code, r.Verdict.Status, worst)
	}
	file := filepath.Join(t.TempDir(), "today.yaml")
	b.text(t, "policy", "init", "--from-record", dir, "-f", file)
	b.fresh()
	if code := b.run(t.Context(), "preflight", "--policy", file, "--from-record", dir); code != 0 {
		t.Errorf("the host fails its own policy, exit %d:\n%s%s", code, b.out.String(), b.err.String())
	}
}

// What the documents tell people to type makes sense to the program.
func TestDocumentedCommands(t *testing.T) {
	for file, least := range map[string]int{"README.md": 15, "docs/guide.md": 25} {
		src, err := os.ReadFile(filepath.Join(filepath.Dir(hosttest.Testdata(t)), file))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for l := range strings.Lines(string(src)) {
			if checkCommandLine(t, l) {
				n++
			}
		}
		if n < least {
			t.Errorf("%s: only %d commands found", file, n)
		}
	}
}

// checkCommandLine holds a line of a text against the program's commands and flags, if
// it is a command line of ours.
func checkCommandLine(t *testing.T, l string) bool {
	t.Helper()
	l = strings.TrimSpace(l)
	l = strings.TrimPrefix(strings.TrimPrefix(l, "$ "), "# ")
	for _, end := range []string{" #", " >", " | ", "   "} {
		l, _, _ = strings.Cut(l, end)
	}
	args := strings.Fields(strings.NewReplacer("'", "", `"$(pidof nginx)"`, "1", "$(pidof nginx)", "1").Replace(l))
	if len(args) < 1 || args[0] != "zcprobe" {
		return false
	}
	root := newRootCmd(newBench(t).app)
	cmd, rest, err := root.Find(args[1:])
	if err != nil {
		t.Errorf("%q: %v", l, err)
		return true
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%q: %v", l, err)
		return true
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Errorf("%q: %v", l, err)
	}
	return true
}

func FuzzWantsJSON(f *testing.F) {
	f.Add("-o json")
	f.Add("-qo=json --x")
	f.Add("probe --output json -- -o")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		if wantsJSON(args) && !strings.Contains(line, "json") {
			t.Errorf("%q", line)
		}
	})
}

// Everything that commands print as JSON has a published schema.
func TestSchemasAgreeWithTypes(t *testing.T) {
	schemas := map[string]reflect.Type{
		"preflight.v1":    reflect.TypeFor[policy.Result](),
		"explain.v1":      reflect.TypeFor[explainJSON](),
		"select.v1":       reflect.TypeFor[selection.Result](),
		"error.v1":        reflect.TypeFor[errorJSON](),
		"version.v1":      reflect.TypeFor[versionJSON](),
		"policy-check.v1": reflect.TypeFor[policyCheckJSON](),
		"policy-init.v1":  reflect.TypeFor[policyInitJSON](),
		"recorded.v1":     reflect.TypeFor[recordedJSON](),
		"calibration.v1":  reflect.TypeFor[transmit.CalibrationFile](),
		"bench.v1":        reflect.TypeFor[labbench.Report](),
		"send.v1":         reflect.TypeFor[transfer.Sent](),
		"recv.v1":         reflect.TypeFor[transfer.Received](),
		"trace.v1":        reflect.TypeFor[render.Traced](),
		"trace-plan.v1":   reflect.TypeFor[render.Planned](),
		"lab.v1":          reflect.TypeFor[scenario.Report](),
	}
	for name, typ := range schemas {
		hosttest.Agree(t, name, typ)
	}
	files, err := filepath.Glob(hosttest.Testdata(t, "schema", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if _, ok := schemas[name]; !ok && !slices.Contains([]string{"probe.v1", "path.v1", "record.v1", "scenarios.v1"}, name) {
			t.Errorf("%s describes what nobody prints", name)
		}
	}
}
