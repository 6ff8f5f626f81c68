package scenario_test

import (
	"testing"

	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// TestRefused compares what the kernel refuses with what is said of it.
func TestRefused(t *testing.T) {
	s := &scenario.Scenario{ID: "optmem/msg_zerocopy", Traffic: scenario.Traffic{API: "msg_zerocopy", Protocol: "tcp", Size: 100, Count: 1}}
	truth := scenario.Truth{Copied: scenario.All, Causes: []string{"api-copy"}, Refused: "optmem-limit", Why: "it is so"}
	copied := func(refused string) scenario.Column {
		return scenario.Column{CopiedBytes: new(uint64(100)), Causes: []string{"api-copy"}, Refused: refused}
	}
	for _, c := range []struct {
		name                string
		predicted, reported string
		want                scenario.Layer // of what is wrong; "" if nothing is
	}{
		{"agreed", "optmem-limit", "optmem-limit", ""},
		{"not foreseen", "", "optmem-limit", scenario.LayerProbe},
		{"foreseen for another", "memlock-limit", "optmem-limit", scenario.LayerProbe},
		{"told for another", "optmem-limit", "memlock-limit", scenario.LayerTransmit},
		{"not told", "optmem-limit", "", scenario.LayerTransmit},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scenario.Judge(s, truth, scenario.Witness{
				Sent: 100, Predicted: copied(c.predicted), Observed: copied(""), Reported: scenario.Column{Causes: []string{}, Refused: c.reported},
			})
			var wrong scenario.Layer
			for _, f := range got.Findings {
				wrong = f.Layer
			}
			if wrong != c.want || (got.Status == probe.Pass) != (c.want == "") {
				t.Errorf("%s, %+v", got.Status, got.Findings)
			}
		})
	}
}

// TestBlind looks away only where a tier is known to see nothing.
func TestBlind(t *testing.T) {
	s := &scenario.Scenario{Traffic: scenario.Traffic{API: "msg_zerocopy", Protocol: "udp", Size: 100, Count: 1},
		Unpredicted: "nobody knows", Unobserved: "it is dark", Blind: []string{"tracepoint"}}
	truth := scenario.Truth{Copied: scenario.All, Causes: []string{"tx-timestamp"}}
	for tier, want := range map[string]probe.CheckStatus{"tracepoint": probe.Pass, "fentry": probe.Fail} {
		got := scenario.Judge(s, truth, scenario.Witness{Sent: 100, Tier: tier, Observed: scenario.Column{CopiedBytes: new(uint64), Causes: []string{}},
			Reported: scenario.Column{CopiedBytes: new(uint64(100))}})
		if got.Status != want {
			t.Errorf("%s: %s, %+v", tier, got.Status, got.Findings)
		}
	}
}

// TestKept holds a truth against what the peer got after the source was changed.
func TestKept(t *testing.T) {
	s := &scenario.Scenario{Traffic: scenario.Traffic{API: "sendfile", Protocol: "unix", Size: 100, Count: 1}, Unpredicted: "nobody knows", Unobserved: "it is dark"}
	for kept, want := range map[uint64]probe.CheckStatus{0: probe.Pass, 100: probe.Fail} {
		got := scenario.Judge(s, scenario.Truth{Copied: scenario.None}, scenario.Witness{Sent: 100, Kept: &kept})
		if got.Status != want {
			t.Errorf("%d bytes kept: %s, %+v", kept, got.Status, got.Findings)
		}
	}
}
