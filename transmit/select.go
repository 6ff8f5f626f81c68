package transmit

import (
	"fmt"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// SelectOptions are what decides beside the conditions and the transfer.
type SelectOptions struct {
	// Calibration replaces the default crossovers; nil: there is none.
	Calibration *Calibration

	// Env and Force ask for a backend, "" for none. Env is the operator's word
	// ([Environment]) and comes before Force, the program's. What cannot work, or
	// would send wrong data, is not obeyed: the plan lists it as rejected. Write,
	// writev and read_write mean the one of them that goes with the source.
	Env, Force Backend

	// CallBytes is the most that the sender hands to the kernel in one call, for
	// the limit of locked memory; 0 is 1 MiB. A [Sender] makes several calls of
	// what does not fit the socket's buffer or the limit.
	CallBytes int64
}

// Select chooses the backend for a transfer. It is a pure function: the same
// input gives the same plan, on any machine. It never fails: where nothing is
// known it plans what works, and says what it does not know.
func Select(c Conditions, t Transfer, o SelectOptions) Plan {
	return selectBy(rules, c, t, o)
}

func selectBy(rs []rule, c Conditions, t Transfer, o SelectOptions) Plan {
	s := &selector{c: &c, t: t, o: o, v6: c.ipv6(t), order: candidates(t)}
	for _, b := range s.order {
		s.views = append(s.views, s.judge(rs, b))
	}
	s.preferSplice()
	p := s.automatic()
	if b, why := s.forced(&p); b != "" {
		p = Plan{Backend: b, Reason: why, Below: b, Above: b}
		p.Evidence = append(p.Evidence, s.asked()...)
	}
	s.complete(&p)
	return p
}

// Weights of what can be said against a backend.
const (
	isDoubt  = iota // it is not known to work, or asks something of the caller
	isSmall         // the size of this send alone decides against it
	isDearer        // another is better
	isOut           // it would fail, or send wrong data
)

// An objection is what a rule has against a backend.
type objection struct {
	weight int
	reason string
	causes []string
	remedy string
}

// A rule says what is to be said against a backend for the transfer of s; the
// zero objection has no reason.
type rule func(s *selector, b Backend) objection

// view is a backend as the rules see it.
type view struct {
	backend  Backend
	against  *objection // the gravest, the first of those; nil: nothing
	notes    []Note
	evidence []probe.Evidence
}

func (v *view) weight() int {
	if v.against == nil {
		return isDoubt
	}
	return v.against.weight
}

type selector struct {
	c     *Conditions
	t     Transfer
	o     SelectOptions
	v6    bool
	order []Backend // from the best on; the last always works
	views []view    // in that order
	now   *view     // the one that is being judged
}

func (s *selector) judge(rs []rule, b Backend) view {
	v := view{backend: b}
	s.now = &v
	for _, r := range rs {
		o := r(s, b)
		switch {
		case o.reason == "":
		case o.weight == isDoubt:
			n := Note{Text: o.reason}
			if len(o.causes) > 0 {
				n.Cause = o.causes[0]
			}
			v.notes = append(v.notes, n)
		case o.weight > v.weight():
			v.against = &o
		}
	}
	s.now = nil
	return v
}

// saw notes what the backend that is being judged was judged by.
func (s *selector) saw(source, value string) {
	s.now.evidence = append(s.now.evidence, probe.Evidence{Source: source, Value: value})
}

func (s *selector) view(b Backend) *view {
	i := slices.Index(s.order, b)
	if i < 0 {
		return nil
	}
	return &s.views[i]
}

// best returns the first backend against which nothing is said, except those
// that are passed over; the last one if there is none.
func (s *selector) best(pass func(*view) bool) *view {
	for i := range s.views {
		if v := &s.views[i]; v.weight() == isDoubt && (pass == nil || !pass(v)) {
			return v
		}
	}
	return &s.views[len(s.views)-1]
}

// automatic is the plan of the rules.
func (s *selector) automatic() Plan {
	best := s.best(nil).backend
	p := Plan{Backend: best, Below: best, Above: best, ThresholdBytes: thresholdOf(best)}
	for i := range s.views {
		lent := &s.views[i]
		if !lent.backend.Notifies() || lent.weight() > isSmall {
			continue
		}
		c, _ := s.o.crossover(lent.backend, s.t.Cache)
		p.ThresholdBytes, p.Above = c.at(s.t.Goal), lent.backend
		p.Below = s.best(func(v *view) bool { return v.backend == lent.backend }).backend
		break
	}
	p.Reason = s.why(&p)
	return p
}

// thresholdOf is the threshold of a backend that no size decides about.
func thresholdOf(b Backend) int64 {
	switch b {
	case Write, Writev, ReadWrite, MmapWrite:
		return Never
	}
	return 0
}

// forced returns the backend that was asked for, if it can be had, and why it
// is taken.
func (s *selector) forced(p *Plan) (Backend, string) {
	for _, ask := range s.wishes() {
		b := s.sameKind(ask.backend)
		v := s.view(b)
		switch {
		case v == nil:
			p.Rejected = append(p.Rejected, Rejected{Backend: ask.backend, Causes: []string{},
				Reason: fmt.Sprintf("%s, but it does not go %s.", ask.how, s.kind())})
		case v.weight() == isOut:
			v.against.reason = fmt.Sprintf("%s, but not obeyed: %s", ask.how, v.against.reason)
		case b != ask.backend:
			return b, fmt.Sprintf("%s; %s that is %s.", ask.how, s.kind(), b)
		default:
			return b, ask.how + "."
		}
	}
	return "", ""
}

// A wish is a backend that someone asked for.
type wish struct {
	backend Backend
	source  string
	how     string
}

func (s *selector) wishes() []wish {
	var out []wish
	if b := s.o.Env; b != "" {
		out = append(out, wish{b, EnvBackend, fmt.Sprintf("%s=%s is set", EnvBackend, b)})
	}
	if b := s.o.Force; b != "" && b != s.o.Env {
		out = append(out, wish{b, "asked for", fmt.Sprintf("%s was asked for", b)})
	}
	return out
}

func (s *selector) asked() []probe.Evidence {
	var out []probe.Evidence
	for _, w := range s.wishes() {
		out = append(out, probe.Evidence{Source: w.source, Value: string(w.backend)})
	}
	return out
}

// sameKind returns the copying loop that goes with the source in place of
// another one.
func (s *selector) sameKind(b Backend) Backend {
	switch b {
	case Write, Writev, ReadWrite:
		if s.view(b) == nil {
			return s.order[len(s.order)-1]
		}
	}
	return b
}

// complete fills in what follows from the choice.
func (s *selector) complete(p *Plan) {
	for i := range s.views {
		v := &s.views[i]
		if v.backend == p.Backend {
			p.Notes = append(p.Notes, v.notes...)
			continue
		}
		p.Rejected = append(p.Rejected, s.lost(v, p))
		if v.weight() == isDoubt && (!v.backend.Notifies() || p.Backend == IoUringSendZC) && p.Backend != s.order[len(s.order)-1] {
			p.Fallback = append(p.Fallback, v.backend)
		}
	}
	last := s.order[len(s.order)-1]
	if len(p.Fallback) == 0 && !isLoop(p.Backend) {
		p.Fallback = append(p.Fallback, last)
	}
	for i := range s.views {
		if s.views[i].backend != p.Backend {
			continue
		}
		p.Evidence = append(p.Evidence, s.views[i].evidence...)
	}
	for i := range s.views {
		for _, e := range s.views[i].evidence {
			if s.views[i].against != nil && !slices.Contains(p.Evidence, e) {
				p.Evidence = append(p.Evidence, e)
			}
		}
	}
	p.PipeBytes = s.pipeBytes()
	p.settle()
}

func isLoop(b Backend) bool { return b == Write || b == Writev || b == ReadWrite }

// settle makes empty lists of what is not there, so that a plan prints alike.
func (p *Plan) settle() {
	if p.Fallback == nil {
		p.Fallback = []Backend{}
	}
	if p.Notes == nil {
		p.Notes = []Note{}
	}
	if p.Evidence == nil {
		p.Evidence = []probe.Evidence{}
	}
	if p.Rejected == nil {
		p.Rejected = []Rejected{}
	}
}

// pipeWant is the pipe that splicing at speed takes, in bytes: as large as
// fs.pipe-max-size lets anyone have by default.
const pipeWant = 1 << 20

func (s *selector) pipeBytes() int64 {
	l := s.c.Limits
	switch {
	case l == nil || slices.Contains(l.Unknown, "pipe_max_bytes"):
		return 0
	case l.PipeMaxBytes == nil:
		return pipeWant
	}
	return int64(min(*l.PipeMaxBytes, pipeWant))
}

// candidates lists what can make a transfer, from the best on. The last always
// works.
func candidates(t Transfer) []Backend {
	loop := []Backend{Write, Writev}
	if t.Parts > 1 {
		loop = []Backend{Writev, Write}
	}
	switch t.Source {
	case SourceMemory:
		switch t.Protocol {
		case TCP:
			return append([]Backend{IoUringSendZC, MsgZerocopy, Vmsplice, IoUringSend}, flip(loop)...)
		case UDP:
			return append([]Backend{IoUringSendZC, MsgZerocopy, IoUringSend}, flip(loop)...)
		case Unix:
			return append([]Backend{IoUringSendZC, MsgZerocopy, Vmsplice, IoUringSend}, flip(loop)...)
		case ToPipe:
			return append([]Backend{Vmsplice}, flip(loop)...)
		}
		return flip(loop)
	case SourceFile:
		switch t.Protocol {
		case TCP, Unix:
			return []Backend{MmapZerocopy, Sendfile, Splice, MmapWrite, ReadWrite}
		case UDP: // a datagram is smaller than what lending a mapping pays for
			return []Backend{Sendfile, Splice, MmapWrite, ReadWrite}
		case ToPipe:
			return []Backend{Splice, Sendfile, MmapWrite, ReadWrite}
		}
		return []Backend{CopyFileRange, Sendfile, ReadWrite}
	}
	return []Backend{Splice, ReadWrite}
}

// flip puts the copying call that fits last, where nothing can be said against it.
func flip(loop []Backend) []Backend { return []Backend{loop[1], loop[0]} }
