package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Options say what is measured. The zero value measures everything in the
// laboratory.
type Options struct {
	To       string // the destination as it was asked for; "" is the laboratory
	Address  string // of To, HOST:PORT
	Quick    bool
	Backends []transmit.Backend // nil: those that can be chosen, and with Quick the ones that matter
	Sizes    []int64            // of one send; nil: 256 bytes to 4 MiB
	Dir      string             // where files are made; "": os.TempDir

	// Local says, as a sentence, why nothing can be concluded from the path to To; ""
	// if that is not known. That the addresses are this machine's is found out here.
	Local string

	Progress func(string) // what is being done; may be nil

	own *pace // of a test
}

// The bounds of a size.
const (
	LeastBytes = 1
	MostBytes  = 64 << 20
)

func (o *Options) dir() string { return cmp.Or(o.Dir, os.TempDir()) }

// Check refuses options that mean nothing.
func (o *Options) Check() error {
	for _, n := range o.Sizes {
		if n < LeastBytes || n > MostBytes {
			return fmt.Errorf("a size of %d bytes is not from %d to %d", n, LeastBytes, MostBytes)
		}
	}
	if len(o.Backends) > 0 && len(o.groups()) == 0 {
		return errors.New("none of the backends can be measured")
	}
	return nil
}

// A group is ways from one kind of source to one kind of target, and which of
// them are compared.
type group struct {
	source transmit.SourceKind
	to     transmit.Protocol
	ways   []transmit.Backend
	pairs  []pair
}

// A pair is a way and the plain one that it is an alternative to.
type pair struct{ way, plain transmit.Backend }

func allGroups() []group {
	return []group{{
		source: transmit.SourceMemory, to: transmit.TCP,
		pairs: []pair{
			{transmit.MsgZerocopy, transmit.Write}, {transmit.IoUringSendZC, transmit.Write},
			{transmit.Vmsplice, transmit.Write}, {transmit.IoUringSend, transmit.Write}, {transmit.Writev, transmit.Write},
		},
	}, {
		source: transmit.SourceFile, to: transmit.TCP,
		pairs: []pair{
			{transmit.MmapZerocopy, transmit.Sendfile}, {transmit.Sendfile, transmit.ReadWrite},
			{transmit.MmapWrite, transmit.ReadWrite}, {transmit.Splice, transmit.ReadWrite}, {transmit.Splice, transmit.Sendfile},
		},
	}, {
		source: transmit.SourceFile, to: transmit.ToFile,
		pairs: []pair{
			{transmit.CopyFileRange, transmit.ReadWrite}, {transmit.Sendfile, transmit.ReadWrite}, {transmit.Splice, transmit.ReadWrite},
		},
	}}
}

// quickPairs are what a calibration is about, and how files are copied.
func quickPairs() []pair {
	return []pair{
		{transmit.MsgZerocopy, transmit.Write}, {transmit.IoUringSendZC, transmit.Write},
		{transmit.MmapZerocopy, transmit.Sendfile}, {transmit.Splice, transmit.Sendfile}, {transmit.CopyFileRange, transmit.ReadWrite},
	}
}

// groups returns what is to be measured: every way that is asked for, with what it
// is compared to.
func (o *Options) groups() []group {
	var out []group
	for _, g := range allGroups() {
		if o.To != "" && g.to == transmit.ToFile {
			continue // no path is in it
		}
		var pairs []pair
		add := func(b transmit.Backend) {
			if !slices.Contains(g.ways, b) {
				g.ways = append(g.ways, b)
			}
		}
		for _, p := range g.pairs {
			if o.wants(p) {
				pairs = append(pairs, p)
				add(p.plain)
				add(p.way)
			} else if slices.Contains(o.Backends, p.plain) {
				add(p.plain)
			}
		}
		if g.pairs = pairs; len(g.ways) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// wants reports whether a pair is to be compared.
func (o *Options) wants(p pair) bool {
	switch {
	case len(o.Backends) > 0:
		return slices.Contains(o.Backends, p.way)
	case o.Quick:
		return slices.Contains(quickPairs(), p)
	}
	return true
}

// sizes returns the sizes that are measured first.
func (o *Options) sizes(g group) []int64 {
	if len(o.Sizes) > 0 {
		out := slices.Clone(o.Sizes)
		slices.Sort(out)
		return slices.Compact(out)
	}
	step := int64(2)
	switch {
	case o.Quick && g.to == transmit.ToFile:
		step = 16 // nobody chooses there by size
	case o.Quick:
		step = 4
	}
	var out []int64
	for n := int64(256); n <= 4<<20; n *= step {
		out = append(out, n)
	}
	return out
}

// A pace is how long things may take.
type pace struct {
	run    time.Duration // of one way once
	rounds int           // at a size that is measured first, in so many passes
	passes int
	refine int           // rounds at a size that is looked at for the sake of a crossover
	extra  int           // how many such looks there are for each crossover
	all    time.Duration // of everything; what is not measured by then is left out
}

// leastRounds is how many it takes for an interval.
const leastRounds = 6

// pace returns it. Quick ends in less than 10 seconds with setting up and clearing away.
// It goes through all sizes once, with as few rounds as make an interval, and spends the
// rest of the time near the crossings.
func (o *Options) pace() pace {
	switch {
	case o.own != nil:
		return *o.own
	case o.Quick && o.To == "":
		return pace{run: 2500 * time.Microsecond, rounds: leastRounds, passes: 1, refine: 8, extra: 200, all: 8 * time.Second}
	case o.Quick:
		return pace{run: 4 * time.Millisecond, rounds: leastRounds, passes: 1, refine: 8, extra: 200, all: 8 * time.Second}
	}
	return pace{run: 15 * time.Millisecond, rounds: 12, passes: 2, refine: 12, extra: 10, all: 3 * time.Minute}
}

var heats = []transmit.CacheState{transmit.CacheHot, transmit.CacheCold}
