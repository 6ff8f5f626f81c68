package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	labbench "github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// takeAll is a peer on this machine that takes everything that comes.
func takeAll(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// once runs a command that gives another answer each time.
func once(t *testing.T, b *bench, schema string, v any, args ...string) int {
	t.Helper()
	code := b.run(t.Context(), append(args, "-o", "json")...)
	hosttest.Validate(t, schema, b.out.Bytes())
	checkHarmless(t, "stdout", b.out.String())
	if err := json.Unmarshal(b.out.Bytes(), v); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return code
}

// Loopback is measured, and nothing is concluded from it or kept.
func TestBenchOverLoopback(t *testing.T) {
	b := newBench(t)
	svg := filepath.Join(t.TempDir(), "costs.svg")
	var r labbench.Report
	to := takeAll(t)
	if code := once(t, b, "bench.v1", &r, "bench", "--quick", "--to", to, "--backend", "msg_zerocopy", "--size", "16K,256K", "--svg", svg); code != 0 {
		t.Fatalf("exit %d: %s", code, &b.err)
	}
	if r.Path != to || r.Conclusive || len(r.Crossovers) > 0 || !strings.Contains(r.Conclusion, "this machine") || r.Saved != "" {
		t.Errorf("%+v", r)
	}
	if len(r.Results) != 8 {
		t.Errorf("%d results", len(r.Results))
	}
	if picture, err := os.ReadFile(svg); err != nil || !strings.Contains(string(picture), "<svg") {
		t.Errorf("%q, %v", picture, err)
	}
	if _, err := os.Stat(b.state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was kept: %v", err)
	}
}

// What keeps it from measuring is told in terms of what can be done about it.
func TestBenchErrors(t *testing.T) {
	for _, c := range []struct {
		name, kind, words string
		err               error
		args              []string
	}{
		{"no root", kindPermission, "--to HOST:PORT measures a path as any user", fs.ErrPermission, nil},
		{"no Linux", kindUnsupported, "", errors.ErrUnsupported, nil},
		{"the peer", kindConnection, "measure the path to 127.0.0.1:9", errors.New("reset"), []string{"--to", "127.0.0.1:9"}},
		{"a bug", kindInternal, "", errors.New("bug"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.app.bench = func(context.Context, labbench.Options) (*labbench.Report, error) { return nil, c.err }
			var e errorJSON
			if code := once(t, b, "error.v1", &e, append([]string{"bench", "--quick"}, c.args...)...); code != exitError {
				t.Errorf("exit %d", code)
			}
			if e.Kind != c.kind || !strings.Contains(e.Error, c.words) {
				t.Errorf("%s: %s", e.Kind, e.Error)
			}
		})
	}
}

// concluded is a report of the laboratory that says that lending memory pays from so
// many bytes on.
func concluded(from int64) *labbench.Report {
	r := &labbench.Report{Schema: labbench.Schema, Path: labbench.PathLab, Quick: true, Conclusive: true, Conclusion: "So be it.", Would: []string{},
		Results: []labbench.Result{}, Skipped: []labbench.Skipped{}, Disturbances: []string{}}
	for _, cache := range []transmit.CacheState{transmit.CacheHot, transmit.CacheCold} {
		r.Crossovers = append(r.Crossovers, labbench.Crossover{Backend: transmit.MsgZerocopy, Against: transmit.Write, Source: transmit.SourceMemory,
			To: transmit.TCP, Cache: cache, Bytes: &from, LowBytes: &from, HighBytes: &from, Detail: "It is cheaper from here on."})
	}
	return r
}

// What bench keeps is what select goes by, and shows; it is asked not to, and what is
// of no use is told.
func TestSelectGoesByTheCalibration(t *testing.T) {
	b := newBench(t)
	measure := func(from int64, args ...string) labbench.Report {
		t.Helper()
		b.fresh()
		b.app.bench = func(context.Context, labbench.Options) (*labbench.Report, error) { return concluded(from), nil }
		var r labbench.Report
		if code := once(t, b, "bench.v1", &r, append([]string{"bench", "--quick"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, &b.err)
		}
		return r
	}
	choose := func(args ...string) (threshold int64, evidence string) {
		t.Helper()
		b.fresh()
		var r selection.Result
		if code := once(t, b, "select.v1", &r, append([]string{"select", "--from", "memory"}, args...)...); code != 0 {
			t.Fatalf("exit %d: %s", code, &b.err)
		}
		for _, e := range r.Evidence {
			if e.Source == "crossover of msg_zerocopy" {
				evidence = e.Value
			}
		}
		if evidence == "" {
			t.Fatal("no crossover is in the evidence")
		}
		if r.ThresholdBytes == nil {
			return -1, evidence
		}
		return *r.ThresholdBytes, evidence
	}
	def := transmit.DefaultCrossover(transmit.MsgZerocopy, transmit.CacheHot)
	if n, why := choose(); n != def || strings.Contains(why, "calibration") {
		t.Errorf("without any: %d, %q", n, why)
	}
	if r := measure(1<<20, "--no-save"); r.Saved != "" {
		t.Errorf("saved in %s", r.Saved)
	}
	if r := measure(1<<20, "--size", "4K"); r.Saved != "" || !strings.Contains(r.SavedNote, "only a part") {
		t.Errorf("saved in %q: %s", r.Saved, r.SavedNote)
	}
	if n, _ := choose(); n != def {
		t.Errorf("%d, though nothing was saved", n)
	}
	if r := measure(1 << 20); r.Saved != filepath.Join(b.state, "calibration-lab.json") {
		t.Fatalf("saved in %q: %s", r.Saved, r.SavedNote)
	}
	text, err := os.ReadFile(filepath.Join(b.state, "calibration-lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Validate(t, "calibration.v1", text)
	if n, why := choose(); n != 1<<20 || !strings.Contains(why, "calibration of lab on 2026-11-21T00:00:00Z, and a network card needs at least that") {
		t.Errorf("%d, %q", n, why)
	}
	if n, why := choose("--no-calibration"); n != def || strings.Contains(why, "calibration") {
		t.Errorf("asked for the defaults: %d, %q", n, why)
	}
	measure(1 << 10)
	if n, why := choose(); n != def || !strings.Contains(why, "found 1024 bytes") {
		t.Errorf("the laboratory lowered a default: %d, %q", n, why)
	}
	if err := os.WriteFile(filepath.Join(b.state, "calibration-lab.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, why := choose(); n != def || !strings.Contains(why, "the calibration is stale") || !strings.Contains(why, "is damaged") {
		t.Errorf("damaged: %d, %q", n, why)
	}
}

// What bench keeps is what the commands that choose go by and show, but for records and
// where the defaults are asked for.
func TestProbeAndSendGoByTheCalibration(t *testing.T) {
	b := newBench(t)
	b.app.bench = func(context.Context, labbench.Options) (*labbench.Report, error) { return concluded(1 << 30), nil }
	var m labbench.Report
	if code := once(t, b, "bench.v1", &m, "bench", "--quick"); code != 0 || m.Saved == "" {
		t.Fatalf("exit %d, saved in %q: %s", code, m.Saved, &b.err)
	}
	shown := func(es []probe.Evidence) bool {
		return slices.ContainsFunc(es, func(e probe.Evidence) bool {
			return e.Source == "crossover of msg_zerocopy" && strings.Contains(e.Value, "calibration of lab on 2026-11-21T00:00:00Z")
		})
	}
	for _, c := range []struct {
		args []string
		want bool
	}{{nil, true}, {[]string{"--no-calibration"}, false}} {
		b.fresh()
		var r probe.Report
		if code := once(t, b, "probe.v1", &r, append([]string{"probe"}, c.args...)...); code != 0 {
			t.Fatalf("probe %v: exit %d: %s", c.args, code, &b.err)
		}
		for _, x := range r.Recommendations {
			if x.Source == "memory" && x.Protocol == "tcp" && shown(x.Evidence) != c.want {
				t.Errorf("probe %v, %d bytes by %s: %+v", c.args, x.SizeBytes, x.Backend, x.Evidence)
			}
		}
		b.fresh()
		var s transfer.Sent
		// Nothing is sent: a documentation address (RFC 5737), and --dry-run.
		args := append([]string{"send", "--dry-run", "--to", "192.0.2.1:9", "--memory", "1M"}, c.args...)
		if code := once(t, b, "send.v1", &s, args...); code != 0 {
			t.Fatalf("send %v: exit %d: %s", c.args, code, &b.err)
		}
		if shown(s.Selection.Evidence) != c.want || c.want && s.Selection.Backend != "write" {
			t.Errorf("send %v by %s: %+v", c.args, s.Selection.Backend, s.Selection.Evidence)
		}
	}
	b.fresh()
	var r probe.Report
	b.json(t, "probe.v1", &r, "probe", "--from-record", hosttest.Dir(t, "guest-6.12-e1000e"))
	for _, x := range r.Recommendations {
		if shown(x.Evidence) {
			t.Errorf("a record goes by what was measured here: %+v", x.Evidence)
		}
	}
}

// An answer is given even if there is no room to keep it.
func TestBenchWithoutRoomToKeep(t *testing.T) {
	b := newBench(t)
	if err := os.WriteFile(b.state, nil, 0o600); err != nil { // in place of the directory
		t.Fatal(err)
	}
	b.app.bench = func(context.Context, labbench.Options) (*labbench.Report, error) { return concluded(1 << 20), nil }
	var r labbench.Report
	if code := once(t, b, "bench.v1", &r, "bench", "--quick"); code != 0 {
		t.Errorf("exit %d", code)
	}
	if r.Saved != "" || !strings.Contains(r.SavedNote, "not a directory") || !strings.Contains(b.err.String(), "not kept") {
		t.Errorf("%q, %q, %q", r.Saved, r.SavedNote, &b.err)
	}
}

// What was measured while something copied, as a packet tap does, is shown and not
// kept: it may be gone when the calibration is read.
func TestBenchKeeps(t *testing.T) {
	for _, c := range []struct {
		copied float64
		kept   bool
	}{{0, true}, {0.05, true}, {0.4, false}, {1, false}} {
		b := newBench(t)
		r := &labbench.Report{Path: "192.0.2.1:9", Conclusive: true, LentCopiedFraction: c.copied, Crossovers: []labbench.Crossover{
			{Backend: transmit.MsgZerocopy, Against: transmit.Write, Source: transmit.SourceMemory, To: transmit.TCP, Cache: transmit.CacheHot}}}
		o := &benchOptions{path: &probe.PathReport{Hops: []probe.Hop{{Device: "eth0", Kind: "nic", MTU: 1500}}}}
		o.To = r.Path
		b.keep(r, o)
		if kept := r.Saved != ""; kept != c.kept || kept == strings.Contains(r.SavedNote, "packet tap") {
			t.Errorf("%.2f copied: saved %q, %q", c.copied, r.Saved, r.SavedNote)
		}
	}
}
