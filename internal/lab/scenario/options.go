package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/ebpf"
)

// Options say how scenarios are run.
type Options struct {
	// Disturb runs what others on the machine could notice: on kernels on which packet
	// sockets are on one list for all namespaces, every zero-copy send is copied while
	// one is open.
	Disturb bool
	// Tier of package ebpf; the best that works if empty.
	Tier ebpf.Tier
	// Progress is told of each scenario before it runs; nil: nobody.
	Progress func(number, of int, id string)
}

// ErrNoScenario says that there is no scenario of a name.
var ErrNoScenario = errors.New("no such scenario")

// Select returns the scenarios of the names, in the order of the catalogue: each is an
// id, or what ids begin with up to a slash. No names are all.
func Select(all []Scenario, names []string) ([]Scenario, error) {
	if len(names) == 0 {
		return all, nil
	}
	var out []Scenario
	taken := map[string]bool{}
	for _, s := range all {
		for _, n := range names {
			if s.ID == n || strings.HasPrefix(s.ID, strings.TrimSuffix(n, "/")+"/") {
				taken[n] = true
				if len(out) == 0 || out[len(out)-1].ID != s.ID {
					out = append(out, s)
				}
			}
		}
	}
	for _, n := range names {
		if !taken[n] {
			return nil, fmt.Errorf("%q: %w", n, ErrNoScenario)
		}
	}
	return out, nil
}

// Catalogue returns all scenarios. Scenarios of one set-up stand next to each other.
func Catalogue() []Scenario {
	all := slices.Concat(pathScenarios(), tapScenarios(), deviceScenarios(), datagramScenarios(), socketScenarios(), limitScenarios(), sourceScenarios(), unixScenarios(), newerScenarios(), mixedScenarios(), fileScenarios())
	for i := range all {
		all[i].Truths = slices.Clone(all[i].Truths) // families share them
		for k := range all[i].Truths {
			all[i].Truths[k].Causes = named(all[i].Truths[k].Causes)
		}
	}
	return all
}

// Add adds scenarios to others. They follow those of the same set-up, and may have no
// id that is there.
func Add(all, more []Scenario) ([]Scenario, error) {
	out := slices.Clone(all)
	for _, s := range more {
		if slices.ContainsFunc(out, func(o Scenario) bool { return o.ID == s.ID }) {
			return nil, fmt.Errorf("there is a scenario %s already", s.ID)
		}
		at := len(out)
		for i := range out {
			if slices.Equal(out[i].SetUp, s.SetUp) {
				at = i + 1
			}
		}
		out = slices.Insert(out, at, s)
	}
	return out, nil
}

// A Listing is scenarios as they are listed, which [Read] reads.
type Listing struct {
	Schema string `json:"schema"`
	Kernel string `json:"kernel"` // release; "" where there is no Linux
	// Needs is what it takes to run them, a sentence.
	Needs     string   `json:"needs"`
	Scenarios []Sketch `json:"scenarios"`
}

// A Sketch is a scenario as it is listed, with what follows from it.
type Sketch struct {
	Scenario
	// Makes is all that is made and changed, in namespaces of the process's own.
	Makes []string `json:"makes"`
	Sends string   `json:"sends"` // the traffic
	// Expected is the truth of the running kernel; nil where none is known.
	Expected *Column `json:"expected,omitzero"`
}

// List sketches scenarios for the running kernel.
func List(all []Scenario) *Listing { return listFor(all, kernel()) }

func listFor(all []Scenario, kernel string) *Listing {
	l := &Listing{Schema: FileSchema, Kernel: kernel, Needs: needs, Scenarios: []Sketch{}}
	for i := range all {
		s := &all[i]
		k := Sketch{Scenario: *s, Makes: describe(s.SetUp), Sends: s.Traffic.String()}
		if t, err := s.truth(kernel); err == nil {
			k.Expected = &Column{CopiedBytes: new(t.bytes(s.Traffic.Bytes())), Causes: named(t.Causes), Detail: t.Why}
		}
		l.Scenarios = append(l.Scenarios, k)
	}
	return l
}

// needs is what the lab takes.
const needs = "the lab makes network namespaces and devices and loads BPF programs: it needs root, or CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON in the initial user namespace"

// groups are scenarios of the same set-up, in their order.
func groups(all []Scenario) [][]Scenario {
	var out [][]Scenario
	for _, s := range all {
		if n := len(out); n > 0 && slices.Equal(out[n-1][0].SetUp, s.SetUp) {
			out[n-1] = append(out[n-1], s)
			continue
		}
		out = append(out, []Scenario{s})
	}
	return out
}

// A PermissionError says what a process lacks that may not run the lab. It matches
// fs.ErrPermission.
type PermissionError struct {
	Needs string // a sentence
	Err   error  // what was refused
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("%s (%v)", strings.TrimSuffix(e.Needs, "."), e.Err)
}

func (e *PermissionError) Unwrap() error { return e.Err }
