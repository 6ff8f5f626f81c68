package bench

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
)

// flat is a ratio that is known exactly.
func flat(v float64) benchpair.Estimate { return benchpair.Estimate{Median: v, Low: v, High: v} }

func TestCrossingOf(t *testing.T) {
	const k = 1 << 10
	wide := func(low, mid, high float64) benchpair.Estimate {
		return benchpair.Estimate{Median: mid, Low: low, High: high}
	}
	for _, c := range []struct {
		name             string
		points           []point
		bytes, low, high int64
	}{
		{"nothing", nil, never, never, never},
		{"always cheaper", []point{{4 * k, 9, flat(.5)}, {64 * k, 9, flat(.4)}}, 0, 0, 0},
		{"always dearer", []point{{4 * k, 9, flat(1.5)}, {4 << 20, 9, flat(1.4)}}, never, never, never},
		{"dearer as far as is known", []point{{4 * k, 9, flat(1.5)}, {64 * k, 9, flat(1.4)}}, never, 64 * k, never},
		// Half way in the logarithms of both: between 4 and 64 KiB that is 16 KiB.
		{"half way", []point{{4 * k, 9, wide(1.9, 2, 2.1)}, {64 * k, 9, wide(.4, .5, .6)}}, 16 * k, 12 * k, 22 * k},
		{"in any order", []point{{64 * k, 9, wide(.4, .5, .6)}, {4 * k, 9, wide(1.9, 2, 2.1)}}, 16 * k, 12 * k, 22 * k},
		{"not surely cheaper at the end", []point{{4 * k, 9, wide(1.5, 2, 3)}, {64 * k, 9, wide(.4, .5, 1.1)}}, 16 * k, 9 * k, never},
		{"not surely dearer at the start", []point{{4 * k, 9, wide(.5, 2, 3)}, {64 * k, 9, wide(.4, .5, .6)}}, 16 * k, 0, 32 * k},
		{"nothing is sure", []point{{4 * k, 9, wide(.5, 2, 3)}, {64 * k, 9, wide(.5, 1.01, 2)}}, never, 0, never},
		// What rises between is noise: the two in the middle cost the same, which is as
		// much as the other way. The interval goes from where it is surely below for the
		// first time to where it surely stays so.
		{"crosses thrice", []point{{1 * k, 9, flat(2)}, {4 * k, 9, flat(.5)}, {16 * k, 9, flat(2)}, {64 * k, 9, flat(.5)}}, 16 * k, 2 * k, 33 * k},
		{"crosses thrice, mostly below", []point{{1 * k, 9, flat(2)}, {4 * k, 9, flat(.4)}, {16 * k, 9, flat(1.1)}, {64 * k, 9, flat(.2)}}, 1778, 1778, 18 * k},
		{"crosses thrice, badly known above", []point{{1 * k, 9, flat(2)}, {4 * k, 9, flat(.5)}, {16 * k, 9, wide(.5, 2, 6)}, {64 * k, 9, flat(.5)}}, 2 * k, 2 * k, 2 * k},
		// A line takes in what is around: 16 KiB, though the two in the middle cross at 23.
		{"a line", []point{{4 * k, 9, flat(2)}, {8 * k, 9, flat(1.33)}, {16 * k, 9, flat(1.1)}, {32 * k, 9, flat(.9)}, {64 * k, 9, flat(.5)}}, 19 * k, 19 * k, 26 * k},
		// What happened at one size is not what decides.
		{"a size that is off", []point{{1 * k, 9, flat(.05)}, {2 * k, 9, flat(1.5)}, {4 * k, 9, flat(1.4)}, {8 * k, 9, flat(1.2)}, {16 * k, 9, flat(.8)}, {64 * k, 9, flat(.5)}}, 11 * k, 0, 11 * k},
		{"no number", []point{{4 * k, 9, flat(2)}, {64 * k, 9, flat(math.NaN())}}, never, 64 * k, never},
		{"no interval", []point{{4 * k, 9, benchpair.Interval([]float64{2})}, {64 * k, 9, benchpair.Interval([]float64{.5})}}, 16 * k, 0, never},
		{"equal at a size", []point{{4 * k, 9, flat(1)}, {64 * k, 9, flat(.5)}}, 4 * k, 0, 5 * k},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := crossingOf(c.points)
			near := func(got, want int64) bool {
				if want == never || want == 0 || got == never {
					return got == want
				}
				return math.Abs(float64(got)/float64(want)-1) < 0.15
			}
			if !near(got.bytes, c.bytes) || !near(got.low, c.low) || !near(got.high, c.high) {
				t.Errorf("got %d [%d, %d], want %d [%d, %d]", got.bytes, got.low, got.high, c.bytes, c.low, c.high)
			}
			if got.low > got.bytes || got.bytes > got.high {
				t.Errorf("%d is not from %d to %d", got.bytes, got.low, got.high)
			}
		})
	}
}

