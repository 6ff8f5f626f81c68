package scenario

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// A Witness is what was seen of one transfer.
type Witness struct {
	Sent    uint64
	Arrived *uint64 // nil: nobody counts
	// Kept are bytes that the peer got as they were before their source was changed, so
	// that they were copied; nil: the source was not changed.
	Kept *uint64

	Predicted, Reported, Observed Column
	// PassesUnknown says that how often the payload is summed is not predicted.
	PassesUnknown bool
	Tier          string // of package ebpf
	// UnknownBytes are those of which the tracer could not tell.
	UnknownBytes uint64
	// Lost are events that the tracer had no room for, or did not see.
	Lost uint64
	// ResentBytes were sent more than once: they may have been copied one time and
	// not the other.
	ResentBytes uint64
}

// slack is what may differ beside what was sent again: one in a hundred bytes.
const slack = 100

func (w *Witness) near(a, b uint64) bool {
	return max(a, b)-min(a, b) <= w.Sent/slack+w.ResentBytes
}

// true reports whether so much is copied as is known to be.
func (j *judge) true(n uint64) bool {
	return n >= j.expected && n <= j.most || j.near(n, j.expected) || j.near(n, j.most)
}

// known says how much is copied.
func (j *judge) known() string {
	if j.most > j.expected {
		return fmt.Sprintf("%d to %d", j.expected, j.most)
	}
	return fmt.Sprint(j.expected)
}

// Judge compares what was seen with the truth. It reads nothing but its arguments.
func Judge(s *Scenario, t Truth, w Witness) Result {
	expected := t.bytes(w.Sent)
	r := Result{
		ID: s.ID, Summary: s.Summary, API: s.Traffic.API, Protocol: s.Traffic.Protocol, SetUp: describe(s.SetUp),
		SentBytes: w.Sent, ArrivedBytes: w.Arrived,
		Expected:  Column{CopiedBytes: &expected, Causes: named(t.Causes), Detail: t.Why, Refused: t.Refused},
		Predicted: w.Predicted, Reported: w.Reported, Observed: w.Observed, Findings: []Finding{},
	}
	j := judge{Witness: &w, expected: expected, most: t.most(w.Sent), causes: r.Expected.Causes, result: &r}
	j.place(s)
	if k := j.Kept; k != nil && !j.true(*k) {
		j.find(LayerTruth, Wrong, "The peer got %d bytes as they were before their source was changed, and %s are copied.", *k, j.known())
	}
	j.predicted(s)
	j.observed(s)
	j.reported()
	j.majority(s)
	r.Status, r.Reason = status(r.Findings)
	if r.Status == probe.Pass && j.unheard(s) {
		r.Status, r.Reason = probe.Skipped, fmt.Sprintf("nobody here can tell: not predicted, as %s; not observed, as %s; no completions", s.Unpredicted, s.Unobserved)
	}
	return r
}

// unheard reports whether nothing but the data of the scenario says what becomes of
// the payload: that is no agreement.
func (j *judge) unheard(s *Scenario) bool {
	refused := j.result.Expected.Refused != "" && j.Reported.Refused == j.result.Expected.Refused
	return s.Unpredicted != "" && s.blind(j.Tier) && j.Reported.CopiedBytes == nil && j.Kept == nil && !refused
}

type judge struct {
	*Witness
	expected uint64 // bytes that are copied
	most     uint64
	causes   []string
	result   *Result
}

