package bench

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// ways are what a program may be given without being asked: vmsplice never says when
// memory is free, and is only taken by who asks for it.
func ways(source transmit.SourceKind) []transmit.Backend {
	if source == transmit.SourceMemory {
		return []transmit.Backend{transmit.Write, transmit.MsgZerocopy, transmit.IoUringSendZC, transmit.IoUringSend, goPolicy}
	}
	return []transmit.Backend{transmit.ReadWrite, transmit.MmapWrite, transmit.Sendfile, transmit.Splice, transmit.MmapZerocopy, goPolicy}
}

// needsKept reports whether a way takes a ring or a mapping that the program keeps.
func needsKept(b transmit.Backend) bool {
	switch b {
	case transmit.IoUringSendZC, transmit.IoUringSend, transmit.MmapWrite, transmit.MmapZerocopy:
		return true
	}
	return false
}

// A situation is what a choice is made for.
type situation struct {
	path   string
	source transmit.SourceKind
	heat   transmit.CacheState
	size   int64
	kept   bool // the program keeps a ring, or a mapping
}

// chosen is what package transmit selects, without a calibration if that is nil. One
// choice is judged by both objectives: the goal Throughput is the least CPU time for
// each byte, and no goal spends CPU time for the sake of throughput.
func (f *field) chosen(s situation, cal *transmit.Calibration) transmit.Backend {
	t := transmit.Transfer{Source: s.source, Protocol: transmit.TCP, SizeBytes: s.size, Cache: s.heat}
	if s.source == transmit.SourceFile {
		// Of a file cold would mean that it is not in the page cache.
		t.Cache, t.MappingKept = transmit.CacheUnknown, s.kept
	} else {
		t.Ring = s.kept
	}
	p := transmit.Select(f.c, t, transmit.SelectOptions{Calibration: cal})
	return p.Backend
}

const (
	bySelect   = "Select"
	byDefaults = "Select without a calibration"
	alwaysCopy = "always write"
	alwaysLend = "always MSG_ZEROCOPY"
)

// policies are what is compared, by name. The fixed ones are those of a program that
// keeps what they take.
func (f *field) policies(s situation, cal *transmit.Calibration) map[string]transmit.Backend {
	out := map[string]transmit.Backend{bySelect: f.chosen(s, cal), byDefaults: f.chosen(s, nil)}
	if s.kept {
		out[string(goPolicy)] = goPolicy
		out[alwaysCopy], out[alwaysLend] = transmit.Write, transmit.MsgZerocopy
		if s.source == transmit.SourceFile {
			out[alwaysCopy], out[alwaysLend] = transmit.ReadWrite, transmit.MmapZerocopy
		}
	}
	return out
}

// within leaves out what a program that keeps nothing does not have.
func (s situation) within(samples map[transmit.Backend][]benchpair.Sample) map[transmit.Backend][]benchpair.Sample {
	out := map[transmit.Backend][]benchpair.Sample{}
	for b, x := range samples {
		if s.kept || !needsKept(b) {
			out[b] = x
		}
	}
	return out
}

// regrets returns by how much a way is worse than the best backend: in CPU time for a
// byte, and in throughput; 0.05 is 5 %. Both are ratios within rounds. The standard
// library is no backend, and can be better than all of them.
//
// The smallest of several noisy figures is too small, and whoever is compared with it
// would regret the noise. So the best is found in one half of the rounds and compared
// with in the other, then the other way round, and the mean of both is told. It can be
// below nothing.
func regrets(samples map[transmit.Backend][]benchpair.Sample, way transmit.Backend) (cpu, rate float64) {
	h := halves(samples)
	for i, other := range []int{1, 0} {
		cheapest, fastest := best(h[i], cheaper), best(h[i], faster)
		cpu += (benchpair.Compare(h[other][way], h[other][cheapest]).CPUPerByte.Median - 1) / 2
		rate += (benchpair.Compare(h[other][fastest], h[other][way]).Throughput.Median - 1) / 2
	}
	return cpu, rate
}

// halves are the first half of the rounds and the second.
func halves(samples map[transmit.Backend][]benchpair.Sample) (h [2]map[transmit.Backend][]benchpair.Sample) {
	h[0], h[1] = map[transmit.Backend][]benchpair.Sample{}, map[transmit.Backend][]benchpair.Sample{}
	for b, all := range samples {
		h[0][b], h[1][b] = all[:len(all)/2], all[len(all)/2:]
	}
	return h
}

func cheaper(a, b []benchpair.Sample) bool {
	return benchpair.CPUPerByte(a).Median < benchpair.CPUPerByte(b).Median
}

func faster(a, b []benchpair.Sample) bool {
	return benchpair.Throughput(a).Median > benchpair.Throughput(b).Median
}

// best returns the backend that comes before all others.
func best(samples map[transmit.Backend][]benchpair.Sample, before func(a, b []benchpair.Sample) bool) transmit.Backend {
	var out transmit.Backend
	for b, s := range samples {
		if b != goPolicy && (out == "" || before(s, samples[out])) {
			out = b
		}
	}
	return out
}

// A tally is the regrets of a policy, by objective.
type tally map[string]*[2][]float64

