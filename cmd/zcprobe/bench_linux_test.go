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
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
	labbench "github.com/zcprobe/zcprobe/internal/lab/bench"
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
	state := t.TempDir()
	b.env["XDG_STATE_HOME"] = state
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
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
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
