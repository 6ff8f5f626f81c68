package render

import (
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
)

// Planned is what a trace would do. Its JSON form is zcprobe/trace-plan/v1.
type Planned struct {
	Schema string        `json:"schema"`
	Tier   string        `json:"tier"`    // that would be taken
	WhyNot string        `json:"why_not"` // "": it can be had
	Tiers  []probe.Tier  `json:"tiers"`
	Hooks  []PlannedHook `json:"hooks"`
	Needs  []PlannedNeed `json:"needs"`
}

// PlannedHook is a program and the place of the kernel that it is for.
type PlannedHook struct {
	Name    string `json:"name"`
	Tier    string `json:"tier"`
	Attach  bool   `json:"attach"` // it would be attached
	WhyNot  string `json:"why_not"`
	Purpose string `json:"purpose"`
	Runs    string `json:"runs"`
	Blind   string `json:"blind"`
	Since   string `json:"since"`
}

// PlannedNeed is a privilege that tracing takes.
type PlannedNeed struct {
	Name string `json:"name"`
	For  string `json:"for"`
	Held bool   `json:"held"`
}

// PlanOf is the form of a plan that is printed.
func PlanOf(p *ebpf.Plan) *Planned {
	out := &Planned{Schema: "zcprobe/trace-plan/v1", Tier: string(p.Tier), Tiers: p.Tiers, Hooks: []PlannedHook{}, Needs: []PlannedNeed{}}
	if p.Err != nil {
		out.WhyNot = p.Err.Error()
	}
	for _, h := range p.Hooks {
		hook := PlannedHook{Name: h.Name, Tier: string(h.Tier), Attach: h.Err == nil, Purpose: h.Purpose, Runs: h.Runs, Blind: h.Blind, Since: h.Since}
		if h.Err != nil {
			hook.WhyNot = h.Err.Error()
		}
		out.Hooks = append(out.Hooks, hook)
	}
	for _, n := range p.Needs {
		out.Needs = append(out.Needs, PlannedNeed(n))
	}
	return out
}

// TracePlan writes, for --dry-run, what would be attached and what is missing.
func TracePlan(p *text.Printer, t *Planned) {
	n := 0
	for _, h := range t.Hooks {
		if h.Attach {
			n++
		}
	}
	if t.WhyNot != "" {
		p.Para(0, 2, text.Span{Text: "Cannot trace by tier " + t.Tier, Style: text.Bad}, text.S(": "+t.WhyNot))
		missing(p, t.Needs)
		tiers(p, t.Tiers)
		return
	}
	p.Para(0, 2, text.S("Would trace by "), text.B("tier "+t.Tier), text.S(": "+counted(n, "program")+" in the kernel while it runs, and none after."))
	missing(p, t.Needs)
	if len(t.Hooks) > 0 {
		p.Blank()
		p.Heading("Programs, each at the place of its name")
		var rows [][]text.Span
		for _, h := range t.Hooks {
			state, say := text.Span{Text: "yes", Style: text.Good}, h.Purpose+"; runs at "+h.Runs
			if !h.Attach {
				state, say = text.Span{Text: "no", Style: text.Caution}, h.WhyNot+"; unseen: "+h.Blind
			}
			rows = append(rows, []text.Span{text.S(h.Name), state, text.S(say)})
		}
		p.Table(2, nil, rows)
	}
	tiers(p, t.Tiers)
}

func counted[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func missing(p *text.Printer, needs []PlannedNeed) {
	var rows [][]text.Span
	for _, n := range needs {
		state := text.Span{Text: "held", Style: text.Good}
		if !n.Held {
			state = text.Span{Text: "missing", Style: text.Bad}
		}
		rows = append(rows, []text.Span{text.S(n.Name), state, text.S(n.For)})
	}
	if len(rows) == 0 {
		return
	}
	p.Blank()
	p.Heading("Privileges")
	p.Table(2, nil, rows)
}

// tiers writes which ways there are to attach to the kernel.
func tiers(p *text.Printer, all []probe.Tier) {
	if len(all) == 0 {
		return
	}
	p.Blank()
	p.Heading("Ways to attach to the kernel")
	var rows [][]text.Span
	for _, t := range all {
		rows = append(rows, []text.Span{text.S(t.ID), text.S(string(t.Status)), text.S(strings.TrimSuffix(t.Detail, "."))})
	}
	p.Table(2, nil, rows)
}