func (t tally) add(policy string, cpu, rate float64) {
	if t[policy] == nil {
		t[policy] = &[2][]float64{}
	}
	t[policy][0], t[policy][1] = append(t[policy][0], cpu), append(t[policy][1], rate)
}

// judge adds what the policies regret in a situation, and prints what is chosen.
func (t tally) judge(f *field, s situation, samples map[transmit.Backend][]benchpair.Sample, cal *transmit.Calibration) error {
	samples = s.within(samples)
	line := fmt.Sprintf("| %s | %s | %s | %s | %d |", s.path, s.source, map[bool]string{true: "kept", false: "nothing"}[s.kept], s.heat, s.size)
	policies := f.policies(s, cal)
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		way := policies[name]
		if samples[way] == nil {
			return fmt.Errorf("%s was not measured", way)
		}
		cpu, rate := regrets(samples, way)
		t.add(name, cpu, rate)
		if name == bySelect || name == byDefaults {
			line += fmt.Sprintf(" %s | %.1f %% | %.1f %% |", way, 100*cpu, 100*rate)
		}
	}
	fmt.Printf("%s %s | %s |\n", line, best(samples, cheaper), best(samples, faster))
	return nil
}

// BenchmarkRegret compares what is selected with the best way measured, over a grid of
// sources, sizes, heats and paths, for programs that keep a ring or a mapping and for
// those that do not, and fixed policies with it.
func BenchmarkRegret(b *testing.B) {
	cal := calibrate(b)
	totals := tally{}
	fmt.Printf("\n| path | source | program keeps | data | size | Select | CPU | throughput | by defaults | CPU | throughput | cheapest | fastest |\n|%s\n", strings.Repeat("---|", 13))
	for _, path := range []string{"uncopied", "tapped"} {
		onField(b, path == "tapped", func(f *field) error {
			for _, g := range allGroups()[:2] {
				for _, heat := range heats {
					for size := int64(1 << 10); size <= 4<<20; size *= 4 {
						samples, err := f.measureWays(b.Context(), g, heat, size, ways(g.source), regretRounds)
						if err != nil {
							return err
						}
						for _, kept := range []bool{true, false} {
							if err := totals.judge(f, situation{path, g.source, heat, size, kept}, samples, cal); err != nil {
								return err
							}
						}
					}
				}
			}
			return nil
		})
	}
	fmt.Printf("\n| policy | objective | median regret | 90 %% | worst | cells |\n|---|---|---|---|---|---|\n")
	for _, name := range []string{bySelect, byDefaults, alwaysCopy, alwaysLend, string(goPolicy)} {
		for i, objective := range []string{"CPU per byte", "throughput"} {
			v := slices.Sorted(slices.Values(totals[name][i]))
			median, worst := v[len(v)/2], v[len(v)-1]
			fmt.Printf("| %s | %s | %.1f %% | %.1f %% | %.1f %% | %d |\n", name, objective, 100*median, 100*v[len(v)*9/10], 100*worst, len(v))
			b.ReportMetric(100*median, strings.ReplaceAll(name+" "+objective+" median-%", " ", "-"))
			b.ReportMetric(100*worst, strings.ReplaceAll(name+" "+objective+" worst-%", " ", "-"))
		}
	}
}

// What is regretted is what the best way would have saved.
func TestRegrets(t *testing.T) {
	at := func(ns time.Duration) []benchpair.Sample {
		var out []benchpair.Sample
		for i := range 12 {
			n := ns * time.Duration(1+i%3) // the machine's speed changes from round to round
			out = append(out, benchpair.Sample{Bytes: 1000, CPU: n, Elapsed: 2 * n})
		}
		return out
	}
	samples := map[transmit.Backend][]benchpair.Sample{"a": at(100), "b": at(125), goPolicy: at(80)}
	if cpu, rate := regrets(samples, "a"); cpu != 0 || rate != 0 {
		t.Errorf("of the best: %v, %v", cpu, rate)
	}
	if cpu, rate := regrets(samples, "b"); math.Abs(cpu-0.25) > 1e-9 || math.Abs(rate-0.25) > 1e-9 {
		t.Errorf("of the other: %v, %v", cpu, rate)
	}
	if cpu, rate := regrets(samples, goPolicy); math.Abs(cpu+0.2) > 1e-9 || math.Abs(rate+0.2) > 1e-9 {
		t.Errorf("of what is no backend: %v, %v", cpu, rate)
	}
	// Which of two is better changes from half to half: that is noise, and none regrets it.
	for r := range samples["b"] {
		ns := time.Duration(90)
		if r >= 6 {
			ns = 110
		}
		samples["b"][r] = benchpair.Sample{Bytes: 1000, CPU: ns, Elapsed: 2 * ns}
		samples["a"][r] = benchpair.Sample{Bytes: 1000, CPU: 100, Elapsed: 200}
	}
	for _, way := range []transmit.Backend{"a", "b"} {
		if cpu, rate := regrets(samples, way); cpu > 0.1 || rate > 0.12 {
			t.Errorf("noise is regretted by %s: %v, %v", way, cpu, rate)
		}
	}
	if s := (situation{}).within(map[transmit.Backend][]benchpair.Sample{transmit.Write: nil, transmit.IoUringSendZC: nil}); len(s) != 1 {
		t.Errorf("who keeps nothing has %d ways", len(s))
	}
}
