package benchpair

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// named returns ways that note their names.
func named(log *strings.Builder, names ...string) []Way {
	var ways []Way
	for _, name := range names {
		ways = append(ways, func(context.Context) (Sample, error) {
			log.WriteString(name)
			return Sample{Bytes: int64(log.Len()), Elapsed: time.Second}, nil
		})
	}
	return ways
}

func TestRoundsTakeTurns(t *testing.T) {
	for _, c := range []struct {
		names  []string
		rounds int
		want   string
	}{
		{[]string{"A"}, 3, "AAA"},
		{[]string{"A", "B"}, 4, "ABBAABBA"},
		{[]string{"A", "B", "C"}, 7, "ABCBCACAB" + "CBABACACB" + "ABC"},
	} {
		var log strings.Builder
		samples, err := Rounds(t.Context(), c.rounds, named(&log, c.names...)...)
		if err != nil {
			t.Fatal(err)
		}
		if log.String() != c.want {
			t.Errorf("%s, want %s", &log, c.want)
		}
		// Bytes say when a sample was taken: it must be the way's own, and of
		// its round.
		for way, all := range samples {
			if len(all) != c.rounds {
				t.Fatalf("%d samples of way %s", len(all), c.names[way])
			}
			for round, s := range all {
				if got := c.want[s.Bytes-1]; got != c.names[way][0] || int(s.Bytes-1)/len(c.names) != round {
					t.Errorf("round %d of %s: sample %d of %s", round, c.names[way], s.Bytes, c.want)
				}
			}
		}
	}
}

func TestRoundsEnd(t *testing.T) {
	broken := errors.New("broken")
	good := Sample{Bytes: 1, Elapsed: 1}
	ctx, cancel := context.WithCancelCause(t.Context())
	for _, c := range []struct {
		name string
		way  Way
		want error
	}{
		{"a way fails", func(context.Context) (Sample, error) { return good, broken }, broken},
		{"nothing was moved", func(context.Context) (Sample, error) { return Sample{Elapsed: 1}, nil }, nil},
		{"in no time", func(context.Context) (Sample, error) { return Sample{Bytes: 1}, nil }, nil},
		{"the context ends", func(context.Context) (Sample, error) { cancel(broken); return good, nil }, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs := 0
			count := func(ctx context.Context) (Sample, error) { runs++; return c.way(ctx) }
			samples, err := Rounds(ctx, 5, count)
			if err == nil || samples != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, %v", samples, err)
			}
			if runs != 1 {
				t.Errorf("it went on, to %d runs", runs)
			}
		})
	}
}

// TestCompareIsPaired has a machine that gets ten times slower and faster, and a
// way that is always 20 % better than the other: only the ratio within a round
// can tell.
func TestCompareIsPaired(t *testing.T) {
	var a, b []Sample
	for _, drift := range []time.Duration{1, 10, 2, 9, 3, 8, 4, 7, 5, 6} {
		b = append(b, Sample{Bytes: 1e9, Elapsed: drift * 6 * time.Second, CPU: drift * 3 * time.Second})
		a = append(a, Sample{Bytes: 1e9, Elapsed: drift * 5 * time.Second, CPU: drift * 2 * time.Second})
	}
	got := Compare(a, b)
	for _, c := range []struct {
		name string
		got  Estimate
		want float64
	}{
		{"throughput", got.Throughput, 1.2},
		{"CPU per byte", got.CPUPerByte, 2. / 3},
	} {
		for _, v := range []float64{c.got.Median, c.got.Low, c.got.High} {
			if math.Abs(v-c.want) > 1e-12 {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
	}
	if got := Throughput(a); math.Abs(got.Median-1e9/27.5) > 1e6 {
		t.Errorf("throughput %v", got)
	}
	if got := CPUPerByte(b); math.Abs(got.Median-16.5) > 1e-9 || got.Low != 6 || got.High != 27 {
		t.Errorf("CPU %v ns/B", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("samples without a partner were compared")
		}
	}()
	Compare(a, b[1:])
}
