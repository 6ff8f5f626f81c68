package scenario

import (
	"fmt"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// TestJudge holds that each layer is named when it alone is wrong.
func TestJudge(t *testing.T) {
	const sent = 1000
	column := func(bytes int, causes ...string) Column {
		return Column{CopiedBytes: new(uint64(bytes)), Causes: named(causes)}
	}
	silent := Column{Causes: []string{}}
	none, all := column(0), column(sent, "no-tx-csum", "checksum-pass")
	plain := Scenario{ID: "x", Traffic: Traffic{API: "msg_zerocopy", Protocol: "tcp", Size: 100, Count: 10}}
	blind, mute := plain, plain
	blind.Unobserved, mute.Unpredicted = "It cannot.", "It cannot."
	deaf := blind
	deaf.Unpredicted = mute.Unpredicted
	copied := func(causes ...string) Truth { return Truth{Copied: All, Causes: causes, Why: "known"} }
	for _, c := range []struct {
		name   string
		s      Scenario
		t      Truth
		w      Witness
		status probe.CheckStatus
		want   string
	}{
		{"agree", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: none}, probe.Pass, "[]"},
		{"nothing reported", plain, Truth{}, Witness{Predicted: none, Reported: silent, Observed: none}, probe.Pass, "[]"},
		{"agree on causes", plain, copied("no-tx-csum", "checksum-pass"), Witness{Predicted: all, Reported: column(sent), Observed: all}, probe.Pass, "[]"},
		{"prediction", plain, Truth{}, Witness{Predicted: all, Reported: none, Observed: none}, probe.Fail, "[probe wrong]"},
		{"observation", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: all}, probe.Fail, "[ebpf wrong]"},
		{"observation of causes", plain, copied("ulp"), Witness{Predicted: column(sent, "ulp"), Reported: column(sent), Observed: column(sent)}, probe.Fail, "[ebpf wrong]"},
		{"report", plain, Truth{}, Witness{Predicted: none, Reported: column(sent), Observed: none}, probe.Fail, "[transmit wrong]"},
		{"the truth itself", plain, Truth{}, Witness{Predicted: all, Reported: column(sent), Observed: all}, probe.Fail,
			"[truth wrong probe wrong ebpf wrong transmit wrong]"},
		{"the truth of what cannot be predicted", mute, Truth{}, Witness{Reported: column(sent), Observed: all}, probe.Fail, "[truth wrong ebpf wrong transmit wrong]"},
		{"the truth of what cannot be seen", blind, Truth{}, Witness{Predicted: all, Reported: column(sent), Observed: silent}, probe.Fail, "[truth wrong probe wrong transmit wrong]"},
		{"within what differs between builds", plain, Truth{Copied: 0.1, Most: 0.2}, Witness{Predicted: column(100), Reported: column(150), Observed: column(200)}, probe.Pass, "[]"},
		{"more than differs between builds", plain, Truth{Copied: 0.1, Most: 0.2}, Witness{Predicted: column(89), Reported: column(150), Observed: column(211)}, probe.Fail, "[probe wrong ebpf wrong]"},
		{"report that is known to say less", plain, copied("no-scatter-gather"),
			Witness{Predicted: column(sent, "no-scatter-gather"), Reported: column(700), Observed: column(sent, "no-scatter-gather")}, probe.Pass, "[transmit explained]"},
		{"report that may say less, but says more", plain, Truth{Causes: []string{"no-scatter-gather"}},
			Witness{Predicted: column(0, "no-scatter-gather"), Reported: column(700), Observed: column(0, "no-scatter-gather")}, probe.Fail, "[transmit wrong]"},
		{"no prediction", plain, Truth{}, Witness{Predicted: silent, Reported: none, Observed: none}, probe.Unknown, "[probe unknown]"},
		{"none to be had", mute, Truth{}, Witness{Predicted: all, Reported: none, Observed: none}, probe.Pass, "[]"},
		{"no observation", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: silent}, probe.Unknown, "[ebpf unknown]"},
		{"none that can be had", blind, Truth{}, Witness{Predicted: none, Reported: none, Observed: silent}, probe.Pass, "[]"},
		{"nobody says anything", deaf, Truth{}, Witness{Predicted: none, Reported: silent, Observed: none}, probe.Skipped, "[]"},
		{"completions alone", deaf, Truth{}, Witness{Predicted: silent, Reported: none, Observed: silent}, probe.Pass, "[]"},
		{"the peer alone", deaf, Truth{}, Witness{Predicted: silent, Reported: silent, Observed: silent, Kept: new(uint64)}, probe.Pass, "[]"},
		{"the refusal alone", deaf, Truth{Refused: "mptcp"}, Witness{Predicted: silent, Reported: Column{Refused: "mptcp"}, Observed: silent}, probe.Pass, "[]"},
		{"nobody, and bytes too many", deaf, Truth{}, Witness{Reported: silent, Arrived: new(uint64(1001))}, probe.Fail, "[lab wrong]"},
		{"an observation with losses", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: none, Lost: 1}, probe.Unknown, "[ebpf unknown]"},
		{"losses of what cannot see", blind, Truth{}, Witness{Predicted: none, Reported: none, Observed: silent, Lost: 1}, probe.Pass, "[]"},
		{"half of an observation", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: none, UnknownBytes: 11}, probe.Unknown, "[ebpf unknown]"},
		{"one in a hundred", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: column(10)}, probe.Pass, "[]"},
		{"more", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: column(11)}, probe.Fail, "[ebpf wrong]"},
		{"more, and sent again", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: column(11), ResentBytes: 1}, probe.Pass, "[]"},
		{"passes that are not predicted", plain, copied("ulp", "checksum-pass"),
			Witness{Predicted: column(sent, "ulp"), Reported: column(sent), Observed: column(sent, "ulp", "checksum-pass"), PassesUnknown: true}, probe.Pass, "[]"},
		{"lost on the way", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: none, Arrived: new(uint64(999))}, probe.Unknown, "[lab unknown]"},
		{"more than was sent", plain, Truth{}, Witness{Predicted: none, Reported: none, Observed: none, Arrived: new(uint64(1001))}, probe.Fail, "[lab wrong]"},
		{"wrong beats unknown", plain, Truth{}, Witness{Predicted: silent, Reported: none, Observed: all}, probe.Fail, "[probe unknown ebpf wrong]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.w.Sent = sent
			r := Judge(&c.s, c.t, c.w)
			got := []string{}
			for _, f := range r.Findings {
				got = append(got, fmt.Sprintf("%s %s", f.Layer, f.Kind))
			}
			if r.Status != c.status || fmt.Sprint(got) != c.want {
				t.Errorf("%s %v, want %s %s: %+v", r.Status, got, c.status, c.want, r.Findings)
			}
			if r.Status == probe.Unknown && r.Reason == "" {
				t.Error("unknown without a reason")
			}
		})
	}
}

