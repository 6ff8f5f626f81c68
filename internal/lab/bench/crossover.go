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

// farEnough is the size beyond which costs are all for bytes: what is dearer there is
// dearer at any size. It is the largest that is measured unless another is asked for.
const farEnough = 4 << 20

// A crossing is where a ratio comes below 1 for good; sizes of sends, or never. 0
// is below the smallest that was measured.
type crossing struct{ bytes, low, high int64 }

// crossingOf finds it. The best guess is where the medians cross, once they are made to
// fall with the size: the last of several crossings of what is only noise would be too
// far up. The low end is where the first way is no longer surely dearer, the high end
// where it begins to be surely cheaper.
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
		bytes: lastCrossing(points, falling(points)),
		low:   at(func(e benchpair.Estimate) float64 { return e.Low * (1 - bias) }),
		high:  at(func(e benchpair.Estimate) float64 { return e.High * (1 + bias) }),
	}
	// Curves that are not monotonic can cross in another order than their heights.
	c.low, c.high = min(c.low, c.bytes), max(c.high, c.bytes)
	if n := len(points); n > 0 && c.low == never && points[n-1].size < farEnough {
		c.low = points[n-1].size // of what is larger nothing is known
	}
	return c
}

// falling returns the medians as the curve that comes closest to them and never rises:
// where they do, the points take their mean, of the logarithms and by how well they are
// known (isotonic regression, by pooling adjacent violators).
func falling(points []point) []float64 {
	type block struct {
		sum, weight float64
		n           int
	}
	var blocks []block
	for _, p := range points {
		w := p.weight()
		b := block{math.Log(p.ratio.Median) * w, w, 1}
		for len(blocks) > 0 {
			last := blocks[len(blocks)-1]
			if !(b.sum/b.weight > last.sum/last.weight) {
				break
			}
			b = block{b.sum + last.sum, b.weight + last.weight, b.n + last.n}
			blocks = blocks[:len(blocks)-1]
		}
		blocks = append(blocks, b)
	}
	var curve []float64
	for _, b := range blocks {
		curve = append(curve, slices.Repeat([]float64{math.Exp(b.sum / b.weight)}, b.n)...)
	}
	return curve
}

// weight is how well a ratio is known: the inverse of the square of its interval's
// width, which no interval is narrower than the bias for.
func (p point) weight() float64 {
	width := math.Log(p.ratio.High / p.ratio.Low)
	if !(width < mostWidth) { // NaN, too
		width = mostWidth
	}
	width = max(width, bias)
	return 1 / (width * width)
}

// mostWidth is the width of an interval that says nearly nothing: from a fifth to five.
const mostWidth = 3.2

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
