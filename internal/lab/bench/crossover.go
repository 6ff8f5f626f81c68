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
// threads the runtime happens to have. The intervals of crossovers take it in. At the
// sizes that a quick run found, a longer one has seen ratios of up to 1.08.
const bias = 0.05

// farEnough is the size beyond which costs are all for bytes: what is dearer there is
// dearer at any size. It is the largest that is measured unless another is asked for.
const farEnough = 4 << 20

// A crossing is where a ratio comes below 1 for good; sizes of sends, or never. 0
// is below the smallest that was measured.
type crossing struct{ bytes, low, high int64 }

// crossingOf finds it. The best guess is where a line through the ratios near the
// crossing comes to 1, see near. The low end is where the first way is no longer surely
// dearer, the high end where it begins to be surely cheaper. All curves are made to fall
// with the size first: the last of several crossings of what is only noise would be too
// far up. A size at which by itself the answer is sure, and another one, is in the
// interval all the same.
func crossingOf(points []point) crossing {
	points = slices.SortedFunc(slices.Values(points), func(a, b point) int { return cmp.Compare(a.size, b.size) })
	least := func(e benchpair.Estimate) float64 { return e.Low * (1 - bias) }
	most := func(e benchpair.Estimate) float64 { return e.High * (1 + bias) }
	at := func(of func(benchpair.Estimate) float64) int64 { return lastCrossing(points, falling(points, of)) }
	c := crossing{low: at(least), high: at(most), bytes: near(points, at(func(e benchpair.Estimate) float64 { return e.Median }))}
	c.low = min(c.low, c.bytes, firstCrossing(points, each(points, most)))
	if dearer := lastCrossing(points, each(points, least)); dearer > 0 {
		c.high = max(c.high, dearer)
	}
	c.high = max(c.high, c.bytes)
	if n := len(points); n > 0 && c.low == never && points[n-1].size < farEnough {
		c.low = points[n-1].size // of what is larger nothing is known
	}
	return c
}

// near returns where a line through the ratios of sizes around a crossing comes to 1,
// over the logarithms, each by how well it is known and how near it is. A line takes in
// all that was measured there, of which the points beside the crossing are a part. Where
// there is no such line the crossing itself is returned.
func near(points []point, at int64) int64 {
	if at == never || at == 0 {
		return at
	}
	var w, x, y, xx, xy float64
	n, from, to := 0, int64(0), int64(0)
	for _, p := range points {
		d := math.Log(float64(p.size) / float64(at))
		share := 1 - math.Abs(d)/math.Log(reach)
		r := math.Log(p.ratio.Median)
		if share <= 0 || math.IsNaN(r) || math.IsInf(r, 0) {
			continue
		}
		if n++; from == 0 {
			from = p.size
		}
		to = p.size
		v := share * p.weight()
		w, x, y, xx, xy = w+v, x+v*d, y+v*r, xx+v*d*d, xy+v*d*r
	}
	spread := w*xx - x*x
	if n < 3 || !(spread > 1e-9*w*w) {
		return at
	}
	slope := (w*xy - x*y) / spread
	if !(slope < 0) {
		return at
	}
	d := -(y - slope*x) / w / slope
	if crossed := int64(math.Round(float64(at) * math.Exp(d))); math.Abs(d) < math.Log(reach) && from <= crossed && crossed <= to {
		return crossed
	}
	return at
}

// reach is how many times larger, or smaller, than the crossing a size is that tells
// nothing more of it.
const reach = 6

// falling returns the curve that comes closest to what of says of the ratios and never
// rises: where they do, the points take their mean, of the logarithms and by how well
// they are known (isotonic regression, by pooling adjacent violators). In such means no
// logarithm counts more than far: one size at which a machine did something else for a
// while is not to decide about all that are larger.
func falling(points []point, of func(benchpair.Estimate) float64) []float64 {
	type block struct {
		sum, weight float64
		n           int
	}
	var blocks []block
	for _, p := range points {
		w := p.weight()
		b := block{min(max(math.Log(of(p.ratio)), -far), far) * w, w, 1}
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
		if b.n == 1 {
			curve = append(curve, of(points[len(curve)].ratio))
			continue
		}
		curve = append(curve, slices.Repeat([]float64{math.Exp(b.sum / b.weight)}, b.n)...)
	}
	return curve
}

// far is the logarithm of a ratio that is far from 1: of 5 to 3.
const far = 0.5

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

func each(points []point, of func(benchpair.Estimate) float64) []float64 {
	var out []float64
	for _, p := range points {
		out = append(out, of(p.ratio))
	}
	return out
}

// firstCrossing returns the size from which on a curve of ratios is below 1 for the first
// time.
func firstCrossing(points []point, curve []float64) int64 {
	i := slices.IndexFunc(curve, func(v float64) bool { return v < 1 })
	if i < 0 {
		return never
	}
	return lastCrossing(points[:i+1], curve[:i+1])
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