// TestCatalogue holds what every scenario must keep.
func TestCatalogue(t *testing.T) {
	ids := map[string]bool{}
	for _, s := range Catalogue() {
		t.Run(s.ID, func(t *testing.T) {
			if ids[s.ID] {
				t.Error("is there twice")
			}
			ids[s.ID] = true
			if len(s.SetUp) == 0 || s.Summary == "" || s.Traffic.Bytes() == 0 || len(s.Truths) == 0 {
				t.Errorf("is incomplete: %+v", s)
			}
			for _, step := range s.SetUp {
				if step.String() == "" {
					t.Errorf("%#v says nothing", step)
				}
			}
			known := 0
			for _, kernel := range []string{"5.10.0", "5.15.0", "6.1.0-50-amd64", "6.6", "6.12.107+deb13", "6.18.44-fc", "7.3.4"} {
				holds := 0
				k, err := parseVersion(kernel)
				if err != nil {
					t.Fatal(err)
				}
				for _, truth := range s.Truths {
					in, err := truth.holds(k)
					if err != nil {
						t.Fatal(err)
					}
					if in {
						holds++
					}
				}
				if holds > 1 {
					t.Errorf("has %d truths on %s", holds, kernel)
				}
				known += holds
			}
			if known == 0 {
				t.Error("has no truth on any kernel")
			}
			for _, truth := range s.Truths {
				if truth.Why == "" || truth.Copied < 0 || truth.Copied > 1 {
					t.Errorf("%+v", truth)
				}
				for _, id := range truth.Causes {
					if _, ok := probe.LookupCause(id); !ok {
						t.Errorf("no cause is called %s", id)
					}
				}
			}
		})
	}
}

func TestSelect(t *testing.T) {
	all := []Scenario{{ID: "a/write"}, {ID: "a/splice"}, {ID: "ab/write"}}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{nil, "[a/write a/splice ab/write]"},
		{[]string{"a"}, "[a/write a/splice]"},
		{[]string{"a/"}, "[a/write a/splice]"},
		{[]string{"ab/write", "a/splice"}, "[a/splice ab/write]"},
		{[]string{"a", "a/write"}, "[a/write a/splice]"},
	} {
		got, err := Select(all, c.names)
		var ids []string
		for _, s := range got {
			ids = append(ids, s.ID)
		}
		if err != nil || fmt.Sprint(ids) != c.want {
			t.Errorf("%q: %v %v", c.names, ids, err)
		}
	}
	for _, name := range []string{"b", "", "a/w"} {
		if _, err := Select(all, []string{name}); err == nil {
			t.Errorf("%q is a scenario", name)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		in   []probe.CheckStatus
		want probe.CheckStatus
	}{
		{nil, probe.Unknown},
		{[]probe.CheckStatus{probe.Skipped}, probe.Unknown},
		{[]probe.CheckStatus{probe.Pass, probe.Skipped}, probe.Pass},
		{[]probe.CheckStatus{probe.Pass, probe.Unknown}, probe.Unknown},
		{[]probe.CheckStatus{probe.Unknown, probe.Fail, probe.Pass}, probe.Fail},
	} {
		var results []Result
		for _, s := range c.in {
			results = append(results, Result{Status: s})
		}
		if v := verdict(results); v.Status != c.want || v.Summary == "" {
			t.Errorf("%v: %+v", c.in, v)
		}
	}
}
