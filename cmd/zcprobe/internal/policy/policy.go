// Package policy decides whether a host is fit for deployment. A policy says
// which checks are required, which only warn and which do not matter; Apply
// holds a probe report against it. Nothing here touches the host.
package policy

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// APIVersion is the value of apiVersion in a policy file.
const APIVersion = "zcprobe/v1"

// Level is how much a check counts.
type Level string

// The levels.
const (
	Require Level = "require" // failing fails the run, unknown leaves it undecided
	WarnAt  Level = "warn"    // anything but a pass is a warning
	Ignore  Level = "ignore"  // not judged
)

// strictness orders levels for patterns that name a check equally well.
func (l Level) strictness() int {
	switch l {
	case Require:
		return 2
	case WarnAt:
		return 1
	}
	return 0
}

// Policy is what a host is held against.
type Policy struct {
	Source       string // "built-in" or the file
	Rules        []Rule
	Devices      []DeviceScope
	Destinations []Destination
	Limits       Limits
	Service      Service
	Load         probe.Load // a zero field leaves the default
	Waivers      []Waiver
}

// Rule gives every check that Pattern names a level.
type Rule struct {
	Pattern string
	Level   Level
	Reason  string // for Ignore, why; "" is "not in the policy" or the like
}

// DeviceScope holds rules for the devices whose name matches.
type DeviceScope struct {
	Match string // as path.Match has it
	Rules []Rule
	Pos   Pos
}

// Destination is a peer the host must be able to send to.
type Destination struct {
	To, From string
	Rules    []Rule
}

// Limits are minimums; nil is none.
type Limits struct {
	MemlockBytes   *uint64 // quantity.Unlimited demands that there is no limit
	OptmemMaxBytes *uint64
	PipeMaxBytes   *uint64
}

// Service describes the process that will run here, if it does not yet.
type Service struct {
	UID          *uint32
	MemlockBytes *uint64
}

// Waiver accepts that one check does not pass, until it expires.
type Waiver struct {
	Check   string
	Subject string    // "" is every subject
	Reason  string    // why that is accepted
	Expires time.Time // the end of the last day, UTC
	Pos     Pos
}

// Pos is a place in a policy file, counted from 1.
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Problem is one thing wrong with a policy file.
type Problem struct {
	Pos
	Message string `json:"message"`
}

// Error is everything wrong with a policy file, in the order of the file.
type Error struct {
	File     string
	Problems []Problem
}

// Error gives one line per problem, as compilers do.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d:%d: %s", e.File, p.Line, p.Column, p.Message)
	}
	return strings.Join(lines, "\n")
}

// level returns the level that rules give a check, and the rule. An exact name
// beats a pattern, a longer pattern a shorter one, and the stricter of two
// that are as long.
func level(rules []Rule, id string) (Rule, bool) {
	var best Rule
	found := false
	for _, r := range rules {
		if ok, err := path.Match(r.Pattern, id); err != nil || !ok {
			continue
		}
		if !found || beats(r, best) {
			best, found = r, true
		}
	}
	return best, found
}

func beats(a, b Rule) bool {
	if x, y := isPattern(a.Pattern), isPattern(b.Pattern); x != y {
		return y
	}
	if x, y := len(a.Pattern), len(b.Pattern); x != y {
		return x > y
	}
	return a.Level.strictness() > b.Level.strictness()
}

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }
