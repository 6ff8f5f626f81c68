package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
)

// maxDestinations bounds the route lookups that a policy can ask for.
const maxDestinations = 64

// maxProblems bounds what is said about a file that is no policy at all.
const maxProblems = 20

// Parse reads a policy file. The error is an *Error that holds everything that
// is wrong with it; a waiver that has expired by now is wrong too.
func Parse(file string, src []byte, now time.Time) (*Policy, error) {
	r := &reader{ids: IDs()}
	p := &Policy{Source: file}
	if top := r.document(src); top != nil {
		r.policy(p, top, now)
	}
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		if n := len(r.problems) - maxProblems; n > 0 {
			last := r.problems[maxProblems].Pos
			r.problems = append(r.problems[:maxProblems], Problem{last, fmt.Sprintf("and %d more problems", n)})
		}
		return nil, &Error{file, r.problems}
	}
	return p, nil
}

func (r *reader) policy(p *Policy, top *ast.MappingNode, now time.Time) {
	version := ""
	rules := newRuleReader(r, nil)
	fields := []field{{"apiVersion", func(n ast.Node) {
		v, ok := r.str(n, "apiVersion")
		if ok && v != APIVersion {
			r.problem(n, "apiVersion is %s; %q is not understood", APIVersion, v)
		}
		version = cmp.Or(v, "given")
	}}}
	fields = append(fields, rules.fields()...)
	fields = append(fields,
		field{"devices", func(n ast.Node) { r.each(n, "devices", func(n ast.Node) { r.device(p, n) }) }},
		field{"destinations", func(n ast.Node) { r.each(n, "destinations", func(n ast.Node) { r.destination(p, n) }) }},
		field{"limits", func(n ast.Node) { r.limits(&p.Limits, n) }},
		field{"service", func(n ast.Node) { r.service(&p.Service, n) }},
		field{"load", func(n ast.Node) { r.load(p, n) }},
		field{"waivers", func(n ast.Node) { r.each(n, "waivers", func(n ast.Node) { r.waiver(p, n, now) }) }},
	)
	r.mapping(top, "a policy", fields)
	p.Rules = rules.rules
	if version == "" {
		r.at(nodePos(top), "apiVersion is missing; it is %s", APIVersion)
	}
	if len(p.Destinations) > maxDestinations {
		r.at(nodePos(top), "more than %d destinations", maxDestinations)
	}
}

// ruleReader reads require, warn and ignore of one scope.
type ruleReader struct {
	r     *reader
	in    func(id string) bool // the checks the scope can hold; nil is all
	seen  map[string]Pos
	rules []Rule
}

func newRuleReader(r *reader, in func(string) bool) *ruleReader {
	return &ruleReader{r: r, in: in, seen: map[string]Pos{}}
}

func (rr *ruleReader) fields() []field {
	var fs []field
	for _, l := range []Level{Require, WarnAt, Ignore} {
		fs = append(fs, field{string(l), func(n ast.Node) {
			rr.r.each(n, string(l), func(n ast.Node) { rr.rule(l, n) })
		}})
	}
	return fs
}

func (rr *ruleReader) rule(l Level, n ast.Node) {
	s, ok := rr.r.str(n, "a check")
	if !ok {
		return
	}
	if prev, dup := rr.seen[s]; dup {
		rr.r.problem(n, "%s is named twice, first on line %d", s, prev.Line)
		return
	}
	ids := match(s, rr.r.ids)
	switch {
	case len(ids) == 0 && isPattern(s):
		rr.r.problem(n, "no check matches %q", s)
		return
	case len(ids) == 0:
		rr.r.problem(n, "unknown check %q%s", s, DidYouMean(s, names(rr.r.ids)))
		return
	}
	if rr.in != nil {
		if i := slices.IndexFunc(ids, func(id string) bool { return !rr.in(id) }); i >= 0 {
			rr.r.problem(n, "%s cannot be scoped here: it is no check of its kind", ids[i])
			return
		}
	}
	rr.seen[s] = posOf(n.GetToken())
	rr.rules = append(rr.rules, Rule{Pattern: s, Level: l})
}

func (r *reader) device(p *Policy, n ast.Node) {
	d := DeviceScope{Pos: nodePos(n)}
	before := len(r.problems)
	rules := newRuleReader(r, func(id string) bool { return strings.HasPrefix(id, "nic.") })
	r.mapping(n, "a device", append(rules.fields(), field{"match", func(n ast.Node) {
		s, ok := r.name(n, "match")
		if _, err := path.Match(s, ""); ok && err != nil {
			r.problem(n, "match: %q is no pattern", s)
			return
		}
		d.Match = s
	}}))
	d.Rules = rules.rules
	if len(r.problems) > before {
		return
	}
	switch {
	case d.Match == "":
		r.at(d.Pos, "a device needs match, a name or a pattern")
	case len(d.Rules) == 0:
		r.at(d.Pos, "device %s has no rules", d.Match)
	default:
		p.Devices = append(p.Devices, d)
	}
}

