package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// The figures that measuring and choosing are held to. They need root, two CPUs and a
// quiet machine, and are no tests: they print what they find.
//
//	go test -run '^$' -bench Regret -benchtime 1x -timeout 1h ./internal/lab/bench
//	go test -run '^$' -bench 'TenRuns|AtCrossover' -benchtime 1x -timeout 1h ./internal/lab/bench
//
// Where sessions are scheduled as groups, give the run priority over others:
//
//	setsid -w sh -c 'echo -20 >/proc/self/autogroup; exec go test ...'

// goPolicy is what a program does that knows nothing but the standard library.
const goPolicy = transmit.Backend("io.Copy")

const (
	regretRounds = 20
	regretRun    = 5 * time.Millisecond
	checkRounds  = 60
)

// A field is a laboratory in which figures are taken.
type field struct {
	*bench
	tapped bool
	c      transmit.Conditions
}

// onField runs fn in a laboratory of its own, on a thread that keeps to the sender's
// CPU. With tap a packet socket looks at what is sent.
func onField(b *testing.B, tap bool, fn func(f *field) error) {
	b.Helper()
	testenv.Root(b)
	if cpus, err := allowedCPUs(); err != nil || len(cpus) < 2 {
		b.Skip("needs two CPUs: one for the sender, one for the answers")
	}
	done := make(chan error)
	go onOwnThread(func() { done <- runField(b.Context(), b.TempDir(), tap, fn) })
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func runField(ctx context.Context, dir string, tap bool, fn func(f *field) error) (err error) {
	f := &field{tapped: tap, bench: &bench{o: Options{Dir: dir}, pace: pace{run: regretRun}, until: time.Now().Add(time.Hour)}}
	if f.track, err = labTrack(ctx); err != nil {
		return err
	}
	f.movers = newMovers(f.track, coldBytes(), dir)
	defer func() { err = errors.Join(err, f.movers.close(context.Background()), f.track.close()) }()
	if tap {
		fd, err := tapOn(f.track.sink)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	if f.c, err = conditionsOf(ctx, f.track.sink); err != nil {
		return err
	}
	if err := sys.SetThreadCPUs(f.track.cpus...); err != nil {
		return err
	}
	return fn(f)
}

// tapOn opens a packet socket for everything in the sender's namespace.
func tapOn(sink *lab.Sink) (fd int, err error) {
	err = sink.Do(func() (err error) {
		all := int(unix.ETH_P_ALL)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all>>8|all<<8&0xff00)
		return err
	})
	return fd, err
}

// conditionsOf is what selecting knows of the way to the sink: what package probe
// finds, with the wire taken for a card, as behind it nothing is delivered.
func conditionsOf(ctx context.Context, sink *lab.Sink) (transmit.Conditions, error) {
	o := probe.Options{To: net.JoinHostPort(sink.Addr4().String(), "9")}
	var facts *probe.Facts
	err := sink.Do(func() (err error) {
		facts, err = probe.Collect(ctx, o)
		return err
	})
	if err != nil {
		return transmit.Conditions{}, err
	}
	for i := range facts.Networks {
		for j := range facts.Networks[i].Links {
			if l := &facts.Networks[i].Links[j]; facts.Networks[i].ID == "" && l.Name == lab.Device {
				l.Kind, l.HasDev, l.Parent, l.ParentN = "", true, 0, ""
			}
		}
	}
	return transmit.ConditionsOf(probe.Judge(facts, o)), nil
}

// ways are what a program may be given without being asked: vmsplice never says when
// memory is free, and is only taken by who asks for it.
func (f *field) ways(source transmit.SourceKind) []transmit.Backend {
	if source == transmit.SourceMemory {
		return []transmit.Backend{transmit.Write, transmit.MsgZerocopy, transmit.IoUringSendZC, transmit.IoUringSend, goPolicy}
	}
	return []transmit.Backend{transmit.ReadWrite, transmit.MmapWrite, transmit.Sendfile, transmit.Splice, transmit.MmapZerocopy, goPolicy}
}

// measureWays runs ways in turns at one size.
func (f *field) measureWays(ctx context.Context, g group, heat transmit.CacheState, size int64, ways []transmit.Backend, rounds int) (map[transmit.Backend][]benchpair.Sample, error) {
	var runs []benchpair.Way
	for _, way := range ways {
		w, err := f.way(ctx, g, heat, size, way)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way, err)
		}
		n, err := f.pilot(ctx, w, size)
		if err != nil {
			return nil, err
		}
		runs = append(runs, func(ctx context.Context) (benchpair.Sample, error) {
			s, _, err := f.movers.run(ctx, w, n, size)
			return s, err
		})
	}
	samples, err := benchpair.Rounds(ctx, rounds, runs...)
	if err != nil {
		return nil, err
	}
	out := map[transmit.Backend][]benchpair.Sample{}
	for i, way := range ways {
		out[way] = samples[i]
	}
	return out, nil
}

