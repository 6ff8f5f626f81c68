package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// Freeze writes a policy that the host of in passes as it is: what works is
// required, what a server would want warns, and the rest is ignored, each with
// the reason. service describes the process that was judged.
func Freeze(in Input, service Service, title string) string {
	res := Apply(&Policy{Source: "today", Rules: []Rule{{Pattern: "*", Level: Require}}}, in)
	w := &writer{}
	w.comment(0, title)
	r := in.Report
	w.comment(0, fmt.Sprintf("Kernel %s on %s, probed by uid %d.", r.Host.Kernel, r.Host.Arch, r.Host.UID))
	w.line(0, "apiVersion: "+APIVersion)
	w.rules(frozenRules(res.Checks))
	w.devices(res.Checks, egress(in))
	w.destinations(res.Checks, in.Paths)
	w.limits(&r.Limits)
	w.service(service)
	w.load(&r.Limits)
	return w.b.String()
}

// frozen is a check as it goes into the policy.
type frozen struct {
	id, why string
	level   Level
}

// frozenRules turns the outcome of every check without a scope into a rule.
func frozenRules(checks []Check) []frozen {
	var out []frozen
	for _, c := range checks {
		if strings.HasPrefix(c.ID, "nic.") || c.ID == "path.zero-copy" {
			continue
		}
		f := frozen{c.ID, "", Require}
		if c.Status != probe.Pass {
			f.level, f.why = lesser(c.ID, c.Status), c.Detail
		}
		if i := slices.IndexFunc(out, func(o frozen) bool { return o.id == c.ID }); i >= 0 {
			// One id with several subjects: the least of them counts.
			if f.level.strictness() < out[i].level.strictness() {
				out[i] = f
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

// lesser is the level of a check that does not pass today.
func lesser(id string, s probe.CheckStatus) Level {
	if s == probe.Skipped {
		return Ignore
	}
	p := &Policy{}
	for _, pattern := range slices.Concat(builtinRequire, builtinWarn) {
		p.Rules = append(p.Rules, Rule{Pattern: pattern, Level: WarnAt})
	}
	if _, ok := level(p.Rules, id); ok {
		return WarnAt
	}
	return Ignore
}

// writer writes YAML. Comments say why; what came from the host is made
// harmless in both.
type writer struct{ b strings.Builder }

func (w *writer) line(indent int, s string) {
	w.b.WriteString(strings.Repeat(" ", indent) + s + "\n")
}

// comment writes s in lines of at most 80 columns.
func (w *writer) comment(indent int, s string) {
	line := "#"
	for word := range strings.FieldsSeq(text.Escape(s, true)) {
		if len(line) > 1 && indent+len(line)+1+len(word) > 80 {
			w.line(indent, line)
			line = "#"
		}
		line += " " + word
	}
	w.line(indent, line)
}

func (w *writer) rules(rules []frozen) {
	for _, l := range []struct {
		level Level
		note  string
	}{
		{Require, "What works here today."},
		{WarnAt, "What does not, and would be better."},
		{Ignore, "What does not matter to a server that sends over TCP."},
	} {
		var here []frozen
		for _, f := range rules {
			if f.level == l.level {
				here = append(here, f)
			}
		}
		if len(here) == 0 {
			continue
		}
		w.line(0, "")
		w.comment(0, l.note)
		w.line(0, string(l.level)+":")
		for _, f := range here {
			if f.why != "" {
				w.comment(2, f.why)
			}
			w.line(2, "- "+f.id)
		}
	}
}

func (w *writer) devices(checks []Check, egress []string) {
	first := true
	for _, dev := range egress {
		var rules []frozen
		for _, c := range checks {
			if c.Subject != dev || !strings.HasPrefix(c.ID, "nic.") {
				continue
			}
			f := frozen{c.ID, "", Require}
			if c.Status != probe.Pass {
				f.level, f.why = lesser(c.ID, c.Status), c.Detail
			}
			rules = append(rules, f)
		}
		if rules == nil {
			continue
		}
		if first {
			w.line(0, "")
			w.line(0, "devices:")
			first = false
		}
		w.line(2, "- match: "+quote(quoteMeta(dev)))
		w.scoped(rules)
	}
}

// scoped writes the rules of a device or destination.
func (w *writer) scoped(rules []frozen) {
	slices.SortStableFunc(rules, func(a, b frozen) int { return cmp.Compare(b.level.strictness(), a.level.strictness()) })
	var last Level
	for _, f := range rules {
		if f.level != last {
			w.line(4, string(f.level)+":")
			last = f.level
		}
		if f.why != "" {
			w.comment(6, f.why)
		}
		w.line(6, "- "+f.id)
	}
}

func (w *writer) destinations(checks []Check, paths []Path) {
	if len(paths) == 0 {
		return
	}
	w.line(0, "")
	w.line(0, "destinations:")
	for _, p := range paths {
		w.line(2, "- to: "+quote(p.To))
		if p.From != "" {
			w.line(4, "from: "+quote(p.From))
		}
		f := frozen{"path.zero-copy", "", Require}
		for _, c := range checks {
			if c.ID == f.id && c.Subject == p.To && c.Status != probe.Pass {
				f.level, f.why = WarnAt, c.Detail
			}
		}
		w.scoped([]frozen{f})
	}
}

func (w *writer) limits(l *probe.Limits) {
	var lines []string
	for _, x := range []struct {
		key string
		val *uint64
	}{
		{"memlock_bytes", l.MemlockBytes}, {"optmem_max_bytes", l.OptmemMaxBytes}, {"pipe_max_bytes", l.PipeMaxBytes},
	} {
		switch {
		case slices.Contains(l.Unknown, x.key):
		case x.val == nil:
			lines = append(lines, x.key+": unlimited")
		default:
			lines = append(lines, fmt.Sprintf("%s: %d # %s", x.key, *x.val, quantity.Size(*x.val)))
		}
	}
	if lines == nil {
		return
	}
	w.line(0, "")
	w.comment(0, "The least that the limits may be: what they are today.")
	w.line(0, "limits:")
	for _, s := range lines {
		w.line(2, s)
	}
}

func (w *writer) service(s Service) {
	if s.UID == nil && s.MemlockBytes == nil {
		return
	}
	w.line(0, "")
	w.comment(0, "The process that the limits are judged for.")
	w.line(0, "service:")
	if s.UID != nil {
		w.line(2, fmt.Sprintf("uid: %d", *s.UID))
	}
	switch {
	case s.MemlockBytes == nil:
	case *s.MemlockBytes == quantity.Unlimited:
		w.line(2, "memlock_bytes: unlimited")
	default:
		w.line(2, fmt.Sprintf("memlock_bytes: %d", *s.MemlockBytes))
	}
}

func (w *writer) load(l *probe.Limits) {
	if l.BandwidthBytesPerSec == 0 || l.RTTNanoseconds == 0 || l.Connections == 0 {
		return // a report that was judged against no load
	}
	w.line(0, "")
	w.comment(0, "The traffic that the limits are judged against; bandwidth of all connections together, in bytes per second.")
	w.line(0, "load:")
	w.line(2, fmt.Sprintf("bandwidth: %d # %s", l.BandwidthBytesPerSec, quantity.Bandwidth(l.BandwidthBytesPerSec)))
	w.line(2, "rtt: "+time.Duration(l.RTTNanoseconds).String())
	w.line(2, fmt.Sprintf("connections: %d", l.Connections))
}

// quote writes a YAML string. The escapes of a Go string in ASCII are escapes
// of YAML's double-quoted style with the same meaning; a byte that is not
// UTF-8 became U+FFFD on the way.
func quote(s string) string { return strconv.QuoteToASCII(strings.ToValidUTF8(s, "\ufffd")) }
