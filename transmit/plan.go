package transmit

import (
	"math"

	"github.com/zcprobe/zcprobe/probe"
)

// Never is the size from which a way wins that never wins.
const Never = math.MaxInt64

// A Plan is how [Select] would make a transfer, and why not otherwise.
type Plan struct {
	// Backend makes a transfer of the size that was asked about; for a stream it
	// is Above.
	Backend Backend
	Reason  string // why, in a sentence

	// ThresholdBytes is the size of one send, in bytes, from which Above is
	// cheaper than Below: 0 where Above is at any size, [Never] where Below is.
	// See [Plan.At].
	ThresholdBytes int64
	Below, Above   Backend

	// Fallback is what goes on, in this order, if the kernel refuses Backend.
	// The last always works, and copies.
	Fallback []Backend

	// PipeBytes is the size of the pipe that splice and vmsplice should ask for,
	// 0 if the limit is not known.
	PipeBytes int64

	// Notes are what could not be told, and what the caller must keep to.
	Notes []Note

	Evidence []probe.Evidence // what decided
	Rejected []Rejected       // every other backend that could make such a transfer
}

// At returns the backend for one send of n bytes.
func (p *Plan) At(n int64) Backend {
	if n >= p.ThresholdBytes && p.ThresholdBytes != Never {
		return p.Above
	}
	return p.Below
}

// Rejected is a backend that lost, and why.
type Rejected struct {
	Backend Backend
	Reason  string   // a sentence
	Causes  []string // ids of the catalogue; empty where it has none
	Remedy  string   // what would change it, or ""
}

// Note is a condition or a doubt of a plan.
type Note struct {
	Cause string // an id of the catalogue, or ""
	Text  string // a sentence
}