func (r *reader) destination(p *Policy, n ast.Node) {
	d := Destination{}
	before := len(r.problems)
	rules := newRuleReader(r, func(id string) bool { return id == "path.zero-copy" })
	r.mapping(n, "a destination", append(rules.fields(),
		field{"to", func(n ast.Node) { d.To, _ = r.name(n, "to") }},
		field{"from", func(n ast.Node) { d.From, _ = r.name(n, "from") }},
	))
	d.Rules = rules.rules
	if len(r.problems) > before {
		return
	}
	switch {
	case d.To == "":
		r.at(nodePos(n), "a destination needs to, HOST or HOST:PORT")
	case slices.ContainsFunc(p.Destinations, func(e Destination) bool { return e.To == d.To && e.From == d.From }):
		r.at(nodePos(n), "destination %s is named twice", d.To)
	default:
		p.Destinations = append(p.Destinations, d)
	}
}

func (r *reader) limits(l *Limits, n ast.Node) {
	limit := func(key string, to **uint64) field {
		return field{key, func(n ast.Node) {
			if v, ok := r.quantity(n, key, quantity.ParseLimit); ok {
				*to = &v
			}
		}}
	}
	r.mapping(n, "limits", []field{
		limit("memlock_bytes", &l.MemlockBytes),
		limit("optmem_max_bytes", &l.OptmemMaxBytes),
		limit("pipe_max_bytes", &l.PipeMaxBytes),
	})
}

func (r *reader) service(s *Service, n ast.Node) {
	r.mapping(n, "service", []field{
		{"uid", func(n ast.Node) {
			// The last id is reserved: (uid_t)-1 means "leave it".
			if v, ok := r.number(n, "uid", 0, 1<<32-2); ok {
				uid := uint32(v)
				s.UID = &uid
			}
		}},
		{"memlock_bytes", func(n ast.Node) {
			if v, ok := r.quantity(n, "memlock_bytes", quantity.ParseLimit); ok {
				s.MemlockBytes = &v
			}
		}},
	})
}

func (r *reader) load(p *Policy, n ast.Node) {
	r.mapping(n, "load", []field{
		{"bandwidth", func(n ast.Node) {
			p.Load.BandwidthBytesPerSec, _ = r.quantity(n, "bandwidth", quantity.ParseBandwidth)
		}},
		{"rtt", func(n ast.Node) {
			s, ok := r.str(n, "rtt")
			d, err := time.ParseDuration(s)
			if ok && (err != nil || d <= 0 || d > time.Hour) {
				r.problem(n, "rtt is a time such as 200us, 1ms or 80ms, not %q", s)
				return
			}
			p.Load.RTT = d
		}},
		{"connections", func(n ast.Node) {
			p.Load.Connections, _ = r.number(n, "connections", 1, 100_000_000)
		}},
	})
}

func (r *reader) waiver(p *Policy, n ast.Node, now time.Time) {
	w := Waiver{Pos: nodePos(n)}
	var expires ast.Node
	before := len(r.problems)
	r.mapping(n, "a waiver", []field{
		{"check", func(n ast.Node) {
			s, ok := r.str(n, "check")
			if _, known := Lookup(s); ok && !known {
				r.problem(n, "unknown check %q%s", s, DidYouMean(s, names(r.ids)))
			}
			w.Check = s
		}},
		{"subject", func(n ast.Node) { w.Subject, _ = r.name(n, "subject") }},
		{"reason", func(n ast.Node) { w.Reason, _ = r.str(n, "reason") }},
		{"expires", func(n ast.Node) {
			s, ok := r.str(n, "expires")
			d, err := time.Parse(time.DateOnly, s)
			if ok && err != nil {
				r.problem(n, "expires is a date, YYYY-MM-DD, not %q", s)
			}
			w.Expires, expires = d.AddDate(0, 0, 1), n
		}},
	})
	if len(r.problems) > before {
		return
	}
	switch {
	case w.Check == "":
		r.at(w.Pos, "a waiver needs check")
	case w.Reason == "":
		r.at(w.Pos, "a waiver needs a reason")
	case expires == nil:
		r.at(w.Pos, "a waiver needs expires, a date")
	case !now.Before(w.Expires):
		r.problem(expires, "the waiver of %s expired on %s", w.Check, w.Expires.AddDate(0, 0, -1).Format(time.DateOnly))
	default:
		p.Waivers = append(p.Waivers, w)
	}
}
