package render

import (
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// kindHeads introduce the kinds of cause.
var kindHeads = []struct {
	kind probe.CauseKind
	head string
}{
	{probe.KindCopy, "Copies: the CPU reads payload and writes it elsewhere"},
	{probe.KindPass, "Passes: the CPU only reads it"},
	{probe.KindHazard, "Hazards: wrong data, not slow data"},
	{probe.KindRefused, "Refused: the kernel refuses the call"},
	{probe.KindNote, "Notes"},
}

// Catalogue lists every id that is ever printed, in a line each.
func Catalogue(p *text.Printer, causes []probe.Cause, checks []policy.ID) {
	for i, k := range kindHeads {
		if i > 0 {
			p.Blank()
		}
		p.Heading(k.head)
		var rows [][]text.Span
		for _, c := range causes {
			if c.Kind == k.kind {
				rows = append(rows, []text.Span{text.B(c.ID), text.S(c.Summary)})
			}
		}
		p.Table(2, nil, rows)
	}
	p.Blank()
	p.Heading("Checks: features of kernel and devices, and conditions (zcprobe preflight)")
	var rows [][]text.Span
	for _, c := range checks {
		rows = append(rows, []text.Span{text.B(c.Name), text.S(c.Summary)})
	}
	p.Table(2, nil, rows)
}

// Cause writes all that is known of a cause.
func Cause(p *text.Printer, c probe.Cause) {
	p.Para(0, 2, text.B(c.ID), text.S(": "+c.Summary))
	for _, part := range []struct{ head, body string }{
		{"What happens", c.Explanation}, {"How it shows", c.Shows}, {"What to do", c.Remedy},
	} {
		if part.body == "" {
			continue
		}
		p.Blank()
		p.Heading(part.head)
		for para := range strings.SplitSeq(part.body, "\n") {
			p.Para(2, 2, quoted(para)...)
		}
	}
	p.Blank()
	kind := string(c.Kind)
	if c.Expected {
		kind += ", expected: no failure of the host"
	}
	rows := [][]text.Span{{text.F("kind"), text.S(kind)}}
	if len(c.Mechanisms) > 0 {
		rows = append(rows, []text.Span{text.F("where"), text.S(strings.Join(mechanisms(c.Mechanisms), ", "))})
	}
	rows = append(rows,
		[]text.Span{text.F("established by"), text.S(established(c))},
		[]text.Span{text.F("kernels"), text.S(c.Kernels)})
	p.Table(2, nil, rows)
}

func mechanisms(ms []probe.Mechanism) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = string(m)
	}
	return out
}

func established(c probe.Cause) string {
	var by []string
	for _, s := range []struct {
		on   bool
		what string
	}{
		{c.Predicted, "prediction (probe, path)"},
		{c.Reported, "what the kernel tells the application"},
		{c.Observed, "tracing"},
	} {
		if s.on {
			by = append(by, s.what)
		}
	}
	if by == nil {
		return "nothing yet"
	}
	return strings.Join(by, ", ")
}

// CheckID writes what is known of a check, and the causes behind a failure.
func CheckID(p *text.Printer, c policy.ID) {
	p.Para(0, 2, text.B(c.Name), text.S(": passes if "+c.Summary))
	for _, id := range c.Causes {
		if k, ok := probe.LookupCause(id); ok {
			p.Blank()
			Cause(p, k)
		}
	}
	p.Blank()
	p.Para(0, 0, text.F("What this host says: "), text.S(fmt.Sprintf("zcprobe preflight -v, or zcprobe preflight -o json (check %s).", c.Name)))
}
