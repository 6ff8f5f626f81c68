package render

import (
	"fmt"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// Preflight writes the outcome of a preflight: what is wrong, the gravest
// first, what was waived, and how much passed.
func Preflight(p *text.Printer, r *policy.Result, how int) {
	Verdict(p, r.Verdict)
	if how == Quiet {
		return
	}
	var seen []string
	count := map[probe.CheckStatus]int{}
	for _, c := range r.Checks {
		count[c.Status]++
	}
	for _, s := range []probe.CheckStatus{probe.Fail, probe.Unknown, probe.Warn, probe.Skipped, probe.Pass} {
		first := true
		for _, c := range r.Checks {
			if c.Status != s || !shown(c, how) {
				continue
			}
			if first {
				p.Blank()
				first = false
			}
			check(p, c.Check, how == Verbose, &seen)
		}
	}
	p.Blank()
	more := ""
	if how < Verbose {
		more = " (-v lists them)"
	}
	p.Para(0, 2, text.S(fmt.Sprintf("%d passed, %d skipped%s. Policy: %s. Kernel %s, uid %d.",
		count[probe.Pass], count[probe.Skipped], more, r.Policy, r.Host.Kernel, r.Host.UID)))
}

// shown: problems always; what was waived, or required and does not apply, too.
func shown(c policy.Check, how int) bool {
	switch {
	case how == Verbose:
		return true
	case c.Status == probe.Pass:
		return false
	case c.Status == probe.Skipped:
		return c.Waived != nil || c.Level == policy.Require
	}
	return true
}