// way is a backend, or the policy of those who know none.
func (f *field) way(ctx context.Context, g group, heat transmit.CacheState, size int64, b transmit.Backend) (*mover, error) {
	if b != goPolicy {
		return f.movers.mover(ctx, g, heat, size, b)
	}
	// One that is made in any case prepares the memory or the file.
	plain, err := f.movers.mover(ctx, g, heat, size, map[transmit.SourceKind]transmit.Backend{transmit.SourceMemory: transmit.Write, transmit.SourceFile: transmit.ReadWrite}[g.source])
	if err != nil {
		return nil, err
	}
	w := &mover{backend: b, sender: plain.sender}
	if g.source == transmit.SourceMemory {
		w.piece = func(context.Context) error {
			_, err := f.track.conn.Write(f.movers.memory.next(size).Bytes())
			return err
		}
		return w, nil
	}
	w.piece = func(context.Context) error {
		file := f.movers.file
		if _, err := file.f.Seek(file.next(heat, size), io.SeekStart); err != nil {
			return err
		}
		_, err := io.CopyN(f.track.conn, file.f, size)
		return err
	}
	return w, nil
}

// chosen is what package transmit selects, for a program that keeps a ring and
// mappings.
func (f *field) chosen(source transmit.SourceKind, heat transmit.CacheState, size int64, cal *transmit.Calibration) transmit.Backend {
	t := transmit.Transfer{Source: source, Protocol: transmit.TCP, SizeBytes: size, Cache: heat}
	if source == transmit.SourceFile {
		// Of a file cold would mean that it is not in the page cache.
		t.Cache, t.MappingKept = transmit.CacheUnknown, true
	} else {
		t.Ring = true
	}
	p := transmit.Select(f.c, t, transmit.SelectOptions{Calibration: cal})
	return p.Backend
}

// policies are what is compared, by name.
func policies(source transmit.SourceKind, chosen transmit.Backend) map[string]transmit.Backend {
	if source == transmit.SourceMemory {
		return map[string]transmit.Backend{"Select": chosen, "always write": transmit.Write, "always MSG_ZEROCOPY": transmit.MsgZerocopy, "io.Copy": goPolicy}
	}
	return map[string]transmit.Backend{"Select": chosen, "always write": transmit.ReadWrite, "always MSG_ZEROCOPY": transmit.MmapZerocopy, "io.Copy": goPolicy}
}

// regrets returns by how much a way is worse than the best backend: in CPU time for a
// byte, and in throughput; 0.05 is 5 %. Both are ratios within rounds. The standard
// library is no backend, and can be better than all of them.
func regrets(samples map[transmit.Backend][]benchpair.Sample, way transmit.Backend) (cpu, rate float64) {
	cpu = benchpair.Compare(samples[way], samples[best(samples, cheaper)]).CPUPerByte.Median - 1
	rate = benchpair.Compare(samples[best(samples, faster)], samples[way]).Throughput.Median - 1
	return cpu, rate
}

