package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// How much is said.
const (
	Quiet   = iota // the verdict alone
	Normal         // a screen
	Verbose        // everything, with evidence
)

// Probe writes a report: the verdict, what stands in the way and the commands
// that fix it, then the host.
func Probe(p *text.Printer, r *probe.Report, how int) {
	Verdict(p, r.Verdict)
	if how == Quiet {
		return
	}
	blockers(p, r.Blockers, how)
	host(p, r)
	devices(p, r, how)
	recommendations(p, r.Recommendations, how)
	features(p, r, how)
	directories(p, r, how)
	limits(p, &r.Limits, how)
	taps(p, r, how)
	hazards(p, r, how)
	if how == Verbose {
		tiers(p, r.Tracing.Tiers)
	}
	if r.Path != nil {
		p.Blank()
		p.Heading("Path to " + r.Path.Destination)
		Verdict(p, r.Path.Verdict)
		pathBody(p, r.Path, how)
	}
	if how == Normal {
		p.Blank()
		p.Para(0, 0, text.F("More: -v, or -o json for programs. What a name means: zcprobe explain NAME."))
	}
}

// mostBlockers is how many blockers a screen holds.
const mostBlockers = 8

func blockers(p *text.Printer, bs []probe.Check, how int) {
	if len(bs) == 0 {
		return
	}
	p.Blank()
	p.Heading("What stands in the way")
	var seen []string
	for i, b := range bs {
		if how < Verbose && i == mostBlockers {
			p.Line(2, text.S(fmt.Sprintf("and %d more (-v lists them)", len(bs)-i)))
			break
		}
		check(p, b, how == Verbose, &seen)
	}
}