// A machine is one on which two ways cost what a formula says, with noise.
type machine struct {
	random *rand.Rand
	noise  float64 // of each run
	burst  float64 // how likely another process takes a run's caches away
}

// ns returns the cost of one send: a call, and for each byte.
func (m *machine) sample(call, perByte float64, size int64) benchpair.Sample {
	ns := (call + perByte*float64(size)) * math.Exp(m.noise*m.random.NormFloat64())
	if m.random.Float64() < m.burst {
		ns *= 1 + 3*m.random.Float64()
	}
	const sends = 1000
	return benchpair.Sample{Bytes: sends * size, CPU: time.Duration(sends * ns), Elapsed: time.Duration(sends * ns)}
}

// run measures the two ways as a bench does.
func (m *machine) run(sizes []int64, rounds int) crossing {
	var points []point
	for _, size := range sizes {
		var zero, plain []benchpair.Sample
		for range rounds {
			zero = append(zero, m.sample(2500, 0.03, size))
			plain = append(plain, m.sample(2000, 0.06, size))
		}
		points = append(points, point{size, rounds, benchpair.Compare(zero, plain).CPUPerByte})
	}
	return crossingOf(points)
}

// The crossing of 2500 + 0.03 n and 2000 + 0.06 n is 16,667 bytes, and the intervals
// hold it nearly always, whatever the noise; noise makes them wider.
func TestIntervalsHoldTheTruth(t *testing.T) {
	const truth, runs = 16_667, 300
	sizes := []int64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}
	width := 0.0
	for _, c := range []struct {
		name         string
		noise, burst float64
	}{{"quiet", 0.02, 0}, {"noisy", 0.10, 0}, {"disturbed", 0.10, 0.2}} {
		t.Run(c.name, func(t *testing.T) {
			m := &machine{rand.New(rand.NewPCG(3, 4)), c.noise, c.burst}
			held, overlap, sum := 0, 0, 0.0
			first := m.run(sizes, 10)
			for range runs {
				got := m.run(sizes, 10)
				if got.low <= truth && truth <= got.high {
					held++
				}
				if got.low <= first.high && first.low <= got.high {
					overlap++
				}
				sum += math.Log(float64(min(got.high, 64<<20)) / float64(max(got.low, 64)))
			}
			if held < runs*90/100 || overlap < runs*90/100 {
				t.Errorf("of %d intervals %d hold the truth and %d overlap with the first", runs, held, overlap)
			}
			if sum <= width {
				t.Errorf("intervals are no wider than with less noise: %v after %v", sum/runs, width/runs)
			}
			width = sum
		})
	}
}

func FuzzCrossingOf(f *testing.F) {
	f.Add(int64(1), 1.0, 1.0, 1.0, int64(2), 0.5, 0.5, 0.5)
	f.Add(int64(4096), 0.9, 1.1, math.Inf(1), int64(8192), math.Inf(-1), math.NaN(), 2.0)
	f.Fuzz(func(t *testing.T, s1 int64, l1, m1, h1 float64, s2 int64, l2, m2, h2 float64) {
		if s1 < LeastBytes || s2 < LeastBytes || s1 > MostBytes || s2 > MostBytes || s1 == s2 {
			return
		}
		c := crossingOf([]point{{s1, 9, benchpair.Estimate{Median: m1, Low: l1, High: h1}}, {s2, 9, benchpair.Estimate{Median: m2, Low: l2, High: h2}}})
		for _, n := range []int64{c.low, c.bytes, c.high} {
			if n != never && n != 0 && (n < min(s1, s2) || n > max(s1, s2)) {
				t.Errorf("%d is not from %d to %d", n, s1, s2)
			}
		}
		if c.low > c.bytes || c.bytes > c.high {
			t.Errorf("%+v", c)
		}
	})
}
