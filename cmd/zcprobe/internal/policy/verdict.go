package policy

import (
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// Exit codes of a run that reached a verdict.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUndecided = 3
)

// ExitCode is what the process says to the script that called it. A warning
// fails only if asked to.
func (r *Result) ExitCode(failOnWarn bool) int {
	switch r.Verdict.Status {
	case probe.Pass, probe.Skipped:
		return exitOK
	case probe.Warn:
		if failOnWarn {
			return exitFailed
		}
		return exitOK
	case probe.Fail:
		return exitFailed
	}
	return exitUndecided
}

// verdict is the worst of all checks: fail beats unknown, unknown beats warn.
// Where checks were required and not one applied, nothing is decided.
func verdict(checks []Check) probe.Verdict {
	count := map[probe.CheckStatus]int{}
	status, required, decided, waived := probe.Skipped, 0, 0, 0
	for _, c := range checks {
		status = status.Worse(c.Status)
		count[c.Status]++
		switch {
		case c.Waived != nil:
			waived++
		case c.Level == Require:
			required++
			if c.Status != probe.Skipped {
				decided++
			}
		}
	}
	tail := ""
	if required > decided {
		tail = fmt.Sprintf("; %s not apply", plural(required-decided, "required check does", "required checks do"))
	}
	if waived > 0 {
		tail += fmt.Sprintf("; %s waived", plural(waived, "check is", "checks are"))
	}
	switch status {
	case probe.Fail:
		return probe.Verdict{Status: status, Summary: fmt.Sprintf("Not ready: %d of %s failed (%s)%s.",
			count[probe.Fail], plural(decided, "required check", "required checks"), named(checks, probe.Fail), tail)}
	case probe.Warn:
		return probe.Verdict{Status: status, Summary: fmt.Sprintf("Ready, with %s (%s)%s.",
			plural(count[probe.Warn], "warning", "warnings"), named(checks, probe.Warn), tail)}
	case probe.Pass, probe.Skipped:
		if required > 0 && decided == 0 {
			return probe.Verdict{Status: probe.Unknown, Summary: "Undecided: no required check applies here" + tail + "."}
		}
		if required == 0 {
			return probe.Verdict{Status: status, Summary: "Nothing was required" + tail + "."}
		}
		return probe.Verdict{Status: status, Summary: fmt.Sprintf("Ready: %s passed%s.",
			plural(decided, "required check", "required checks"), tail)}
	}
	return probe.Verdict{Status: probe.Unknown, Summary: fmt.Sprintf("Undecided: %d of %s could not be decided (%s)%s.",
		count[probe.Unknown], plural(decided, "required check", "required checks"), named(checks, probe.Unknown), tail)}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// named lists the first few checks of a status.
func named(checks []Check, s probe.CheckStatus) string {
	const most = 3
	var names []string
	n := 0
	for _, c := range checks {
		if c.Status != s {
			continue
		}
		if n++; n > most {
			continue
		}
		name := c.ID
		if c.Subject != "" {
			name += " " + c.Subject
		}
		names = append(names, name)
	}
	if n > most {
		names = append(names, fmt.Sprintf("%d more", n-most))
	}
	return strings.Join(names, ", ")
}
