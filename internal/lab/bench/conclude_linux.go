package bench

import (
	"fmt"
	"math"
	"slices"

	"github.com/zcprobe/zcprobe/transmit"
)

const (
	rarely = 3    // of so many turns one looks closer at ways that cost about the same
	little = 0.25 // by which their ratio is off 1 at any size
)

// alike reports whether two ways cost about the same at all sizes.
func alike(points []point) bool {
	return !slices.ContainsFunc(points, func(p point) bool { return math.Abs(p.ratio.Median-1) > little })
}

// nextSize returns the size at which a measurement would tell most about where a
// pair crosses, 0 if none would.
func nextSize(points []point, c crossing) int64 {
	if len(points) == 0 {
		return 0
	}
	if c.bytes == never || c.bytes == 0 {
		return unsureSize(points, c)
	}
	apart := func(p point, n int64) float64 { return math.Abs(math.Log(float64(p.size) / float64(n))) }
	// Where it seems to cross, then half way to the ends of its interval.
	for _, n := range []int64{roundSize(c.bytes), roundSize(geometric(c.low, c.bytes)), roundSize(geometric(c.bytes, c.high))} {
		if n > 0 && !slices.ContainsFunc(points, func(p point) bool { return apart(p, n) < math.Log(closest) }) {
			return n
		}
	}
	// All of these are known: the one of the two beside the crossing of which less is.
	var below, above *point
	for i := range points {
		p := &points[i]
		if p.size <= c.bytes && (below == nil || p.size > below.size) {
			below = p
		}
		if p.size > c.bytes && (above == nil || p.size < above.size) {
			above = p
		}
	}
	switch {
	case below == nil || above == nil:
		return 0
	case below.rounds < above.rounds:
		return below.size
	}
	return above.size
}

// unsureSize returns the size of which least is known of those where the answer, that one
// way is better at all of them, is not sure; 0 if it is everywhere.
func unsureSize(points []point, c crossing) int64 {
	if c.bytes == never && c.low == never || c.bytes == 0 && c.high == 0 {
		return 0
	}
	var least *point
	for i := range points {
		p := &points[i]
		if p.size >= c.low && p.size <= c.high && (least == nil || p.rounds < least.rounds) {
			least = p
		}
	}
	if least == nil {
		return 0
	}
	return least.size
}

// closest is the ratio of two sizes between which no third is looked at.
const closest = 1.19 // the fourth root of 2

// geometric returns the size half way between two, 0 where there is none.
func geometric(a, b int64) int64 {
	if a <= 0 || b == never {
		return 0
	}
	return int64(math.Sqrt(float64(a) * float64(b)))
}

// roundSize makes a size of whole pages, or of 256 bytes below some pages.
func roundSize(n int64) int64 {
	step := int64(256)
	if n >= 16<<10 {
		step = 4 << 10
	}
	return max((n+step/2)/step*step, min(n, step))
}

// size is how a report says a size; nil is never.
func sizeOrNever(n int64) *int64 {
	if n == never {
		return nil
	}
	return &n
}

// crossover makes the entry of a report of the points of a pair.
func crossover(g group, heat transmit.CacheState, p pair, points []point) Crossover {
	c := crossingOf(points)
	return Crossover{
		Backend: p.way, Against: p.plain, Source: g.source, To: g.to, Cache: heat,
		Bytes: sizeOrNever(c.bytes), LowBytes: sizeOrNever(c.low), HighBytes: sizeOrNever(c.high),
		Detail: c.words(points),
	}
}

func (c crossing) words(points []point) string {
	least, most := points[0].size, points[0].size
	for _, p := range points {
		least, most = min(least, p.size), max(most, p.size)
	}
	switch {
	case c.low == never:
		return fmt.Sprintf("It is dearer at every size up to %d bytes.", most)
	case c.bytes == never:
		return fmt.Sprintf("It is not cheaper at any size up to %d bytes, though not surely dearer.", most)
	case c.high == 0:
		return fmt.Sprintf("It is cheaper at every size from %d bytes on.", least)
	case c.high == never:
		return fmt.Sprintf("It seems cheaper from here on, but not surely so up to %d bytes.", most)
	}
	return "It is cheaper from here on."
}

