package benchpair

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestInterval(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		name   string
		values []float64
		want   Estimate
	}{
		{"one", []float64{3}, Estimate{3, -inf, inf}},
		{"even", []float64{4, 1, 2, 3}, Estimate{2.5, -inf, inf}},
		{"five are too few", []float64{5, 4, 3, 2, 1}, Estimate{3, -inf, inf}},
		{"six", []float64{6, 5, 4, 3, 2, 1}, Estimate{3.5, 1, 6}},
		{"ten", []float64{10, 1, 9, 2, 8, 3, 7, 4, 6, 5}, Estimate{5.5, 2, 9}},
		{"an outlier on either side", []float64{-1e9, 1, 1, 1, 1, 1, 1, 1, 1, 1e9}, Estimate{1, 1, 1}},
		{"twenty", []float64{20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, Estimate{10.5, 6, 15}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := append([]float64(nil), c.values...)
			if got := Interval(c.values); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			for i := range before {
				if before[i] != c.values[i] {
					t.Fatal("the values were moved")
				}
			}
		})
	}
	if got := Interval(nil); !math.IsNaN(got.Median) {
		t.Errorf("the median of nothing is %v", got)
	}
}

// TestRank compares with sums of exact binomial coefficients, and with the
// published ranks for 95 % (the sign test's).
func TestRank(t *testing.T) {
	published := map[int]int{5: 0, 6: 1, 8: 1, 9: 2, 11: 2, 12: 3, 14: 3, 15: 4, 16: 4, 17: 5, 20: 6, 25: 8, 30: 10, 40: 14, 50: 18, 100: 40}
	for n, want := range published {
		if got := rank(n); got != want {
			t.Errorf("rank(%d) = %d, want %d", n, got, want)
		}
	}
	for n := 1; n <= 60; n++ {
		row := []uint64{1} // of Pascal's triangle
		for range n {
			next := make([]uint64, len(row)+1)
			for i, v := range row {
				next[i] += v
				next[i+1] += v
			}
			row = next
		}
		var fewer uint64 // ways to get fewer than k heads
		k := 0
		for 2*float64(fewer+row[k]) <= 0.05*math.Exp2(float64(n)) {
			fewer += row[k]
			k++
		}
		if got := rank(n); got != k {
			t.Errorf("rank(%d) = %d, want %d", n, got, k)
		}
	}
	// Far from where 2^-n is a number; the normal approximation is good there.
	n := 1_000_000
	if got, want := rank(n), float64(n)/2-0.979982*math.Sqrt(float64(n)); math.Abs(float64(got)-want) > 2 {
		t.Errorf("rank(%d) = %d, want about %.0f", n, got, want)
	}
}

// TestCoverage draws from a distribution that is anything but normal and counts
// how often the interval holds its median.
func TestCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const draws = 20_000
	for _, n := range []int{6, 10, 21} {
		held := 0
		for range draws {
			values := make([]float64, n)
			for i := range values {
				values[i] = math.Exp(2 * random.NormFloat64()) // its median is 1
			}
			if e := Interval(values); e.Low <= 1 && 1 <= e.High {
				held++
			}
		}
		// Three standard deviations of the count are 0.5 % of the draws.
		if share := float64(held) / draws; share < Confidence-0.005 || share > 0.99 {
			t.Errorf("of %d values the interval held the median in %.1f %% of the draws", n, 100*share)
		}
	}
}

func TestLimits(t *testing.T) {
	e := Estimate{Median: 1, Low: 0.9, High: 1.2}
	for _, c := range []struct {
		name         string
		f            func(float64) (bool, bool)
		limit        float64
		median, sure bool
	}{
		{"at least, below all", e.AtLeast, 0.9, true, true},
		{"at least, below the median", e.AtLeast, 0.95, true, false},
		{"at least, above the median", e.AtLeast, 1.1, false, false},
		{"at most, above all", e.AtMost, 1.2, true, true},
		{"at most, above the median", e.AtMost, 1.1, true, false},
		{"at most, below the median", e.AtMost, 0.95, false, false},
		{"no interval", Interval([]float64{1}).AtLeast, 0.5, true, false},
		{"no values", Interval(nil).AtMost, 1, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if median, sure := c.f(c.limit); median != c.median || sure != c.sure {
				t.Errorf("got %v, %v, want %v, %v", median, sure, c.median, c.sure)
			}
		})
	}
}
