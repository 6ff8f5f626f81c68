package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// Path writes the way to a destination: the verdict, what to change, the
// picture, the devices, the table of calls and where our view ends.
func Path(p *text.Printer, r *probe.PathReport, how int) {
	Verdict(p, r.Verdict)
	if how == Quiet {
		return
	}
	if len(r.Blockers) > 0 {
		p.Blank()
		p.Heading("What stands in the way")
		for _, b := range r.Blockers {
			head := []text.Span{text.B(b.ID)}
			if b.Device != "" {
				head = append(head, text.S("  "+b.Device+inNetNS(b.NetNS)))
			}
			p.Line(2, head...)
			p.Para(4, 4, text.S(b.Detail))
			remedy(p, 4, b.Remedy)
			p.Line(4, text.F("why: "), text.S("zcprobe explain "+b.ID))
		}
	}
	p.Blank()
	to := "To " + r.Destination
	if r.Local != "" {
		to += ", from " + r.Local
	}
	p.Para(0, 2, text.S(to))
	pathBody(p, r, how)
}

func inNetNS(ns string) string {
	if ns == "" {
		return ""
	}
	return " (namespace " + ns + ")"
}

func pathBody(p *text.Printer, r *probe.PathReport, how int) {
	figure(p, r)
	hops(p, r)
	apis(p, r, how)
	if len(r.Limits) > 0 {
		p.Blank()
		p.Heading("Where this view ends")
		for _, l := range r.Limits {
			p.Para(2, 4, text.S("- "+l))
		}
	}
	if how == Verbose && len(r.Evidence) > 0 {
		p.Blank()
		p.Heading("Evidence")
		evidence(p, 2, r.Evidence)
	}
}

func hops(p *text.Printer, r *probe.PathReport) {
	if len(r.Hops) == 0 {
		return
	}
	p.Blank()
	p.Heading("Devices")
	var rows [][]text.Span
	for _, h := range r.Hops {
		kind := h.Kind
		if h.Driver != "" && h.Driver != h.Kind {
			kind = h.Driver
		}
		rows = append(rows, []text.Span{text.S(h.Device), text.S(kind), text.S(fmt.Sprint(h.MTU)),
			tri(h.ScatterGather), tri(h.TxChecksum), tri(h.TSO), tri(h.USO),
			text.F(strings.TrimSpace(strings.TrimPrefix(inNetNS(h.NetNS), " ") + " " + h.Detail))})
	}
	p.Table(2, []string{"device", "kind", "mtu", "sg", "csum", "tso", "uso", ""}, rows)
}

func tri(b *bool) text.Span {
	switch {
	case b == nil:
		return text.S("?")
	case *b:
		return text.S("on")
	}
	return text.Span{Text: "off", Style: text.Caution}
}

// apis writes the table of predictions. Rows that differ in size alone are one
// row. Datagrams are judged at and above the MTU, so there the size is the point.
func apis(p *text.Printer, r *probe.PathReport, how int) {
	for _, proto := range []string{"tcp", "udp"} {
		rows := apiRows(r.APIs, proto, how == Verbose)
		if len(rows) == 0 {
			continue
		}
		p.Blank()
		p.Heading("Calls over " + strings.ToUpper(proto))
		p.Table(2, []string{"call", "source", "size", "copies", "zero-copy", "cause"}, rows)
	}
}

func apiRows(all []probe.APIReport, proto string, verbose bool) [][]text.Span {
	var rows [][]text.Span
	for _, g := range apiGroups(all, proto, verbose) {
		why := causes(g.Causes)
		switch {
		case unsupported(g.APIReport):
			why = "not supported: " + g.Detail
		case g.ZeroCopy == probe.ZeroCopyUnknown || verbose:
			why = strings.TrimPrefix(why+": "+g.Detail, ": ")
		}
		rows = append(rows, []text.Span{text.S(g.API), text.S(g.Source), text.S(sizes(g.sizes)),
			text.S(count(g.Copies)), zeroCopy(g.ZeroCopy), text.S(why)})
	}
	return rows
}

// apiGroup is one row of the table.
type apiGroup struct {
	probe.APIReport
	sizes []uint64
}

func apiGroups(all []probe.APIReport, proto string, verbose bool) []apiGroup {
	var groups []apiGroup
	for _, a := range all {
		if a.Protocol != proto {
			continue
		}
		i := -1
		if !verbose {
			i = slices.IndexFunc(groups, func(g apiGroup) bool { return joins(g, a) })
		}
		switch {
		case i < 0:
			groups = append(groups, apiGroup{a, []uint64{a.SizeBytes}})
		case proto == "tcp":
			groups[i].sizes = append(groups[i].sizes, a.SizeBytes)
		default:
			groups[i].API, groups[i].Source = "every call", "any"
		}
	}
	return groups
}

// joins reports whether a prediction adds nothing to a row but a size, or, for
// datagrams of a size that the kernel refuses, a call.
func joins(g apiGroup, a probe.APIReport) bool {
	if a.Protocol == "tcp" {
		return g.API == a.API && g.Source == a.Source && sameAnswer(g.APIReport, a)
	}
	return unsupported(a) && unsupported(g.APIReport) && g.SizeBytes == a.SizeBytes && g.Detail == a.Detail
}

func unsupported(a probe.APIReport) bool { return a.Supported != nil && !*a.Supported }

func sameAnswer(a, b probe.APIReport) bool {
	return count(a.Copies) == count(b.Copies) && count(a.ChecksumPasses) == count(b.ChecksumPasses) && a.ZeroCopy == b.ZeroCopy &&
		causes(a.Causes) == causes(b.Causes) && (a.Supported == nil) == (b.Supported == nil) &&
		(a.Supported == nil || *a.Supported == *b.Supported)
}

func sizes(s []uint64) string {
	if len(s) == 1 {
		return size(s[0])
	}
	return size(s[0]) + ".." + size(s[len(s)-1])
}

// size writes a number of bytes in one short word, exactly.
func size(n uint64) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%dK", n/1024)
	}
	return fmt.Sprint(n)
}

func count(n *int) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}

func zeroCopy(z probe.ZeroCopy) text.Span {
	switch z {
	case probe.ZeroCopyYes:
		return text.Span{Text: "yes", Style: text.Good}
	case probe.ZeroCopyNo:
		return text.Span{Text: "no", Style: text.Plain}
	}
	return text.Span{Text: string(z), Style: text.Caution}
}

// causes names what copies or reads the payload, and where.
func causes(cs []probe.PathCause) string {
	var out []string
	for _, c := range cs {
		s := c.ID
		if c.Device != "" {
			s += " (" + c.Device + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
