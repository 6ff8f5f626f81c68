package render

import (
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// word is a check's status as it is printed.
func word(s probe.CheckStatus) text.Span {
	style := text.Plain
	switch s {
	case probe.Pass:
		style = text.Good
	case probe.Fail:
		style = text.Bad
	case probe.Warn, probe.Unknown:
		style = text.Caution
	case probe.Skipped:
		style = text.Faint
	}
	return text.Span{Text: strings.ToUpper(string(s)), Style: style}
}

// Verdict writes the first line of every answer.
func Verdict(p *text.Printer, v probe.Verdict) {
	p.Para(0, len(v.Status)+1, word(v.Status), text.S(" "+v.Summary))
}

// hang is where the text of a check starts, below its id.
const hang = 11

// check writes what was found, the command that fixes it and where to read on.
func check(p *text.Printer, c probe.Check, verbose bool, seen *[]string) {
	head := []text.Span{word(c.Status), text.S(strings.Repeat(" ", max(hang-2-len(c.Status)-1, 0)) + " "), text.B(c.ID)}
	if c.Subject != "" {
		head = append(head, text.S("  "+c.Subject))
	}
	p.Line(2, head...)
	if c.Detail != "" {
		p.Para(hang, hang, text.S(c.Detail))
	}
	remedy(p, hang, c.Remedy)
	for _, id := range c.Causes {
		if !slices.Contains(*seen, id) {
			*seen = append(*seen, id)
			p.Line(hang, text.F("why: "), text.S("zcprobe explain "+id))
		}
	}
	if verbose {
		evidence(p, hang, c.Evidence)
	}
}

// programs are the words that a remedy which is a command starts with.
var programs = []string{
	"chattr", "echo", "ethtool", "ip", "iptables", "kill", "modprobe", "mount", "nsenter", "prlimit", "setcap", "sysctl",
	"systemctl", "tc", "ulimit", "usermod", "zcprobe",
}

// remedy writes what to do: a command so that it can be pasted, or a sentence
// in which commands stand between backquotes.
func remedy(p *text.Printer, indent int, s string) {
	if s == "" {
		return
	}
	label := text.F("fix: ")
	first, _, _ := strings.Cut(s, " ")
	if slices.Contains(programs, first) && !strings.ContainsAny(s, "`;(") && !strings.HasSuffix(s, ".") {
		p.Command(indent, indent, label, s)
		return
	}
	p.Para(indent, indent+5, append([]text.Span{label}, quoted(s)...)...)
}

// quoted makes what stands between backquotes bold, and keeps the quotes.
func quoted(s string) []text.Span {
	var out []text.Span
	for i, part := range strings.Split(s, "`") {
		switch {
		case part == "":
		case i%2 == 1:
			out = append(out, text.S("`"), text.B(part), text.S("`"))
		default:
			out = append(out, text.S(part))
		}
	}
	return out
}

func evidence(p *text.Printer, indent int, es []probe.Evidence) {
	for _, e := range es {
		p.Para(indent, indent+2, text.F(e.Source+": "), text.F(e.Value))
	}
}
