// Package selection puts what package transmit would choose into the form in
// which it is printed.
package selection

import (
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// Result is zcprobe/select/v1.
type Result struct {
	Schema   string   `json:"schema"`
	Transfer Transfer `json:"transfer"`
	Backend  string   `json:"backend"`
	Reason   string   `json:"reason"`

	// ThresholdBytes is the size from which Above is cheaper than Below; nil:
	// never.
	ThresholdBytes *int64 `json:"threshold_bytes"`
	Below          string `json:"below"`
	Above          string `json:"above"`

	Fallback []string         `json:"fallback"` // goes on if the kernel refuses Backend
	Notes    []Note           `json:"notes"`
	Evidence []probe.Evidence `json:"evidence"`
	Rejected []Rejected       `json:"rejected"`
}

// Transfer is what was asked about.
type Transfer struct {
	Source      string `json:"source"`
	Protocol    string `json:"protocol"`
	SizeBytes   int64  `json:"size_bytes"`  // 0: a stream, or not known
	Destination string `json:"destination"` // "": none was named
}

// Note is a condition or a doubt.
type Note struct {
	Cause string `json:"cause"` // an id of the catalogue, or ""
	Text  string `json:"text"`
}

// Rejected is a backend that lost.
type Rejected struct {
	Backend string   `json:"backend"`
	Reason  string   `json:"reason"`
	Causes  []string `json:"causes"`
	Remedy  string   `json:"remedy,omitempty"` // what would change it
}

// Of puts a plan into words and numbers.
func Of(t transmit.Transfer, destination string, p transmit.Plan) Result {
	r := Result{
		Schema:   "zcprobe/select/v1",
		Transfer: Transfer{Source: string(t.Source), Protocol: string(t.Protocol), SizeBytes: t.SizeBytes, Destination: destination},
		Backend:  string(p.Backend), Reason: p.Reason, Below: string(p.Below), Above: string(p.Above),
		Fallback: []string{}, Notes: []Note{}, Evidence: p.Evidence, Rejected: []Rejected{},
	}
	if p.ThresholdBytes != transmit.Never {
		r.ThresholdBytes = &p.ThresholdBytes
	}
	for _, b := range p.Fallback {
		r.Fallback = append(r.Fallback, string(b))
	}
	for _, n := range p.Notes {
		r.Notes = append(r.Notes, Note(n))
	}
	for _, x := range p.Rejected {
		r.Rejected = append(r.Rejected, Rejected{string(x.Backend), x.Reason, x.Causes, x.Remedy})
	}
	return r
}

// The sizes that a report is given recommendations for, in bytes: a page, what
// one GSO packet holds, and many of them; over UDP what fits every packet.
const (
	small    = 4 << 10
	medium   = 64 << 10
	large    = 1 << 20
	datagram = 1200
)

// Recommend returns the best way to make each of some common transfers, from
// what a report says.
func Recommend(r *probe.Report, o transmit.SelectOptions) []probe.Recommendation {
	c := transmit.ConditionsOf(r)
	out := []probe.Recommendation{}
	add := func(source transmit.SourceKind, protocol transmit.Protocol, sizes ...int64) {
		for _, n := range sizes {
			p := transmit.Select(c, transmit.Transfer{Source: source, Protocol: protocol, SizeBytes: n}, o)
			rec := probe.Recommendation{Source: string(source), Protocol: string(protocol), SizeBytes: uint64(n),
				Backend: string(p.Backend), Reason: p.Reason, Evidence: p.Evidence, Rejected: []probe.Rejected{}}
			for _, x := range p.Rejected {
				rec.Rejected = append(rec.Rejected, probe.Rejected{Backend: string(x.Backend), Reason: x.Reason, Causes: x.Causes})
			}
			out = append(out, rec)
		}
	}
	add(transmit.SourceFile, transmit.TCP, small, medium, large)
	add(transmit.SourceMemory, transmit.TCP, small, medium, large)
	add(transmit.SourceSocket, transmit.TCP, small, medium, large)
	add(transmit.SourceFile, transmit.UDP, datagram)
	add(transmit.SourceMemory, transmit.UDP, datagram)
	add(transmit.SourceFile, transmit.Unix, medium)
	add(transmit.SourceMemory, transmit.Unix, medium)
	add(transmit.SourceFile, transmit.ToFile, large)
	return out
}
