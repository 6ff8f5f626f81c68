package benchpair

import (
	"context"
	"fmt"
	"time"
)

// A Sample is what one run of a way did and took.
type Sample struct {
	Bytes   int64
	Elapsed time.Duration
	CPU     time.Duration
}

// Throughput returns bytes per second.
func (s Sample) Throughput() float64 { return float64(s.Bytes) / s.Elapsed.Seconds() }

// CPUPerByte returns CPU time in nanoseconds per byte, which is seconds per GB.
func (s Sample) CPUPerByte() float64 { return float64(s.CPU) / float64(s.Bytes) }

// A Way does the work once.
type Way func(context.Context) (Sample, error)

// Rounds runs each way once per round and returns the samples of each way in the
// order of the rounds: samples[way][round]. Round r begins with way r, so that
// over as many rounds as there are ways none is always first, or always after the
// same. It ends with the first error, or when the context does.
func Rounds(ctx context.Context, rounds int, ways ...Way) ([][]Sample, error) {
	samples := make([][]Sample, len(ways))
	for r := range rounds {
		for i := range ways {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			// Every second turn through the orders goes backwards: with two
			// ways AB BA, with three ABC BCA CAB and then CBA BAC ACB.
			at := (r + i) % len(ways)
			if len(ways) > 2 && r/len(ways)%2 == 1 {
				at = len(ways) - 1 - at
			}
			s, err := ways[at](ctx)
			if err != nil {
				return nil, fmt.Errorf("round %d, way %d: %w", r+1, at+1, err)
			}
			if s.Bytes <= 0 || s.Elapsed <= 0 {
				return nil, fmt.Errorf("round %d, way %d: %d bytes in %v", r+1, at+1, s.Bytes, s.Elapsed)
			}
			samples[at] = append(samples[at], s)
		}
	}
	return samples, nil
}

// A Comparison says how one way did against another.
type Comparison struct {
	Throughput Estimate // ratio; above 1 the first is faster
	CPUPerByte Estimate // ratio; below 1 the first needs less
}

// Compare compares two ways by the ratios within their rounds. It panics if they
// have not run equally often.
func Compare(a, b []Sample) Comparison {
	return Comparison{
		Throughput: ratio(a, b, Sample.Throughput),
		CPUPerByte: ratio(a, b, Sample.CPUPerByte),
	}
}

func ratio(a, b []Sample, of func(Sample) float64) Estimate {
	if len(a) != len(b) {
		panic(fmt.Sprintf("benchpair: %d samples against %d", len(a), len(b)))
	}
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = of(a[i]) / of(b[i])
	}
	return Interval(ratios)
}

// Throughput returns the bytes per second of a way.
func Throughput(samples []Sample) Estimate { return each(samples, Sample.Throughput) }

// CPUPerByte returns the nanoseconds per byte of a way.
func CPUPerByte(samples []Sample) Estimate { return each(samples, Sample.CPUPerByte) }

func each(samples []Sample, of func(Sample) float64) Estimate {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return Interval(values)
}
