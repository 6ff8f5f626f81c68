package probe

import (
	"slices"
	"strings"
	"testing"
)

// hereFacts are the facts of this machine as far as kernel features go.
func hereFacts(t testing.TB) *Facts {
	f := &Facts{Host: readHost(liveSources())}
	err := onProbeThread(t.Context(), func() error {
		f.Outcomes = runTests(t.Context(), &f.Host)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFunctestsMatchFeatures keeps the two tables together: every feature has
// its test, and every test is judged.
func TestFunctestsMatchFeatures(t *testing.T) {
	var tests, specs []string
	for _, ft := range functests() {
		if !strings.HasPrefix(ft.id, "hazard.") {
			tests = append(tests, ft.id)
		}
	}
	for _, s := range featureSpecs() {
		specs = append(specs, s.id)
	}
	slices.Sort(tests)
	if !slices.Equal(tests, specs) {
		t.Errorf("tests %q\nfeatures %q", tests, specs)
	}
	if !slices.IsSorted(specs) {
		t.Error("features are not sorted")
	}
}

// TestFeaturesHere judges this machine, whatever it is: each feature has one of
// the words, a sentence, and the observations that led there.
func TestFeaturesHere(t *testing.T) {
	f := hereFacts(t)
	words := []FeatureStatus{Supported, Unsupported, Disabled, Denied, UnknownFeature}
	for _, x := range judgeKernel(f) {
		if !slices.Contains(words, x.Status) || len(x.Evidence) == 0 {
			t.Errorf("%s: status %q, evidence %v", x.ID, x.Status, x.Evidence)
		}
		if x.Detail == "" || !strings.HasSuffix(x.Detail, ".") || strings.Contains(x.Detail, "  ") {
			t.Errorf("%s: detail %q", x.ID, x.Detail)
		}
		if x.Status == Disabled && x.Remedy == "" {
			t.Errorf("%s: disabled without a remedy", x.ID)
		}
		t.Logf("%-24s %-11s %s", x.ID, x.Status, x.Detail)
	}
}
