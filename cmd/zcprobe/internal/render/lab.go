package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// Lab writes what scenarios have shown: a line for each, and then what disagrees.
func Lab(p *text.Printer, r *scenario.Report, how int) {
	Verdict(p, r.Verdict)
	if how == Quiet {
		return
	}
	labTable(p, r.Scenarios)
	labFindings(p, r.Scenarios, "Disagreements", scenario.Wrong)
	labFindings(p, r.Scenarios, "Not known", scenario.Unknown)
	labFindings(p, r.Scenarios, "Differences in the nature of the kernel", scenario.Explained)
	labSkipped(p, r.Scenarios, probe.Unknown, "Could not be set up")
	labSkipped(p, r.Scenarios, probe.Skipped, "Not judged")
	if how == Verbose {
		labReasons(p, r.Scenarios)
	}
	p.Blank()
	p.Para(0, 2, text.S(fmt.Sprintf("Kernel %s, observed by tier %s.", r.Kernel, r.Tier)))
}

func labTable(p *text.Printer, all []scenario.Result) {
	var rows [][]text.Span
	for _, s := range all {
		if s.SentBytes == 0 {
			continue
		}
		share := func(c scenario.Column) text.Span { return text.S(copied(c, s.SentBytes)) }
		rows = append(rows, []text.Span{
			word(s.Status), share(s.Expected), share(s.Predicted), share(s.Reported), share(s.Observed), text.S(s.ID),
		})
	}
	if len(rows) == 0 {
		return
	}
	p.Blank()
	p.Heading("How much was copied")
	p.Table(0, []string{"", "expected", "predicted", "reported", "observed", "scenario"}, rows)
}

// copied is the share of the payload that a layer says was copied.
func copied(c scenario.Column, sent uint64) string {
	switch {
	case c.CopiedBytes == nil:
		return "-"
	case *c.CopiedBytes == 0:
		return "none"
	case *c.CopiedBytes == sent:
		return "all"
	}
	return fmt.Sprintf("%.3g %%", 100*float64(*c.CopiedBytes)/float64(sent))
}

// labFindings writes the findings of a kind, those of the same words together.
func labFindings(p *text.Printer, all []scenario.Result, heading, kind string) {
	var said []string
	ids := map[string][]string{}
	for _, s := range all {
		for _, f := range s.Findings {
			if f.Kind != kind {
				continue
			}
			words := f.Text
			if kind != scenario.Explained {
				words = fmt.Sprintf("%s is %s. %s", f.Layer, map[string]string{scenario.Wrong: "wrong", scenario.Unknown: "not sure"}[kind], f.Text)
			}
			if !slices.Contains(said, words) {
				said = append(said, words)
			}
			ids[words] = append(ids[words], s.ID)
		}
	}
	if len(said) == 0 {
		return
	}
	p.Blank()
	p.Heading(heading)
	for _, words := range said {
		p.Para(2, 4, text.B(strings.Join(ids[words], ", ")), text.S(": "+words))
	}
}

// labSkipped writes what was not run, or is not to be told, what has the same reason
// together. What was run and is not known has findings that say so.
func labSkipped(p *text.Printer, all []scenario.Result, status probe.CheckStatus, heading string) {
	var reasons []string
	ids := map[string][]string{}
	for _, s := range all {
		if s.Status != status || status == probe.Unknown && s.SentBytes > 0 {
			continue
		}
		if !slices.Contains(reasons, s.Reason) {
			reasons = append(reasons, s.Reason)
		}
		ids[s.Reason] = append(ids[s.Reason], s.ID)
	}
	if len(reasons) == 0 {
		return
	}
	p.Blank()
	p.Heading(heading)
	for _, r := range reasons {
		p.Para(2, 4, text.B(strings.Join(ids[r], ", ")), text.S(": "+r))
	}
}

// labReasons writes how the truth of each is known, and what was said.
func labReasons(p *text.Printer, all []scenario.Result) {
	for _, s := range all {
		p.Blank()
		p.Line(0, text.B(s.ID), text.S(" "+string(s.Status)))
		p.Para(2, 4, text.S("set-up: "+strings.Join(s.SetUp, "; ")))
		for _, c := range []struct {
			name   string
			column scenario.Column
		}{{"expected", s.Expected}, {"predicted", s.Predicted}, {"reported", s.Reported}, {"observed", s.Observed}} {
			line := c.name + ": " + copied(c.column, s.SentBytes)
			if len(c.column.Causes) > 0 {
				line += ", " + strings.Join(c.column.Causes, ", ")
			}
			if c.column.Detail != "" {
				line += ": " + c.column.Detail
			}
			p.Para(2, 4, text.S(line))
		}
	}
}

// LabList writes which scenarios there are, and with detail what each makes.
func LabList(p *text.Printer, l *scenario.Listing, how int) {
	var rows [][]text.Span
	for _, s := range l.Scenarios {
		expected := "-"
		if s.Expected != nil {
			if expected = "not copied"; *s.Expected.CopiedBytes > 0 {
				expected = "copied"
			}
		}
		rows = append(rows, []text.Span{text.B(s.ID), text.S(expected), text.S(s.Summary)})
	}
	p.Table(0, nil, rows)
	if how == Quiet {
		return
	}
	if how == Verbose {
		for _, s := range l.Scenarios {
			p.Blank()
			p.Line(0, text.B(s.ID))
			p.Para(2, 4, text.S("set-up: "+strings.Join(s.Makes, "; ")))
			p.Para(2, 4, text.S("traffic: "+s.Sends))
			if s.Expected != nil {
				p.Para(2, 4, text.S("expected: "+strings.Join(s.Expected.Causes, ", ")+"; "+s.Expected.Detail))
			}
		}
	}
	p.Blank()
	p.Para(0, 2, text.S(fmt.Sprintf("To run them: %s. What is made is gone when the process ends.", l.Needs)))
}
