package transmit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
)

func TestAim(t *testing.T) {
	estimate := func(low, median, high float64) benchpair.Estimate {
		return benchpair.Estimate{Low: low, Median: median, High: high}
	}
	either := aim{throughput: 0.97, cpu: 1.05}
	both := aim{throughput: 2.5, cpu: 0.45, both: true}
	for _, c := range []struct {
		name            string
		aim             aim
		throughput, cpu benchpair.Estimate
		want            string
	}{
		{"fast", either, estimate(0.98, 1, 1.1), estimate(1.1, 1.2, 1.3), "yes"},
		{"thrifty", either, estimate(0.5, 0.6, 0.7), estimate(0.9, 1, 1.04), "yes"},
		{"fast by the median", either, estimate(0.9, 0.97, 1.1), estimate(1.1, 1.2, 1.3), "by the median"},
		{"neither", either, estimate(0.9, 0.96, 1.1), estimate(0.9, 1.06, 1.3), "**no**"},
		{"both", both, estimate(2.6, 2.7, 2.8), estimate(0.3, 0.35, 0.4), "yes"},
		{"one of both", both, estimate(2.6, 2.7, 2.8), estimate(0.4, 0.5, 0.6), "**no**"},
		{"both by the median", both, estimate(2.4, 2.7, 2.8), estimate(0.3, 0.35, 0.5), "by the median"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.aim.reached(benchpair.Comparison{Throughput: c.throughput, CPUPerByte: c.cpu}); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestTable adds a figure twice, as a benchmark runs twice: the last run counts.
func TestTable(t *testing.T) {
	f := figure{name: "f", by: []string{byLibrary, byC}, wanted: map[string]aim{byC: {throughput: 0.97, cpu: 1.05}}}
	run := func(elapsed time.Duration) []benchpair.Sample {
		return slices.Repeat([]benchpair.Sample{{Bytes: 1e9, Elapsed: elapsed, CPU: elapsed}}, 6)
	}
	var tab table
	if got := tab.String(); got != "" {
		t.Errorf("an empty table is %q", got)
	}
	tab.add(f, [][]benchpair.Sample{run(4 * time.Second), run(time.Second)})
	tab.add(f, [][]benchpair.Sample{run(time.Second), run(2 * time.Second)})
	lines := strings.Split(strings.TrimSpace(tab.String()), "\n")
	want := "| f | 1.00, 1.0000 | 0.50, 2.0000 | 2.000 [2.000, 2.000] | 0.500 [0.500, 0.500] | ≥ 0.97 or CPU ≤ 1.05: yes |"
	if got := lines[len(lines)-1]; got != want || strings.Count(tab.String(), "| f |") != 1 {
		t.Errorf("got %s\nwant %s", &tab, want)
	}
	head := lines[len(lines)-3]
	if strings.Count(head, "|") != strings.Count(want, "|") {
		t.Errorf("heads %s of rows %s", head, want)
	}
}
