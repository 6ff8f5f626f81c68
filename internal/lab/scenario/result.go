package scenario

import "github.com/zcprobe/zcprobe/probe"

// Schema names the format of a Report.
const Schema = "zcprobe/lab/v1"

// A Report is what a run of scenarios has shown.
type Report struct {
	Schema     string        `json:"schema"`
	Verdict    probe.Verdict `json:"verdict"`
	Kernel     string        `json:"kernel"` // release
	Arch       string        `json:"arch"`
	Tier       string        `json:"tier"` // of package ebpf
	DurationNS int64         `json:"duration_ns"`
	Scenarios  []Result      `json:"scenarios"`
}

// A Result is one scenario, with what each layer says.
type Result struct {
	ID      string            `json:"id"`
	Summary string            `json:"summary"`
	Status  probe.CheckStatus `json:"status"` // pass, fail, unknown, skipped
	Reason  string            `json:"reason"` // of skipped and unknown; else ""

	API       string   `json:"api"`
	Protocol  string   `json:"protocol"`
	SetUp     []string `json:"set_up"`
	SentBytes uint64   `json:"sent_bytes"`
	// ArrivedBytes are those that the peer counted; nil where nobody counts.
	ArrivedBytes *uint64 `json:"arrived_bytes"`

	Expected  Column `json:"expected"`
	Predicted Column `json:"predicted"`
	Reported  Column `json:"reported"`
	Observed  Column `json:"observed"`

	Findings []Finding `json:"findings"`

	// Attempts is how often it was run: what nobody could tell is tried again.
	Attempts int `json:"attempts"`
	// DurationNS is how long it took, the set-up included where it was made for this
	// scenario.
	DurationNS int64 `json:"duration_ns"`
}

// A Column is what one layer says of a transfer.
type Column struct {
	CopiedBytes *uint64  `json:"copied_bytes"` // nil: it does not say
	Causes      []string `json:"causes"`       // sorted; what is reported has none
	Detail      string   `json:"detail"`       // how it is known, or why it is not
	// Refused is the id of what makes the kernel refuse the API, so that it was, or is
	// to be, sent by writing; "" where nothing does.
	Refused string `json:"refused,omitzero"`
}

// A Layer is who said something.
type Layer string

// The layers. What is wrong with the set-up is wrong with the lab.
const (
	LayerTruth    Layer = "truth"    // the data of the scenario
	LayerProbe    Layer = "probe"    // what is predicted
	LayerTransmit Layer = "transmit" // what is reported
	LayerEBPF     Layer = "ebpf"     // what is observed
	LayerLab      Layer = "lab"      // the place
)

// A Finding is a difference between a layer and the truth.
type Finding struct {
	Layer Layer `json:"layer"` // who is wrong, or does not know
	// Kind is "wrong", "unknown" or "explained". An explained difference is in the
	// nature of the kernel, and no failure.
	Kind string `json:"kind"`
	Text string `json:"text"` // a sentence
}

// The kinds of findings.
const (
	Wrong     = "wrong"
	Unknown   = "unknown"
	Explained = "explained"
)
