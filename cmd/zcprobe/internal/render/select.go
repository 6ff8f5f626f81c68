package render

import (
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// Select writes what would be chosen, why, what must be kept to, and what lost
// and what would change it.
func Select(p *text.Printer, r selection.Result, how int) {
	p.Para(0, 2, text.Span{Text: r.Backend, Style: text.Good}, text.S("  "+transferWords(r.Transfer)))
	if how == Quiet {
		return
	}
	p.Para(2, 2, text.S(r.Reason))
	if r.ThresholdBytes != nil && *r.ThresholdBytes > 0 {
		p.Para(2, 4, text.S("Below "+quantity.Size(uint64(*r.ThresholdBytes))+": "), text.B(r.Below),
			text.S("; from there on: "), text.B(r.Above))
	}
	if len(r.Fallback) > 0 {
		p.Para(2, 4, text.S("If the kernel refuses it: "+strings.Join(r.Fallback, ", then ")))
	}
	if len(r.Notes) > 0 {
		p.Blank()
		p.Heading("Keep in mind")
		for _, n := range r.Notes {
			p.Para(2, 4, text.S("- "+n.Text))
			if n.Cause != "" {
				p.Line(4, text.F("why: "), text.S("zcprobe explain "+n.Cause))
			}
		}
	}
	losers(p, r.Rejected)
	if how == Verbose {
		decided(p, r.Evidence)
	}
}

func losers(p *text.Printer, rs []selection.Rejected) {
	if len(rs) == 0 {
		return
	}
	p.Blank()
	p.Heading("What lost")
	var remedies, causes []string
	for _, x := range rs {
		p.Line(2, text.B(x.Backend))
		p.Para(4, 4, text.S(x.Reason))
		if x.Remedy != "" && !slices.Contains(remedies, x.Remedy) {
			remedies = append(remedies, x.Remedy)
			remedy(p, 4, x.Remedy)
		}
		for _, id := range x.Causes {
			if !slices.Contains(causes, id) {
				causes = append(causes, id)
				p.Line(4, text.F("why: "), text.S("zcprobe explain "+id))
			}
		}
	}
}

// transferWords says what is sent where.
func transferWords(t selection.Transfer) string {
	s := "from " + t.Source + " to " + t.Protocol
	if t.Destination != "" {
		s = "from " + t.Source + " to " + t.Destination + " over " + t.Protocol
	}
	if t.SizeBytes > 0 {
		return s + ", " + quantity.Size(uint64(t.SizeBytes)) + " a send"
	}
	return s + ", sends of any size"
}

// recommendations writes the best way to make each kind of transfer, a line for
// each of what it goes to.
func recommendations(p *text.Printer, rs []probe.Recommendation, how int) {
	if len(rs) == 0 {
		return
	}
	p.Blank()
	p.Heading("Best way to send")
	var rows [][]text.Span
	if how == Verbose {
		for _, r := range rs {
			rows = append(rows, []text.Span{text.S(r.Source + " to " + r.Protocol), text.S(quantity.Size(r.SizeBytes)), text.B(r.Backend), text.S(r.Reason)})
		}
		p.Table(2, nil, rows)
		evidence(p, 2, measured(rs))
		return
	}
	for _, proto := range protocolsOf(rs) {
		var ways []string
		for _, source := range sourcesOf(rs, proto) {
			ways = append(ways, source+" by "+waysOf(rs, source, proto))
		}
		rows = append(rows, []text.Span{text.F("to " + proto), text.S(strings.Join(ways, "; "))})
	}
	p.Table(2, nil, rows)
}

// measured is what recommendations go by that was measured, on this host or another,
// each once.
func measured(rs []probe.Recommendation) []probe.Evidence {
	var out []probe.Evidence
	for _, r := range rs {
		for _, e := range r.Evidence {
			if strings.HasPrefix(e.Source, "crossover of ") && !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}

func protocolsOf(rs []probe.Recommendation) []string {
	var out []string
	for _, r := range rs {
		if !slices.Contains(out, r.Protocol) {
			out = append(out, r.Protocol)
		}
	}
	return out
}

func sourcesOf(rs []probe.Recommendation, proto string) []string {
	var out []string
	for _, r := range rs {
		if r.Protocol == proto && !slices.Contains(out, r.Source) {
			out = append(out, r.Source)
		}
	}
	return out
}

// waysOf joins sizes that go the same way: "write (64 KiB and more:
// msg_zerocopy)". Where everything is copied it names what is in the way.
func waysOf(rs []probe.Recommendation, source, proto string) string {
	var first, last probe.Recommendation
	var more []string
	for _, r := range rs {
		if r.Source != source || r.Protocol != proto {
			continue
		}
		if first.Backend == "" {
			first = r
		} else if r.Backend != last.Backend {
			more = append(more, quantity.Size(r.SizeBytes)+" and more: "+r.Backend)
		}
		last = r
	}
	if cause := obstacle(last); cause != "" {
		more = append(more, cause)
	}
	if more == nil {
		return first.Backend
	}
	return first.Backend + " (" + strings.Join(more, ", ") + ")"
}

// obstacle returns the cause that a transfer is copied for, where that is not in
// the nature of its protocol or size.
func obstacle(r probe.Recommendation) string {
	if r.Backend != "write" && r.Backend != "writev" && r.Backend != "read_write" {
		return ""
	}
	for _, x := range r.Rejected {
		for _, id := range x.Causes {
			switch id {
			case "api-copy", "read-copy", "non-zc-proto", "small-send":
			default:
				return id
			}
		}
	}
	return ""
}
