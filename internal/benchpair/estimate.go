package benchpair

import (
	"fmt"
	"math"
	"slices"
)

// Confidence is the least with which an interval holds the true median.
const Confidence = 0.95

// An Estimate is the median of what was measured, and an interval for the median
// of what could have been.
type Estimate struct {
	Median    float64
	Low, High float64 // -Inf and +Inf if there are too few values for an interval
}

// String returns the median and the interval: "0.993 [0.981, 1.004]".
func (e Estimate) String() string {
	return fmt.Sprintf("%.3f [%.3f, %.3f]", e.Median, e.Low, e.High)
}

// AtLeast reports whether the median is, and whether the whole interval is.
func (e Estimate) AtLeast(limit float64) (median, surely bool) {
	return e.Median >= limit, e.Low >= limit
}

// AtMost reports whether the median is, and whether the whole interval is.
func (e Estimate) AtMost(limit float64) (median, surely bool) {
	return e.Median <= limit, e.High <= limit
}

// Interval returns the median of independent values of one kind and its interval
// of [Confidence]. Without values the median is NaN.
//
// The interval goes from the k-th smallest value to the k-th largest. It misses
// the true median only if fewer than k values are on one side of it, and that is
// as likely as fewer than k heads in n tosses of a coin, twice. k is the largest
// with which this is no more likely than 5 %: 1 from 6 values on, 2 from 9, 3 from
// 12, 6 of 20.
func Interval(values []float64) Estimate {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	e := Estimate{Median: math.NaN(), Low: math.Inf(-1), High: math.Inf(1)}
	if n == 0 {
		return e
	}
	e.Median = (sorted[(n-1)/2] + sorted[n/2]) / 2
	if k := rank(n); k > 0 {
		e.Low, e.High = sorted[k-1], sorted[n-k]
	}
	return e
}

// rank returns the k of Interval for n values, 0 if there are too few.
func rank(n int) int {
	heads := func(k int) float64 { // how likely k heads in n tosses are
		logFactorial := func(m int) float64 { l, _ := math.Lgamma(float64(m) + 1); return l }
		return math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) - float64(n)*math.Ln2)
	}
	k := 0
	for fewer := heads(0); 2*fewer <= 1-Confidence; fewer += heads(k) {
		k++
	}
	return k
}