func (j *judge) find(l Layer, kind, format string, args ...any) {
	j.result.Findings = append(j.result.Findings, Finding{Layer: l, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// place checks that the place did what it is for.
func (j *judge) place(s *Scenario) {
	switch {
	case j.Sent != s.Traffic.Bytes():
		j.find(LayerLab, Wrong, "The kernel took %d of %d bytes.", j.Sent, s.Traffic.Bytes())
	case j.Arrived != nil && *j.Arrived < j.Sent:
		j.find(LayerLab, Unknown, "The peer has counted %d of %d bytes.", *j.Arrived, j.Sent)
	case j.Arrived != nil && *j.Arrived > j.Sent:
		j.find(LayerLab, Wrong, "The peer counted %d bytes, and %d were sent.", *j.Arrived, j.Sent)
	}
}

// differs says how a column differs from the truth, or "".
func (j *judge) differs(c Column) string { return j.compare(c, j.causes) }

// copies are the ids among causes that are not of passes.
func copies(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		c, ok := probe.LookupCause(id)
		return ok && c.Kind == probe.KindPass
	})
}

func (j *judge) compare(c Column, causes []string) string {
	var parts []string
	if c.CopiedBytes != nil && !j.true(*c.CopiedBytes) {
		parts = append(parts, fmt.Sprintf("%d bytes copied, and %s are", *c.CopiedBytes, j.known()))
	}
	if !slices.Equal(c.Causes, causes) {
		parts = append(parts, fmt.Sprintf("the causes %s, and they are %s", list(c.Causes), list(causes)))
	}
	return strings.Join(parts, "; ")
}

func (j *judge) predicted(s *Scenario) {
	d := j.differs(j.Predicted)
	if j.PassesUnknown {
		d = j.compare(Column{CopiedBytes: j.Predicted.CopiedBytes, Causes: copies(j.Predicted.Causes)}, copies(j.causes))
	}
	switch {
	case s.Unpredicted != "":
		j.result.Predicted = Column{Causes: []string{}, Detail: "not predicted: " + s.Unpredicted}
	case j.Predicted.CopiedBytes == nil:
		j.find(LayerProbe, Unknown, "What becomes of the payload is not predicted: %s", j.Predicted.Detail)
	case d != "":
		j.find(LayerProbe, Wrong, "Predicted are %s.", d)
	}
	if got, want := j.Predicted.Refused, j.result.Expected.Refused; got != want && s.Unpredicted == "" {
		j.find(LayerProbe, Wrong, "Predicted is that the kernel refuses it for: %s; it does for: %s.", none(got), none(want))
	}
}

// blind reports whether package ebpf cannot see what happens.
func (s *Scenario) blind(tier string) bool {
	return s.Unobserved != "" && (s.Blind == nil || slices.Contains(s.Blind, tier))
}

func none(id string) string {
	return list(named(slices.DeleteFunc([]string{id}, func(s string) bool { return s == "" })))
}

func (j *judge) observed(s *Scenario) {
	switch d := j.differs(j.Observed); {
	case s.blind(j.Tier):
		j.result.Observed = Column{Causes: []string{}, Detail: "not observed: " + s.Unobserved}
	case j.Observed.CopiedBytes == nil:
		j.find(LayerEBPF, Unknown, "The tracer saw nothing of the transfer: %s", j.Observed.Detail)
	case j.Lost > 0:
		j.find(LayerEBPF, Unknown, "The tracer lost %d events.", j.Lost)
	case j.UnknownBytes > j.Sent/slack:
		j.find(LayerEBPF, Unknown, "The tracer cannot tell what became of %d of %d bytes.", j.UnknownBytes, j.Sent)
	case d != "":
		j.find(LayerEBPF, Wrong, "Observed are %s.", d)
	}
}

// quiet are the causes of copies that completions may not tell of, and why.
func quiet() map[string]string {
	return map[string]string{
		"no-scatter-gather": "skb_segment copies without clearing the zero-copy mark, so completions say not copied; only packets of one segment are linearized by __pskb_pull_tail, which clears it",
		"veth-xdp":          "veth_convert_skb_to_xdp_buff copies into pages of its own and frees the packet as one that was sent",
		"udp-linear-head":   "the head of a datagram is copied when it is made, and completions are about its pages",
	}
}

func (j *judge) reported() {
	c := j.Reported.CopiedBytes
	if got, want := j.Reported.Refused, j.result.Expected.Refused; want != "" && got != want {
		j.find(LayerTransmit, Wrong, "The sender was refused for: %s; it is for: %s.", none(got), none(want))
	}
	if c == nil || j.true(*c) {
		return
	}
	if *c < j.expected {
		for _, id := range j.causes {
			if why := quiet()[id]; why != "" {
				j.find(LayerTransmit, Explained, "Completions say that %d bytes were copied, and %s were: %s.", *c, j.known(), why)
				return
			}
		}
	}
	j.find(LayerTransmit, Wrong, "Completions say that %d bytes were copied, and %s were.", *c, j.known())
}

// majority turns the blame where two others agree with each other and not with the
// truth.
func (j *judge) majority(s *Scenario) {
	p, o, r := j.Predicted, j.Observed, j.Reported.CopiedBytes
	predicted := s.Unpredicted == "" && p.CopiedBytes != nil && j.differs(p) != ""
	observed := !s.blind(j.Tier) && o.CopiedBytes != nil && j.differs(o) != ""
	agree := ""
	switch {
	case predicted && observed && j.near(*p.CopiedBytes, *o.CopiedBytes) && slices.Equal(p.Causes, o.Causes):
		agree = "Prediction and observation"
	case s.Unpredicted != "" && observed && r != nil && !j.true(*r) && j.near(*r, *o.CopiedBytes):
		agree = "Completions and observation"
	case s.blind(j.Tier) && predicted && r != nil && !j.true(*r) && j.near(*r, *p.CopiedBytes):
		agree = "Completions and prediction"
	default:
		return
	}
	j.result.Findings = slices.Insert(j.result.Findings, 0, Finding{Layer: LayerTruth, Kind: Wrong,
		Text: agree + " agree with each other: look at the truth of this scenario first."})
}

// status is the word for findings.
func status(findings []Finding) (probe.CheckStatus, string) {
	s, reason := probe.Pass, ""
	for _, f := range findings {
		switch {
		case f.Kind == Wrong:
			return probe.Fail, ""
		case f.Kind == Unknown && s == probe.Pass:
			s, reason = probe.Unknown, f.Text
		}
	}
	return s, reason
}

func named(ids []string) []string {
	out := append([]string{}, ids...)
	slices.Sort(out)
	return slices.Compact(out)
}

func list(ids []string) string {
	if len(ids) == 0 {
		return "none"
	}
	return strings.Join(ids, ", ")
}

func describe(steps []Step) []string {
	out := make([]string, 0, len(steps))
	for _, s := range steps {
		out = append(out, s.String())
	}
	return out
}

// verdict is the word for all results.
func verdict(results []Result) probe.Verdict {
	n := map[probe.CheckStatus]int{}
	for _, r := range results {
		n[r.Status]++
	}
	ran := n[probe.Pass] + n[probe.Fail] + n[probe.Unknown]
	v := probe.Verdict{Status: probe.Pass}
	switch {
	case n[probe.Fail] > 0:
		v.Status, v.Summary = probe.Fail, fmt.Sprintf("%d of %d scenarios disagree with what is known to be true.", n[probe.Fail], ran)
	case n[probe.Unknown] > 0:
		v.Status, v.Summary = probe.Unknown, fmt.Sprintf("Nothing disagrees, and %d of %d scenarios are undecided.", n[probe.Unknown], ran)
	case ran == 0:
		v.Status, v.Summary = probe.Unknown, "No scenario could be run."
	case ran == 1:
		v.Summary = "Prediction, completions and observation agree with the truth."
	default:
		v.Summary = fmt.Sprintf("Prediction, completions and observation agree with the truth in all of %d scenarios.", ran)
	}
	if k := n[probe.Skipped]; k > 0 && ran > 0 {
		v.Summary += fmt.Sprintf(" %d could not be judged here.", k)
	}
	return v
}
