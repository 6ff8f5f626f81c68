package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// Schema names the JSON form of a [Report].
const Schema = "zcprobe/bench/v1"

// PathLab is the path of measurements in the laboratory.
const PathLab = "lab"

// Report is what was measured.
type Report struct {
	Schema string `json:"schema"`
	Path   string `json:"path"` // lab, or the destination as it was asked for
	Quick  bool   `json:"quick"`
	DryRun bool   `json:"dry_run"`

	// Would is what a run would make and send, a sentence each; empty unless nothing
	// was done (DryRun).
	Would []string `json:"would"`

	Results    []Result    `json:"results"`
	Crossovers []Crossover `json:"crossover"`

	// Conclusive says whether the crossovers hold for this path.
	Conclusive bool   `json:"conclusive"`
	Conclusion string `json:"conclusion"` // a sentence

	// LentCopiedFraction is how much of what was lent the kernel said it copied. Above
	// MostCopied something copies that may not stay, such as a packet tap.
	LentCopiedFraction float64 `json:"lent_copied_fraction"`

	Skipped      []Skipped `json:"skipped"`
	Disturbances []string  `json:"disturbances"` // what else ran, a sentence each
	Counted      string    `json:"counted"`      // as CPU time
	NotCounted   string    `json:"not_counted"`
	Source       string    `json:"source"` // where files were
	ColdBytes    int64     `json:"cold_bytes"`
	DurationNS   int64     `json:"duration_ns"`

	// Saved is the file that a calibration was written to, "" if none was;
	// SavedNote says why not, or what is to be known of it.
	Saved     string `json:"saved"`
	SavedNote string `json:"saved_note"`
}

// MostCopied is the part of lent bytes that may be copied on a path of which anything
// is kept: one tap that comes and goes copies a few.
const MostCopied = 0.05

// Result is the cost of one way at one size. The interval is that of CPU time.
type Result struct {
	Backend             transmit.Backend    `json:"backend"`
	Source              transmit.SourceKind `json:"source"`
	To                  transmit.Protocol   `json:"to"`
	SizeBytes           int64               `json:"size_bytes"`
	Cache               transmit.CacheState `json:"cache"`
	ThroughputBytesPerS float64             `json:"throughput_bytes_per_s"`
	CPUNSPerByte        float64             `json:"cpu_ns_per_byte"`
	CopiedFraction      float64             `json:"copied_fraction"`
	CopiedFrom          string              `json:"copied_from"` // completions, or api
	Runs                int                 `json:"runs"`
	CILow               float64             `json:"ci_low"`
	CIHigh              float64             `json:"ci_high"`
}

// Crossover is the size of one send from which on a way takes less CPU time than
// another. A nil size is never.
type Crossover struct {
	Backend   transmit.Backend    `json:"backend"`
	Against   transmit.Backend    `json:"against"`
	Source    transmit.SourceKind `json:"source"`
	To        transmit.Protocol   `json:"to"`
	Cache     transmit.CacheState `json:"cache"`
	Bytes     *int64              `json:"bytes"`
	LowBytes  *int64              `json:"low_bytes"`
	HighBytes *int64              `json:"high_bytes"`
	Detail    string              `json:"detail"` // a sentence
}

// Skipped is a way that was not measured, and why.
type Skipped struct {
	Backend transmit.Backend `json:"backend"`
	Reason  string           `json:"reason"`
}

// Plan returns what [Run] would make and send, without doing it.
func Plan(o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := &Report{Schema: Schema, Path: cmp.Or(o.To, PathLab), Quick: o.Quick, DryRun: true, Results: []Result{}, Crossovers: []Crossover{},
		Skipped: []Skipped{}, Disturbances: []string{}, Conclusion: "Nothing was measured."}
	pace := o.pace()
	if o.To == "" {
		r.Would = append(r.Would, "make two network namespaces without names, joined by a veth pair, and load two BPF programs that take what arrives in one of them; nothing leaves this machine")
	} else {
		r.Would = append(r.Would, fmt.Sprintf("connect to %s once, and send as fast as the path goes for up to %v", o.Address, pace.all))
	}
	for _, g := range o.groups() {
		if g.source == transmit.SourceFile {
			r.Would = append(r.Would, fmt.Sprintf("make files without names of up to %d MiB below %s, or in memory if there is no room", mostFiles>>20, o.dir()))
			break
		}
	}
	for _, g := range o.groups() {
		var names []string
		for _, b := range g.ways {
			names = append(names, string(b))
		}
		r.Would = append(r.Would, fmt.Sprintf("move %s to %s by %s, at sizes from %d bytes to %d, at least %d times each", g.source, g.to, strings.Join(names, ", "),
			o.sizes(g)[0], o.sizes(g)[len(o.sizes(g))-1], pace.rounds))
	}
	return r, nil
}

// mostFiles is the most that files take at a time: one that is sent, and two of
// which one is copied to the other.
const mostFiles = mostCold + 2*copyBytes

// mostCold is how much memory, or file, cold sends go through.
const mostCold = 256 << 20

// copyBytes bounds what is written to the disk.
const copyBytes = 64 << 20

// result sums up the runs of one way.
func (x *sample) result(g group, heat transmit.CacheState, size int64) Result {
	cpu := benchpair.CPUPerByte(x.runs)
	return Result{
		Backend: x.backend, Source: g.source, To: g.to, SizeBytes: size, Cache: heat,
		ThroughputBytesPerS: benchpair.Throughput(x.runs).Median,
		CPUNSPerByte:        cpu.Median, CILow: cpu.Low, CIHigh: cpu.High,
		CopiedFraction: x.copied(), CopiedFrom: x.copiedFrom(), Runs: len(x.runs),
	}
}

// sort orders results and crossovers for people and for comparisons.
func (r *Report) sort() {
	order := func(b transmit.Backend) int { return slices.Index(transmit.Backends(), b) }
	slices.SortStableFunc(r.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(b.To, a.To), cmp.Compare(b.Source, a.Source), cmp.Compare(order(a.Backend), order(b.Backend)),
			cmp.Compare(b.Cache, a.Cache), cmp.Compare(a.SizeBytes, b.SizeBytes))
	})
	slices.SortStableFunc(r.Crossovers, func(a, b Crossover) int {
		return cmp.Or(cmp.Compare(b.To, a.To), cmp.Compare(b.Source, a.Source), cmp.Compare(order(a.Backend), order(b.Backend)), cmp.Compare(b.Cache, a.Cache))
	})
}
