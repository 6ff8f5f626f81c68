package bench

import (
	"cmp"
	"math"
	"slices"

	"github.com/zcprobe/zcprobe/internal/benchpair"
)

// A point is the ratio of the CPU time of two ways at one size: below 1 the first
// is cheaper.
type point struct {
	size   int64
	rounds int // of which it is the ratio
	ratio  benchpair.Estimate
}

// never is a size that no send has.
const never = math.MaxInt64

// bias is how far a ratio may be off from one run of the program to the next
// without any of its rounds showing it: where memory happens to lie, and which
// threads the runtime happens to have. The intervals of crossovers take it in.
const bias = 0.02

// A crossing is where a ratio comes below 1 for good; sizes of sends, or never. 0
// is below the smallest that was measured.
type crossing struct{ bytes, low, high int64 }

// crossingOf finds it. The best guess is where the medians cross for the last time;
// the low end is where the first way is no longer surely dearer, the high end where
// it begins to be surely cheaper.
func crossingOf(points []point) crossing {
	points = slices.SortedFunc(slices.Values(points), func(a, b point) int { return cmp.Compare(a.size, b.size) })
	at := func(of func(benchpair.Estimate) float64) int64 {
		curve := make([]float64, len(points))
		for i, p := range points {
			curve[i] = of(p.ratio)
		}
		return lastCrossing(points, curve)
	}
	c := crossing{
		bytes: at(func(e benchpair.Estimate) float64 { return e.Median }),
		low:   at(func(e benchpair.Estimate) float64 { return e.Low * (1 - bias) }),
		high:  at(func(e benchpair.Estimate) float64 { return e.High * (1 + bias) }),
	}
	// Curves that are not monotonic can cross in another order than their heights.
	c.low, c.high = min(c.low, c.bytes), max(c.high, c.bytes)
	return c
}

// lastCrossing returns the size from which on a curve of ratios stays below 1: on a
// line over the logarithms between the last size that is not below and the next.
func lastCrossing(points []point, curve []float64) int64 {
	last := -1
	for i, v := range curve {
		if !(v < 1) { // NaN, too: it is not known to be below
			last = i
		}
	}
	switch {
	case len(points) == 0 || last == len(points)-1:
		return never
	case last < 0:
		return 0
	}
	a, b := math.Log(curve[last]), math.Log(curve[last+1])
	from, to := math.Log(float64(points[last].size)), math.Log(float64(points[last+1].size))
	share := 1.0 // of the way from one size to the next
	if d := a - b; d > 0 && !math.IsInf(d, 0) {
		share = a / d
	}
	return int64(math.Round(math.Exp(from + share*(to-from))))
}
