package render

import (
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// said is a column, with bytes or, at -1, without.
func said(bytes int64, detail string, causes ...string) scenario.Column {
	c := scenario.Column{Causes: append([]string{}, causes...), Detail: detail}
	if bytes >= 0 {
		c.CopiedBytes = new(uint64(bytes))
	}
	return c
}

// labReport has a result of each kind.
func labReport(hostile string) *scenario.Report {
	const sent = 524288
	result := func(id string, status probe.CheckStatus, expected, predicted, reported, observed scenario.Column, findings ...scenario.Finding) scenario.Result {
		return scenario.Result{ID: id, Summary: "a device " + hostile, Status: status, API: "msg_zerocopy", Protocol: "tcp", SetUp: []string{"a veth pair", "switch something off" + hostile},
			SentBytes: sent, ArrivedBytes: new(uint64(sent)), Expected: expected, Predicted: predicted, Reported: reported, Observed: observed,
			Findings: append([]scenario.Finding{}, findings...), DurationNS: 1234567}
	}
	none := said(0, "")
	skipped := scenario.Result{ID: "netem/sendfile", Status: probe.Skipped, Reason: "the kernel has no netem" + hostile, API: "sendfile", Protocol: "tcp", SetUp: []string{},
		Expected: said(-1, ""), Predicted: said(-1, ""), Reported: said(-1, ""), Observed: said(-1, ""), Findings: []scenario.Finding{}}
	refused := skipped
	refused.ID, refused.Status, refused.Reason = "tun/sendfile", probe.Unknown, "open /dev/net/tun: permission denied"
	return &scenario.Report{
		Schema: scenario.Schema, Verdict: probe.Verdict{Status: probe.Fail, Summary: "1 of 5 scenarios disagree with what is known to be true. 1 could not be judged here."},
		Kernel: "6.18.0", Arch: "amd64", Tier: "fentry", DurationNS: 26e9,
		Scenarios: []scenario.Result{
			result("plain/msg_zerocopy", probe.Pass, said(0, "the pages go to the device as they are"), none, none, none),
			result("no-sg/msg_zerocopy", probe.Pass, said(sent, "skb_segment copies", "no-scatter-gather"), said(sent, "", "no-scatter-gather"), said(393216, ""), said(sent, "", "no-scatter-gather"),
				scenario.Finding{Layer: scenario.LayerTransmit, Kind: scenario.Explained, Text: "Completions say that 393216 bytes were copied, and 524288 were: skb_segment does not tell."}),
			result("veth/sendfile", probe.Fail, none, said(sent, "", "loopback-delivery"), said(-1, "this API has no completions"), none,
				scenario.Finding{Layer: scenario.LayerProbe, Kind: scenario.Wrong, Text: "Predicted are 524288 bytes copied, and 0 are" + hostile + "."}),
			result("udp-corked/msg_zerocopy", probe.Unknown, said(sent, "", "udp-corked"), said(-1, "nobody can know"), said(sent, ""), said(-1, "no flow of its socket"),
				scenario.Finding{Layer: scenario.LayerEBPF, Kind: scenario.Unknown, Text: "The tracer saw nothing of the transfer."}),
			refused, skipped,
		},
	}
}

func TestGoldenLab(t *testing.T) {
	good := &scenario.Report{Schema: scenario.Schema, Verdict: probe.Verdict{Status: probe.Pass, Summary: "All agree."}, Kernel: "6.18.0", Arch: "amd64", Tier: "kprobe",
		Scenarios: labReport("").Scenarios[:1]}
	for _, c := range []struct {
		name string
		r    *scenario.Report
		how  int
		set  func(*text.Printer)
	}{
		{"lab", labReport(""), Normal, nil},
		{"lab-verbose", labReport(""), Verbose, nil},
		{"lab-quiet", labReport(""), Quiet, nil},
		{"lab-good", good, Normal, nil},
		{"lab-hostile-ascii", labReport(fixture.Hostile), Verbose, ascii},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { Lab(p, c.r, c.how) })
			goldenJSON(t, c.name, "lab.v1", c.r)
		})
	}
}

func TestGoldenLabList(t *testing.T) {
	one := func(id, summary string, size, count int, step scenario.Step, truths ...scenario.Truth) scenario.Scenario {
		return scenario.Scenario{ID: id, Summary: summary, SetUp: scenario.Steps{scenario.Wire{}, step},
			Traffic: scenario.Traffic{API: "sendfile", Protocol: "tcp", Size: size, Count: count}, Truths: truths}
	}
	l := &scenario.Listing{Schema: scenario.FileSchema, Kernel: "6.18.0", Needs: "it needs root", Scenarios: []scenario.Sketch{
		{Scenario: one("no-sg/sendfile", "a device without scatter-gather", 65536, 8, scenario.Off{Device: "lab0", Feature: "tx-scatter-gather"},
			scenario.Truth{Copied: scenario.All, Causes: []string{"no-scatter-gather"}, Why: "skb_segment copies all of it"}),
			Sends: "8 times 65536 bytes by sendfile over TCP", Makes: []string{"a veth pair", "switch something off"},
			Expected: new(said(524288, "skb_segment copies all of it", "no-scatter-gather"))},
		{Scenario: one("old/sendfile", "what no kernel does any more", 1, 1, scenario.Tap{Device: "lo", Protocol: 2048, IgnoreOutgoing: true},
			scenario.Truth{Before: "2.6", Copied: scenario.None, Most: 0.5, Causes: []string{}, Why: "it was so"}), Sends: "1 times 1 bytes by sendfile over TCP", Makes: []string{}},
	}}
	for name, how := range map[string]int{"lab-list": Normal, "lab-list-verbose": Verbose, "lab-list-quiet": Quiet} {
		t.Run(name, func(t *testing.T) {
			golden(t, name, nil, func(p *text.Printer) { LabList(p, l, how) })
			goldenJSON(t, name, "scenarios.v1", l)
		})
	}
}
