package render

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

var update = flag.Bool("update", false, "rewrite testdata/golden")

// golden compares what is printed with a file, and holds it to what all text
// must keep: the width, and nothing that a terminal acts on but our colours.
func golden(t *testing.T, name string, set func(*text.Printer), write func(*text.Printer)) {
	t.Helper()
	var b bytes.Buffer
	p := text.New(&b)
	p.UTF8 = true
	if set != nil {
		set(p)
	}
	write(p)
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if !p.Color {
		checkText(t, b.String(), p)
	}
	goldenFile(t, name+".txt", b.Bytes())
}

func goldenFile(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("..", "..", "..", "..", "testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s (run with -update if that is right)\ngot\n%s\nwant\n%s", name, got, want)
	}
}

func checkText(t *testing.T, s string, p *text.Printer) {
	t.Helper()
	for l := range strings.Lines(s) {
		l = strings.TrimSuffix(l, "\n")
		if n := utf8.RuneCountInString(l); n > p.Width {
			t.Errorf("%d columns: %q", n, l)
		}
		if strings.TrimRight(l, " ") != l {
			t.Errorf("ends in a blank: %q", l)
		}
		for _, r := range l {
			if !unicode.IsPrint(r) || r == utf8.RuneError || !p.UTF8 && r > 0x7e {
				t.Errorf("%q in %q", r, l)
			}
		}
	}
}

func ascii(p *text.Printer) { p.UTF8 = false }

func TestGoldenProbe(t *testing.T) {
	withPath := fixture.Server()
	withPath.Path = fixture.Path()
	empty := &probe.Report{Verdict: probe.Verdict{Status: probe.Unknown, Summary: "Nothing could be read."}}
	many := fixture.Server()
	for range 20 {
		many.NICs = append(many.NICs, many.NICs[2])
	}
	advised := fixture.Server()
	advised.Recommendations = selection.Recommend(advised, transmit.SelectOptions{})
	blocked := fixture.Blocked()
	blocked.Recommendations = selection.Recommend(blocked, transmit.SelectOptions{})
	for _, c := range []struct {
		name string
		r    *probe.Report
		how  int
		set  func(*text.Printer)
	}{
		{"probe", advised, Normal, nil},
		{"probe-quiet", fixture.Server(), Quiet, nil},
		{"probe-blocked", blocked, Normal, nil},
		{"probe-blocked-ascii", fixture.Blocked(), Normal, ascii},
		{"probe-blocked-colour", fixture.Blocked(), Normal, func(p *text.Printer) { p.Color = true }},
		{"probe-blocked-verbose", blocked, Verbose, nil},
		{"probe-path", withPath, Normal, nil},
		{"probe-empty", empty, Normal, nil},
		{"probe-many-devices", many, Normal, nil},
		{"probe-wide", fixture.Blocked(), Normal, func(p *text.Printer) { p.Width = 120 }},
	} {
		t.Run(c.name, func(t *testing.T) { golden(t, c.name, c.set, func(p *text.Printer) { Probe(p, c.r, c.how) }) })
	}
}

func TestGoldenPath(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *probe.PathReport
		how  int
		set  func(*text.Printer)
	}{
		{"path", fixture.Path(), Normal, nil},
		{"path-ascii", fixture.Path(), Normal, ascii},
		{"path-verbose", fixture.Path(), Verbose, nil},
		{"path-long", fixture.LongPath(), Normal, nil},
		{"path-no-route", fixture.NoRoute(), Normal, nil},
		{"path-quiet", fixture.Path(), Quiet, nil},
	} {
		t.Run(c.name, func(t *testing.T) { golden(t, c.name, c.set, func(p *text.Printer) { Path(p, c.r, c.how) }) })
	}
}

func TestGoldenSelect(t *testing.T) {
	r := selection.Result{
		Transfer: selection.Transfer{Source: "memory", Protocol: "tcp", SizeBytes: 1 << 20, Destination: "db.example.com:5432"},
		Backend:  "msg_zerocopy", Reason: "The kernel sends the pages themselves; from 32768 bytes on that is cheaper than copying.",
		ThresholdBytes: new(int64(32768)), Below: "write", Above: "msg_zerocopy", Fallback: []string{"write"},
		Notes:    []selection.Note{{Text: "The path is not known."}, {Cause: "early-completion", Text: "Memory is released when " + fixture.Hostile + " says so."}},
		Evidence: []probe.Evidence{{Source: "msg_zerocopy.tcp4", Value: "supported"}},
		Rejected: []selection.Rejected{
			{Backend: "vmsplice", Reason: "Nothing says when the kernel is done with the memory, so it is only taken where it is asked for.", Causes: []string{}},
			{Backend: "write", Reason: "It copies once, in the call.", Causes: []string{"api-copy"}, Remedy: "ethtool -K eth0 sg on"},
		},
	}
	copied := selection.Result{Transfer: selection.Transfer{Source: "file", Protocol: "unix"}, Backend: "read_write", Reason: "It works from anything to anything.",
		Rejected: []selection.Rejected{{Backend: "sendfile", Reason: "It is denied.", Causes: []string{"fast-path-refused"}}}}
	for _, c := range []struct {
		name string
		r    selection.Result
		how  int
		set  func(*text.Printer)
	}{
		{"select", r, Normal, nil},
		{"select-ascii", r, Normal, ascii},
		{"select-verbose", r, Verbose, nil},
		{"select-quiet", r, Quiet, nil},
		{"select-copied", copied, Normal, nil},
	} {
		t.Run(c.name, func(t *testing.T) { golden(t, c.name, c.set, func(p *text.Printer) { Select(p, c.r, c.how) }) })
	}
}

func TestGoldenPreflight(t *testing.T) {
	good, bad := policy.Input{Report: fixture.Server()}, policy.Input{Report: fixture.Blocked()}
	bad.Paths = []policy.Path{{To: "db.example.com:5432", Report: fixture.Path()}}
	for _, c := range []struct {
		name string
		in   policy.Input
		how  int
		set  func(*text.Printer)
	}{
		{"preflight", good, Normal, nil},
		{"preflight-verbose", good, Verbose, nil},
		{"preflight-blocked", bad, Normal, nil},
		{"preflight-quiet", bad, Quiet, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { Preflight(p, policy.Apply(policy.Builtin(c.in), c.in), c.how) })
		})
	}
}

// The catalogue's text has its own tests; here its form is checked, of every entry.
func TestGoldenExplain(t *testing.T) {
	golden(t, "explain-cause", nil, func(p *text.Printer) {
		Cause(p, probe.Cause{ID: "no-tea", Kind: probe.KindCopy, Summary: "The kettle is cold", Explanation: "Water is poured by hand. It takes longer than it should, and everyone waits.",
			Shows: "As silence; `uptime` grows.", Remedy: "`ethtool -K kettle0 sg on`, or wait.", Kernels: "all; verified on 6.18",
			Mechanisms: []probe.Mechanism{probe.AtSend, probe.AtDMA}, Predicted: true, Observed: true, Expected: true})
	})
	var b bytes.Buffer
	p := text.New(&b)
	Catalogue(p, probe.Causes(), policy.IDs())
	for _, c := range probe.Causes() {
		Cause(p, c)
	}
	for _, c := range policy.IDs() {
		CheckID(p, c)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	checkText(t, b.String(), p)
}

// Every blocker that is printed can be looked up.
func TestPrintedIDsAreExplained(t *testing.T) {
	for _, b := range fixture.Blocked().Blockers {
		if _, ok := policy.Lookup(b.ID); !ok {
			t.Errorf("explain does not know %s", b.ID)
		}
	}
}