// report makes the report of what was measured.
func (x *bench) report() *Report {
	r := &Report{Schema: Schema, Path: x.o.To, Quick: x.o.Quick, Would: []string{}, Results: []Result{}, Crossovers: []Crossover{},
		Skipped: x.skipped, Counted: x.track.counted, NotCounted: x.track.notCounted}
	if r.Path == "" {
		r.Path = PathLab
	}
	if r.Skipped == nil {
		r.Skipped = []Skipped{}
	}
	r.Results = x.results()
	for _, one := range r.Results {
		x.noise.all++
		if one.CIHigh-one.CILow > muchSpread*one.CPUNSPerByte {
			x.noise.wide++
		}
	}
	x.conclude(r)
	r.Disturbances = x.noise.sentences()
	if x.left > 0 {
		r.Disturbances = append(r.Disturbances, fmt.Sprintf("There was no time for %d measurements: the machine or the path is slow.", x.left))
	}
	r.sort()
	return r
}

// results sums up every way at every size. Sizes where ways cross were measured
// several times, against different ways.
func (x *bench) results() []Result {
	out := []Result{}
	done := map[Result]bool{}
	for _, c := range x.cells {
		for _, s := range c.samples {
			key := Result{Source: c.g.source, To: c.g.to, Cache: c.heat, SizeBytes: c.size, Backend: s.backend}
			if done[key] {
				continue
			}
			done[key] = true
			all := sample{backend: s.backend}
			for _, other := range x.cells {
				if t := other.of(s.backend); t != nil && other.heat == c.heat && other.size == c.size && other.g.source == c.g.source && other.g.to == c.g.to {
					all.runs = append(all.runs, t.runs...)
					all.moved.add(t.moved)
				}
			}
			if len(all.runs) < leastRounds {
				continue // there was no time for more
			}
			out = append(out, all.result(c.g, c.heat, c.size))
		}
	}
	return out
}

// copied is how much of what ways lent the kernel said it copied, the mean of all that
// was measured. What was not lent, as option memory ran out, is not in it.
func (x *bench) copied() float64 {
	sum, n := 0.0, 0
	for _, c := range x.cells {
		for _, s := range c.samples {
			if s.moved.lends > 0 {
				sum += float64(s.moved.copied) / float64(s.moved.lends)
				n++
			}
		}
	}
	return sum / float64(max(n, 1))
}

// conclude fills in the crossovers, where there can be any.
func (x *bench) conclude(r *Report) {
	copied, why := x.copied(), x.track.local
	r.LentCopiedFraction = copied
	if why != "" {
		r.Conclusion = "No crossover can be concluded: " + why + "."
		return
	}
	for _, g := range x.o.groups() {
		for _, heat := range heats {
			for _, p := range g.pairs {
				if points := x.points(g, heat, p); len(points) > 1 {
					r.Crossovers = append(r.Crossovers, crossover(g, heat, p, points))
				}
			}
		}
	}
	r.Conclusive = len(r.Crossovers) > 0
	switch {
	case r.Path == PathLab && copied > MostCopied:
		r.Conclusive, r.Crossovers = false, []Crossover{}
		r.Conclusion = fmt.Sprintf("No crossover can be concluded: %.0f %% of what was lent was copied in the laboratory, as by a packet tap on all devices.", copied*100)
	case !r.Conclusive:
		r.Conclusion = "No crossover can be concluded: no way was measured against a plain one at more than one size."
	case copied > MostCopied:
		r.Conclusion = fmt.Sprintf("Of what is lent %.0f %% is copied on this path, and the crossovers are those of that.", copied*100)
	case r.Path == PathLab:
		r.Conclusion = "A network card needs at least these sizes: the laboratory has no DMA mapping, no IOMMU and no interrupts."
	default:
		r.Conclusion = "These are the sizes for this path."
	}
}