func host(p *text.Printer, r *probe.Report) {
	h := r.Host
	kernel := orUnknown(h.Kernel)
	if h.Arch != "" {
		kernel += " " + h.Arch
	}
	if h.Sandbox != "" {
		kernel += " emulated by " + h.Sandbox
	}
	p.Blank()
	p.Para(0, 2, text.B("Host: "), text.S(fmt.Sprintf("kernel %s; probed by uid %d, seccomp %s, lockdown %s",
		kernel, h.UID, orUnknown(h.Seccomp), orUnknown(h.Lockdown))))
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// mostDevices is how many devices a screen holds.
const mostDevices = 12

func devices(p *text.Printer, r *probe.Report, how int) {
	p.Blank()
	p.Heading("Network devices")
	if len(r.NICs) == 0 {
		p.Line(2, text.S("none could be read"))
		return
	}
	egress := r.EgressDevices()
	nics := slices.Clone(r.NICs)
	slices.SortStableFunc(nics, func(a, b probe.NIC) int { return rank(a, egress) - rank(b, egress) })
	rows := [][]text.Span{}
	for i, n := range nics {
		if how < Verbose && i == mostDevices {
			break
		}
		rows = append(rows, deviceRow(r, n, egress))
	}
	p.Table(2, []string{"name", "driver", "mtu", "link", "sg", "csum4", "csum6", "tso", "uso", ""}, rows)
	if n := len(nics) - len(rows); n > 0 {
		p.Line(2, text.S(fmt.Sprintf("and %d more (-v lists them)", n)))
	}
	if how == Verbose {
		for _, n := range nics {
			deviceFeatures(p, n)
		}
	}
}

// rank puts the devices that payload leaves by first, then those that are up.
func rank(n probe.NIC, egress []string) int {
	switch {
	case slices.Contains(egress, n.Name):
		return 0
	case n.Up:
		return 1
	}
	return 2
}

func deviceRow(r *probe.Report, n probe.NIC, egress []string) []text.Span {
	link := "down"
	if n.Up {
		link = "up"
	}
	driver := n.Driver
	if driver == "" {
		driver = n.Kind
	}
	row := []text.Span{text.S(n.Name), text.S(driver), text.S(fmt.Sprint(n.MTU)), text.S(link)}
	for _, id := range []string{"tx-scatter-gather", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-tcp-segmentation", "tx-udp-segmentation"} {
		row = append(row, onOff(r, "nic."+id, n.Name))
	}
	return append(row, text.F(strings.Join(deviceNotes(n, egress), "; ")))
}

func deviceNotes(n probe.NIC, egress []string) []string {
	var notes []string
	if n.Up && n.Kind != "loopback" && !slices.Contains(egress, n.Name) {
		notes = append(notes, "no route")
	}
	if len(n.Lower) > 0 {
		notes = append(notes, "over "+strings.Join(n.Lower, ", "))
	}
	if n.XDP != "" {
		notes = append(notes, "XDP "+n.XDP)
	}
	if n.Error != "" {
		notes = append(notes, n.Error)
	}
	return notes
}

// onOff is a device feature in one word; the sentence is in the features.
func onOff(r *probe.Report, id, device string) text.Span {
	i := slices.IndexFunc(r.Features, func(f probe.Feature) bool { return f.ID == id && f.Subject == device })
	if i < 0 {
		return text.S("?")
	}
	switch r.Features[i].Status {
	case probe.Supported:
		return text.S("on")
	case probe.Disabled, probe.Unsupported:
		return text.Span{Text: "off", Style: text.Caution}
	}
	return text.S("?")
}

func deviceFeatures(p *text.Printer, n probe.NIC) {
	if len(n.Features) == 0 {
		return
	}
	p.Blank()
	p.Line(2, text.B(n.Name), text.S(fmt.Sprintf("  %s, qdisc %s", n.Kind, orUnknown(n.Qdisc))))
	var names []string
	for name := range n.Features {
		names = append(names, name)
	}
	slices.Sort(names)
	var rows [][]text.Span
	for _, name := range names {
		f := n.Features[name]
		rows = append(rows, []text.Span{text.S(name), state(f.Active, "active"), state(f.Requested, "requested"),
			state(f.Available, "available"), state(f.NeverChanged, "never changed")})
	}
	p.Table(4, nil, rows)
}

func state(on bool, name string) text.Span {
	if on {
		return text.S(name)
	}
	return text.F("-")
}

// featureOrder is the order in which a screen lists the kernel's features;
// those that do not apply are left out.
var featureOrder = []probe.FeatureStatus{probe.Disabled, probe.Denied, probe.UnknownFeature, probe.Unsupported, probe.Supported}

func features(p *text.Printer, r *probe.Report, how int) {
	p.Blank()
	p.Heading("Kernel features")
	if how == Verbose {
		for _, f := range r.Features {
			feature(p, f)
		}
		return
	}
	var rows [][]text.Span
	for _, s := range featureOrder {
		var ids []string
		for _, f := range r.Features {
			switch {
			case f.Subject != "" || f.Status != s: // of a device or directory
			case s == probe.Disabled || s == probe.Denied || s == probe.UnknownFeature:
				rows = append(rows, []text.Span{featureWord(s), text.S(named(f) + ": " + f.Detail)})
			default:
				ids = append(ids, named(f))
			}
		}
		if ids != nil {
			rows = append(rows, []text.Span{featureWord(s), text.S(strings.Join(ids, ", "))})
		}
	}
	if rows == nil {
		p.Line(2, text.S("none could be tested"))
	}
	p.Table(2, nil, rows)
}

func named(f probe.Feature) string {
	if f.Subject != "" {
		return f.ID + " of " + f.Subject
	}
	return f.ID
}

func featureWord(s probe.FeatureStatus) text.Span {
	style := text.Plain
	switch s {
	case probe.Supported:
		style = text.Good
	case probe.Disabled, probe.Denied, probe.UnknownFeature:
		style = text.Caution
	case probe.SkippedFeature, probe.Unsupported:
		style = text.Faint
	}
	return text.Span{Text: string(s), Style: style}
}

func feature(p *text.Printer, f probe.Feature) {
	p.Table(2, nil, [][]text.Span{{featureWord(f.Status), text.B(named(f)), text.S("")}})
	if f.Detail != "" {
		p.Para(4, 4, text.S(f.Detail))
	}
	remedy(p, 4, f.Remedy)
	evidence(p, 4, f.Evidence)
}

// directories writes the features of the directories that were asked for.
func directories(p *text.Printer, r *probe.Report, how int) {
	if how == Verbose {
		return // they are among all features
	}
	var dirs []string
	for _, f := range r.Features {
		if f.Subject != "" && !strings.HasPrefix(f.ID, "nic.") && !slices.Contains(dirs, f.Subject) {
			dirs = append(dirs, f.Subject)
		}
	}
	for _, d := range dirs {
		p.Blank()
		p.Heading("Directory " + d)
		var rows [][]text.Span
		for _, f := range r.Features {
			if f.Subject == d {
				rows = append(rows, []text.Span{featureWord(f.Status), text.S(f.ID), text.S(f.Detail)})
			}
		}
		p.Table(2, nil, rows)
	}
}

func limits(p *text.Printer, l *probe.Limits, how int) {
	p.Blank()
	of := "of this process"
	if l.PID != 0 {
		of = fmt.Sprintf("of process %d", l.PID)
	}
	p.Heading("Limits " + of)
	size := func(name string, v *uint64) string {
		if slices.Contains(l.Unknown, name) {
			return "unknown"
		}
		return quantity.Limit(v)
	}
	memlock := size("memlock_bytes", l.MemlockBytes)
	if l.MemlockExempt {
		memlock += ", but not applied (CAP_IPC_LOCK)"
	} else if slices.Contains(l.Unknown, "memlock_exempt") {
		memlock += ", if it is applied"
	}
	p.Table(2, nil, [][]text.Span{
		{text.F("locked memory"), text.S(fmt.Sprintf("%s; in use %s; the load needs %s", memlock, size("memlock_used_bytes", l.MemlockUsedBytes), quantity.Size(l.MemlockNeededBytes)))},
		{text.F("option memory"), text.S(fmt.Sprintf("%s a socket; the load needs %s", size("optmem_max_bytes", l.OptmemMaxBytes), quantity.Size(l.OptmemNeededBytes)))},
		{text.F("pipes"), text.S("up to " + size("pipe_max_bytes", l.PipeMaxBytes))},
		{text.F("load"), text.S(fmt.Sprintf("%s, %s until a byte is acknowledged, %d connections", quantity.Bandwidth(l.BandwidthBytesPerSec), quantity.Duration(l.RTTNanoseconds), l.Connections))},
	})
	if how == Verbose {
		var seen []string
		for _, c := range l.Checks {
			check(p, c, true, &seen)
		}
	}
}

func taps(p *text.Printer, r *probe.Report, how int) {
	p.Blank()
	var rows [][]text.Span
	for _, t := range r.Taps {
		if how < Verbose && t.CopiesOutgoing != nil && !*t.CopiesOutgoing {
			continue
		}
		rows = append(rows, []text.Span{copies(t.CopiesOutgoing), text.S(tapName(t)), text.S(t.Detail)})
	}
	head := text.B("Packet sockets")
	unread := slices.IndexFunc(r.TapChecks, func(c probe.Check) bool { return c.Status == probe.Unknown && c.Subject == "" })
	switch {
	case rows != nil:
		p.Line(0, head)
		p.Table(2, nil, rows)
	case unread >= 0:
		p.Para(0, 2, head, text.S(": unknown: "+r.TapChecks[unread].Detail))
	case len(r.Taps) > 0:
		p.Line(0, head, text.S(fmt.Sprintf(": %d, none of which copies what is sent (-v lists them)", len(r.Taps))))
	default:
		p.Line(0, head, text.S(": none found"))
	}
}

func copies(c *bool) text.Span {
	switch {
	case c == nil:
		return text.Span{Text: "may copy", Style: text.Caution}
	case *c:
		return text.Span{Text: "copies", Style: text.Bad}
	}
	return text.F("harmless")
}

func tapName(t probe.TapReport) string {
	switch {
	case t.PID != 0 && t.Comm != "":
		return fmt.Sprintf("%s (pid %d)", t.Comm, t.PID)
	case t.PID != 0:
		return fmt.Sprintf("pid %d", t.PID)
	case t.Handler != "":
		return "kernel " + t.Handler
	}
	return "unknown process"
}

func hazards(p *text.Printer, r *probe.Report, how int) {
	if how < Verbose || len(r.Hazards) == 0 {
		return // those that matter are among the blockers
	}
	p.Blank()
	p.Heading("Hazards")
	var seen []string
	for _, h := range r.Hazards {
		check(p, h.Check(), true, &seen)
	}
}
