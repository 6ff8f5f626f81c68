package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

func checkRecommendations(t *testing.T, rs []probe.Recommendation, known []string) {
	t.Helper()
	if len(rs) == 0 {
		t.Error("nothing is recommended")
	}
	for _, r := range rs {
		if _, err := transmit.ParseBackend(r.Backend); err != nil || r.Reason == "" {
			t.Errorf("bad recommendation %+v", r)
		}
		for _, x := range r.Rejected {
			for _, id := range x.Causes {
				if !slices.Contains(known, id) {
					t.Errorf("explain does not know %s", id)
				}
			}
		}
	}
}

// checkSelect asks for some of every kind of transfer.
func checkSelect(t *testing.T, b *bench, dir string, known []string) {
	t.Helper()
	to := hosttest.Load(t, dirName(dir)).Paths[0].Asked
	for _, args := range [][]string{
		{"--from", "memory", "--to", to, "--size", "1M"},
		{"--from", "file", "--to", to, "--size", "1M", "--mapped"},
		{"--from", "memory", "--protocol", "udp", "--segment", "1400", "--size", "60000", "--to", to},
		{"--from", "socket"}, {"--from", "pipe", "--protocol", "unix"}, {"--from", "file", "--protocol", "file"},
		{"--from", "file", "--protocol", "udp", "--size", "1000"},
	} {
		args = append([]string{"select", "--from-record", dir}, args...)
		var r selection.Result
		if code := b.json(t, "select.v1", &r, args...); code != 0 {
			t.Errorf("%v: exit %d", args, code)
		}
		for _, x := range r.Rejected {
			for _, id := range x.Causes {
				if !slices.Contains(known, id) {
					t.Errorf("explain does not know %s", id)
				}
			}
		}
		for _, v := range []string{"-q", "-v", "--color=never"} {
			out := b.text(t, append(args, v)...)
			checkHarmless(t, "stdout", out)
			if !strings.HasPrefix(out, r.Backend+" ") {
				t.Errorf("%v: the answer does not come first: %q", args, out)
			}
			for l := range strings.Lines(out) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 {
					t.Errorf("%v: %d columns: %q", args, n, l)
				}
			}
		}
	}
}

func dirName(dir string) string { return dir[strings.LastIndexByte(dir, '/')+1:] }

// The environment has the first word, and is told from a mistake.
func TestSelectObeysTheEnvironment(t *testing.T) {
	dir := hosttest.Dir(t, "guest-6.12-e1000e")
	b := newBench(t)
	b.env[transmit.EnvBackend] = "write"
	var r selection.Result
	b.json(t, "select.v1", &r, "select", "--from", "memory", "--size", "1M", "--from-record", dir, "--backend", "msg_zerocopy")
	if r.Backend != "write" || !strings.Contains(r.Reason, "ZCPROBE_BACKEND=write") {
		t.Errorf("%s: %s", r.Backend, r.Reason)
	}
	var p probe.Report
	b.json(t, "probe.v1", &p, "probe", "--from-record", dir)
	for _, x := range p.Recommendations {
		if x.Backend != "write" && x.Backend != "read_write" {
			t.Errorf("%s is recommended from %s to %s", x.Backend, x.Source, x.Protocol)
		}
	}
	for _, cmd := range [][]string{{"select", "--from", "file"}, {"probe"}} {
		b.env[transmit.EnvBackend] = "fastest"
		b.fresh()
		if code := b.run(t.Context(), append(cmd, "--from-record", dir)...); code != exitError || !strings.Contains(b.err.String(), transmit.EnvBackend) {
			t.Errorf("%v: exit %d: %s", cmd, code, b.err.String())
		}
	}
}