// BenchmarkRegret compares what is selected with the best way measured, over a grid of
// sources, sizes, heats and paths, and fixed policies with it. A way that is better
// than all backends regrets less than nothing.
func BenchmarkRegret(b *testing.B) {
	cal := calibrate(b)
	totals := map[string]*[2][]float64{}
	fmt.Printf("\n| path | source | data | size | selected | cheapest | CPU regret | fastest | throughput regret |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, path := range []struct {
		name string
		tap  bool
	}{{"uncopied", false}, {"tapped", true}} {
		onField(b, path.tap, func(f *field) error {
			for _, g := range allGroups()[:2] {
				for _, heat := range heats {
					for size := int64(1 << 10); size <= 4<<20; size *= 4 {
						samples, err := f.measureWays(b.Context(), g, heat, size, f.ways(g.source), regretRounds)
						if err != nil {
							return err
						}
						chosen := f.chosen(g.source, heat, size, cal)
						for name, way := range policies(g.source, chosen) {
							if samples[way] == nil {
								return fmt.Errorf("%s was not measured", way)
							}
							cpu, rate := regrets(samples, way)
							if totals[name] == nil {
								totals[name] = &[2][]float64{}
							}
							totals[name][0], totals[name][1] = append(totals[name][0], cpu), append(totals[name][1], rate)
						}
						cpu, rate := regrets(samples, chosen)
						fmt.Printf("| %s | %s | %s | %d | %s | %s | %.1f %% | %s | %.1f %% |\n", path.name, g.source, heat, size, chosen,
							best(samples, cheaper), 100*cpu, best(samples, faster), 100*rate)
					}
				}
			}
			return nil
		})
	}
	fmt.Printf("\n| policy | objective | median regret | 90 %% | worst | cells |\n|---|---|---|---|---|---|\n")
	for _, name := range []string{"Select", "always write", "always MSG_ZEROCOPY", "io.Copy"} {
		for i, objective := range []string{"CPU per byte", "throughput"} {
			v := slices.Sorted(slices.Values(totals[name][i]))
			median, worst := v[len(v)/2], v[len(v)-1]
			fmt.Printf("| %s | %s | %.1f %% | %.1f %% | %.1f %% | %d |\n", name, objective, 100*median, 100*v[len(v)*9/10], 100*worst, len(v))
			b.ReportMetric(100*median, strings.ReplaceAll(name+" "+objective+" median-%", " ", "-"))
			b.ReportMetric(100*worst, strings.ReplaceAll(name+" "+objective+" worst-%", " ", "-"))
		}
	}
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

// calibrate is what bench --quick finds, taken for what it is: the path is the
// laboratory, and needs no more than was measured there.
func calibrate(b *testing.B) *transmit.Calibration {
	b.Helper()
	testenv.Root(b)
	r, err := Run(b.Context(), Options{Quick: true, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	if !r.Conclusive {
		b.Fatal(r.Conclusion)
	}
	cal := &transmit.Calibration{Path: PathLab}
	for _, c := range r.Crossovers {
		if c.Backend.Notifies() {
			cal.Crossovers = append(cal.Crossovers, transmit.Crossover{Backend: c.Backend, Cache: c.Cache,
				Bytes: orNever(c.Bytes), LowBytes: orNever(c.LowBytes), HighBytes: orNever(c.HighBytes)})
		}
	}
	b.Logf("%v; disturbances: %q", cal.Crossovers, r.Disturbances)
	return cal
}

func orNever(n *int64) int64 {
	if n == nil {
		return never
	}
	return *n
}

// BenchmarkTenRuns makes ten quick runs, and counts for each crossover how many of
// their intervals have a size in common.
func BenchmarkTenRuns(b *testing.B) {
	testenv.Root(b)
	const runs = 10
	type key struct {
		backend transmit.Backend
		cache   transmit.CacheState
	}
	found := map[key][]crossing{}
	for range runs {
		r, err := Run(b.Context(), Options{Quick: true, Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range r.Crossovers {
			if k := (key{c.Backend, c.Cache}); c.Backend.Notifies() {
				found[k] = append(found[k], crossing{orNever(c.Bytes), orNever(c.LowBytes), orNever(c.HighBytes)})
			}
		}
		b.Logf("%v: %s Disturbances: %q", time.Duration(r.DurationNS), r.Conclusion, r.Disturbances)
	}
	fmt.Printf("\n| backend | data | intervals with a size in common | of |\n|---|---|---|---|\n")
	least := runs
	for k, all := range found {
		n := inCommon(all)
		least = min(least, n)
		fmt.Printf("| %s | %s | %d | %d | %v\n", k.backend, k.cache, n, len(all), all)
	}
	b.ReportMetric(float64(least), "overlap")
}

// inCommon is the most intervals that hold the same size.
func inCommon(all []crossing) int {
	most := 0
	for _, a := range all {
		n := 0
		for _, c := range all {
			if c.low <= a.low && a.low <= c.high { // an interval that holds a low end
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func TestInCommon(t *testing.T) {
	for _, c := range []struct {
		all  []crossing
		want int
	}{
		{nil, 0},
		{[]crossing{{5, 1, 9}}, 1},
		{[]crossing{{5, 1, 9}, {8, 8, 10}, {9, 9, 9}, {20, 11, 30}}, 3},
		{[]crossing{{never, 100, never}, {50, 0, 101}, {never, never, never}}, 2},
	} {
		if got := inCommon(c.all); got != c.want {
			t.Errorf("%v: %d, want %d", c.all, got, c.want)
		}
	}
}

// BenchmarkAtCrossover measures the two ways at the size at which a quick run says
// that they cost the same.
func BenchmarkAtCrossover(b *testing.B) {
	cal := calibrate(b)
	fmt.Printf("\n| backend | data | size | CPU per byte, ratio |\n|---|---|---|---|\n")
	worst := 0.0
	onField(b, false, func(f *field) error {
		for _, g := range allGroups()[:2] {
			for _, p := range g.pairs {
				for _, c := range cal.Crossovers {
					if c.Backend != p.way || c.Bytes == never || c.Bytes == 0 {
						continue
					}
					samples, err := f.measureWays(b.Context(), g, c.Cache, c.Bytes, []transmit.Backend{p.plain, p.way}, checkRounds)
					if err != nil {
						return err
					}
					ratio := benchpair.Compare(samples[p.way], samples[p.plain]).CPUPerByte
					fmt.Printf("| %s | %s | %d | %v |\n", p.way, c.Cache, c.Bytes, ratio)
					worst = max(worst, math.Abs(ratio.Median-1))
				}
			}
		}
		return nil
	})
	b.ReportMetric(100*worst, "worst-%")
}

// What is regretted is what the best way would have saved.
func TestRegrets(t *testing.T) {
	at := func(ns time.Duration) []benchpair.Sample {
		return []benchpair.Sample{{Bytes: 1000, CPU: ns, Elapsed: 2 * ns}, {Bytes: 1000, CPU: 3 * ns, Elapsed: 4 * ns}}
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
}
