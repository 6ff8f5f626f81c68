package probe

import "slices"

// Mechanism is where in the kernel a copy or pass happens. A cause's id names
// what to fix, its mechanism where it was.
type Mechanism string

// The mechanisms.
const (
	AtSend       Mechanism = "send"
	AtSpliceRead Mechanism = "splice-read"
	AtLinearize  Mechanism = "linearize"
	AtSegment    Mechanism = "segment"
	AtFragment   Mechanism = "fragment"
	AtClone      Mechanism = "clone"
	AtIngress    Mechanism = "ingress"
	AtDriver     Mechanism = "driver"
	AtDMA        Mechanism = "dma"
	AtCrypto     Mechanism = "crypto"
)

// CauseKind says what a cause does to the payload.
type CauseKind string

// The kinds of cause.
const (
	KindCopy    CauseKind = "copy"    // the CPU reads payload and writes it elsewhere
	KindPass    CauseKind = "pass"    // the CPU only reads it
	KindHazard  CauseKind = "hazard"  // wrong data, not slow data
	KindRefused CauseKind = "refused" // the kernel refuses the call
	KindNote    CauseKind = "note"    // advice
)

// Cause is an entry of the catalogue: something that makes the kernel copy,
// read, refuse or corrupt payload that was meant to go out untouched.
type Cause struct {
	ID          string      `json:"id"`
	Kind        CauseKind   `json:"kind"`
	Summary     string      `json:"summary"`     // one line
	Explanation string      `json:"explanation"` // what happens and when
	Shows       string      `json:"shows"`       // how it shows to an application or operator
	Remedy      string      `json:"remedy"`
	Kernels     string      `json:"kernels"`  // the range in which it was verified, as text
	Expected    bool        `json:"expected"` // part of the API's or path's nature, no failure of the host
	Mechanisms  []Mechanism `json:"mechanisms"`

	// Which of the three sources can establish it: a prediction of package
	// probe; what the kernel tells the application each time it happens (a
	// completion marked COPIED, an errno); tracing.
	Predicted bool `json:"predicted"`
	Reported  bool `json:"reported"`
	Observed  bool `json:"observed"`
}

// Causes returns the whole catalogue, sorted by kind (copy, pass, hazard,
// refused, note) and within a kind as the groups of the documentation. The
// slice, and what it holds, is the caller's.
func Causes() []Cause {
	all := slices.Clone(catalogue)
	for i := range all {
		all[i].Mechanisms = slices.Clone(all[i].Mechanisms)
	}
	return all
}

// LookupCause returns the entry with the given id.
func LookupCause(id string) (Cause, bool) {
	i := slices.IndexFunc(catalogue, func(c Cause) bool { return c.ID == id })
	if i < 0 {
		return Cause{}, false
	}
	c := catalogue[i]
	c.Mechanisms = slices.Clone(c.Mechanisms)
	return c, true
}
