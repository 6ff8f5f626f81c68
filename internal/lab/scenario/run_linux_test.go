package scenario_test

import (
	"testing"

	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
)

// TestRun runs the catalogue: prediction, completions and observation agree with the
// truth.
func TestRun(t *testing.T) {
	testenv.Root(t)
	r, err := scenario.Run(t.Context(), scenario.Catalogue(), scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		t.Logf("%s: %s %s (%d ms)", s.ID, s.Status, s.Reason, s.DurationNS/1e6)
		for _, f := range s.Findings {
			t.Logf("    %s %s: %s", f.Layer, f.Kind, f.Text)
		}
		if s.Attempts < 1 && s.Status != probe.Skipped {
			t.Errorf("%s: %d attempts", s.ID, s.Attempts)
		}
		if s.Status == probe.Fail {
			t.Errorf("%s: %+v", s.ID, s)
		}
	}
	n := map[probe.CheckStatus]int{}
	for _, s := range r.Scenarios {
		n[s.Status]++
	}
	if n[probe.Pass] <= 3*n[probe.Unknown] {
		t.Errorf("too little is decided: %v", n)
	}
	t.Log(r.Verdict, r.Tier, r.DurationNS/1e6, "ms")
}
