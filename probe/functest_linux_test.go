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

// TestFunctestsKnownTruth holds what every kernel in use does against what is
// seen on this one. What differs between kernels is judged by another sign of
// the same difference, never by a version.
func TestFunctestsKnownTruth(t *testing.T) {
	f := hereFacts(t)
	byID := map[string]Outcome{}
	for _, o := range f.Outcomes {
		byID[o.ID] = o
	}
	seen := func(id, name string) int64 {
		v, ok := byID[id].Seen[name]
		if !ok {
			t.Errorf("%s did not see %s: %+v", id, name, byID[id])
		}
		return v
	}
	for _, id := range []string{"sendfile.tcp", "sendfile.unix", "splice.file-tcp", "vmsplice"} {
		if seen(id, "page_ref") != 1 || seen(id, "equal") != 1 {
			t.Errorf("%s copies: %+v", id, byID[id])
		}
	}
	for _, id := range []string{"msg_zerocopy.tcp4", "msg_zerocopy.udp4"} {
		if seen(id, "completion_code") != 1 || seen(id, "lo") != 0 || seen(id, "completed") != seen(id, "hi")+1 {
			t.Errorf("%s over loopback: %+v", id, byID[id])
		}
	}
	if got := seen("pipe.resize", "bytes"); got != pipeWantedBytes && f.Host.Sysctls["fs.pipe-max-size"] == "1048576" {
		t.Errorf("a pipe has %d bytes", got)
	}
	// Kernels that splice into UDP by MSG_SPLICE_PAGES refuse more than a
	// datagram holds; those with a sendpage of their own return a count.
	oversize, lost := byID["hazard.udp-sendfile-loss"], int64(0)
	if v, counted := oversize.Seen["returned"]; counted {
		lost = v - seen("hazard.udp-sendfile-loss", "received")
	} else if last := oversize.Steps[len(oversize.Steps)-1]; last.Errno != "EMSGSIZE" {
		t.Errorf("oversized sendfile: %+v", oversize)
	}
	if seen("hazard.udp-splice-csum-loss", "received_even") != 1 {
		t.Errorf("the control was lost: %+v", byID["hazard.udp-splice-csum-loss"])
	}
	odd, corked := seen("hazard.udp-splice-csum-loss", "received_odd"), seen("hazard.udp-splice-csum-loss", "received_corked")
	if odd != corked {
		t.Errorf("odd pieces arrive %d, corked ones %d", odd, corked)
	}
	if lost > 0 && odd == 0 {
		t.Error("no kernel has both hazards")
	}
	if seen("sendfile.udp", "page_ref") == 0 && lost == 0 {
		t.Error("only kernels with a sendpage of their own copy here")
	}
	if byID["io_uring.send_zc"].Seen["notified"] == 1 && seen("io_uring.send_zc", "copied") != 1 {
		t.Errorf("SEND_ZC over loopback: %+v", byID["io_uring.send_zc"])
	}
}
