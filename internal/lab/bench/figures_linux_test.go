package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
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
	regretRounds = 60 // half of them go through all orders of either source's ways
	regretRun    = 4 * time.Millisecond
	checkRounds  = 200
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

// measureWays runs ways in turns at one size.
func (f *field) measureWays(ctx context.Context, g group, heat transmit.CacheState, size int64, ways []transmit.Backend, rounds int) (map[transmit.Backend][]benchpair.Sample, error) {
	var runs []benchpair.Way
	for _, way := range ways {
		w, err := f.way(ctx, g, heat, size, way)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way, err)
		}
		n, err := f.pilot(ctx, g, heat, w, size)
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
		memory, err := f.movers.memory.prepare(ctx, heat, size)
		if err != nil {
			return nil, err
		}
		w.piece = func(context.Context) error {
			_, err := f.track.conn.Write(memory.next(size).Bytes())
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
		if c.To == transmit.TCP && transmit.Calibrates(c.Backend, c.Against) {
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
			if k := (key{c.Backend, c.Cache}); c.To == transmit.TCP && transmit.Calibrates(c.Backend, c.Against) {
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
					if c.Backend != p.way || !transmit.Calibrates(p.way, p.plain) || c.Bytes == never || c.Bytes == 0 {
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
