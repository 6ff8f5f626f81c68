package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// Run measures. The laboratory needs what [lab.NewSink] does, CAP_NET_ADMIN,
// CAP_SYS_ADMIN and CAP_BPF; a path that o names needs nothing, but sends as fast as
// it goes for as long as it takes. What a way cannot do here is in
// [Report].Skipped.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	var r *Report
	var err error
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		r, err = run(ctx, o)
	})
	<-done
	return r, err
}

// onOwnThread runs fn on a thread that ends with the goroutine, and so does what fn
// sets of it. The first thread of a process cannot end.
func onOwnThread(fn func()) {
	runtime.LockOSThread()
	if sys.ThreadID() != os.Getpid() {
		fn()
		return // still locked
	}
	done := make(chan struct{})
	go func() { // while this one holds the first thread
		defer close(done)
		onOwnThread(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

// A bench is one run of [Run].
type bench struct {
	o       Options
	pace    pace
	until   time.Time
	track   *track
	movers  *movers
	cells   []*cell
	skipped []Skipped
	left    int // cells for which there was no time
	noise   noise
}

func run(ctx context.Context, o Options) (r *Report, err error) {
	begun := time.Now()
	x := &bench{o: o, pace: o.pace(), noise: noise{tick: userHZ}}
	x.until = begun.Add(x.pace.all)
	x.say("setting up")
	if o.To == "" {
		x.track, err = labTrack(ctx)
	} else {
		x.track, err = peerTrack(ctx, o.Address, o.Local)
	}
	if err != nil {
		return nil, err
	}
	cold := coldBytes()
	x.movers = newMovers(x.track, cold, o.dir())
	err = x.measure(ctx)
	if err != nil && o.To != "" {
		_ = x.track.conn.SetLinger(0) // a peer that waits is not to wait for more
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	source := x.movers.file.where
	if cerr := errors.Join(x.movers.close(closing), x.track.close()); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	r = x.report()
	r.Source, r.ColdBytes, r.DurationNS = source, cold, time.Since(begun).Nanoseconds()
	return r, nil
}

func (x *bench) say(what string) {
	if x.o.Progress != nil {
		x.o.Progress(what)
	}
}

func (x *bench) measure(ctx context.Context) error {
	if len(x.track.cpus) > 0 {
		if err := sys.SetThreadCPUs(x.track.cpus...); err != nil {
			return err
		}
	}
	x.noise.oneCPU = x.track.oneCPU
	proc := os.DirFS("/proc")
	own, _ := sys.ProcessCPUTime()
	before, berr := readCPUTimes(proc)
	err := x.all(ctx)
	after, aerr := readCPUTimes(proc)
	now, _ := sys.ProcessCPUTime()
	x.noise.before, x.noise.after, x.noise.own = before, after, now-own
	x.noise.known = berr == nil && aerr == nil
	return err
}

// all measures the sizes that are asked for, and then looks closer where ways
// cross. It comes back to these sizes many times: what disturbs the machine for a moment
// is then not all that is known of one.
func (x *bench) all(ctx context.Context) error {
	groups := x.o.groups()
	for pass := range x.pace.passes {
		for _, g := range groups {
			for _, heat := range heats {
				for _, size := range x.o.sizes(g) {
					rounds := x.pace.rounds / x.pace.passes
					if pass < x.pace.rounds%x.pace.passes {
						rounds++
					}
					if err := x.cell(ctx, g, g.ways, heat, size, rounds); err != nil {
						return err
					}
				}
			}
		}
	}
	if x.track.local != "" {
		return nil // nothing is concluded
	}
	for turn := range x.pace.extra {
		for _, g := range groups {
			for _, heat := range heats {
				for _, p := range g.pairs {
					if err := x.closer(ctx, g, heat, p, turn); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// closer measures a pair at the size that tells most about where it crosses. Where two
// ways cost about the same at any size, it matters less where that is, and it is done
// more rarely.
func (x *bench) closer(ctx context.Context, g group, heat transmit.CacheState, p pair, turn int) error {
	if g.to == transmit.ToFile || !time.Now().Before(x.until) {
		return nil // nobody chooses there by size
	}
	points := x.points(g, heat, p)
	if turn%rarely != 0 && alike(points) {
		return nil
	}
	size := nextSize(points, crossingOf(points))
	if size == 0 {
		return nil
	}
	return x.cell(ctx, g, []transmit.Backend{p.plain, p.way}, heat, size, x.pace.refine)
}

// points returns the ratios of a pair at all sizes, each of all rounds in which both
// were measured.
func (x *bench) points(g group, heat transmit.CacheState, p pair) []point {
	type runs struct{ way, plain []benchpair.Sample }
	sizes := map[int64]*runs{}
	for _, c := range x.cells {
		if c.g.source != g.source || c.g.to != g.to || c.heat != heat {
			continue
		}
		way, plain := c.of(p.way), c.of(p.plain)
		if way == nil || plain == nil {
			continue
		}
		r := sizes[c.size]
		if r == nil {
			r = &runs{}
			sizes[c.size] = r
		}
		r.way, r.plain = append(r.way, way.runs...), append(r.plain, plain.runs...)
	}
	var out []point
	for size, r := range sizes {
		if len(r.way) >= leastRounds {
			out = append(out, point{size: size, rounds: len(r.way), ratio: benchpair.Compare(r.way, r.plain).CPUPerByte})
		}
	}
	return out
}

// cell measures ways at one size, while there is time.
func (x *bench) cell(ctx context.Context, g group, ways []transmit.Backend, heat transmit.CacheState, size int64, rounds int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !time.Now().Before(x.until) {
		x.left++
		return nil
	}
	x.say(fmt.Sprintf("%s to %s, %s, %d bytes", g.source, g.to, heat, size))
	x.noise.work()
	c := &cell{g: g, heat: heat, size: size}
	var runs []benchpair.Way
	for _, b := range ways {
		if x.isSkipped(g, b) {
			continue
		}
		w, err := x.movers.mover(ctx, g, heat, size, b)
		if err != nil {
			x.skip(g, b, err)
			continue
		}
		n, err := x.pilot(ctx, g, heat, w, size)
		if err != nil {
			if x.connectionBroke(err) {
				return err
			}
			x.skip(g, b, err)
			continue
		}
		s := &sample{backend: b}
		c.samples = append(c.samples, s)
		runs = append(runs, func(ctx context.Context) (benchpair.Sample, error) {
			one, m, err := x.movers.run(ctx, w, n, size)
			s.moved.add(m)
			return one, err
		})
	}
	if len(runs) == 0 {
		return nil
	}
	all, err := benchpair.Rounds(ctx, rounds, runs...)
	if err != nil {
		return err
	}
	for i, s := range c.samples {
		s.runs = all[i]
	}
	x.cells = append(x.cells, c)
	return nil
}

// connectionBroke tells errors that every way would meet from those of one way.
func (x *bench) connectionBroke(err error) bool {
	return !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrPermission)
}

func (x *bench) isSkipped(g group, b transmit.Backend) bool {
	return slices.ContainsFunc(x.skipped, func(s Skipped) bool { return s.Backend == b && strings.HasSuffix(s.Reason, skippedIn(g)) })
}

func skippedIn(g group) string { return fmt.Sprintf(" (from %s to %s)", g.source, g.to) }

func (x *bench) skip(g group, b transmit.Backend, err error) {
	x.skipped = append(x.skipped, Skipped{Backend: b, Reason: err.Error() + skippedIn(g)})
}

// pilot finds out how many sends take the time of a run, and warms up on the way. What
// it found for the same way in another pass holds.
func (x *bench) pilot(ctx context.Context, g group, heat transmit.CacheState, w *mover, size int64) (int, error) {
	key := cellWay{g.source, g.to, heat, size, w.backend}
	if n := x.movers.sends[key]; n > 0 {
		_, _, err := x.movers.run(ctx, w, max(n/4, 1), size)
		return n, err
	}
	n, err := x.fits(ctx, w, size)
	if err == nil {
		x.movers.sends[key] = n
	}
	return n, err
}

// fits does it. What held an attempt up is no reason for short runs: waiting for the end
// would be most of them. So a number holds once two runs of it have taken about the time,
// and a run that took much less makes it larger. In the laboratory, where only the CPU
// takes time, that is CPU time: on a busy machine every attempt is held up.
func (x *bench) fits(ctx context.Context, w *mover, size int64) (int, error) {
	const enough, attempts = 2, 24
	n, long := 1, 0
	best := math.Inf(1) // time for a send
	for range attempts {
		s, _, err := x.movers.run(ctx, w, n, size)
		if err != nil {
			return 0, err
		}
		took := s.Elapsed
		if x.track.sink != nil {
			took = s.CPU
		}
		best = min(best, float64(max(took, 1))/float64(n))
		want := int(min(max(float64(x.pace.run)/best, 1), mostSends))
		if 2*n >= want {
			if long++; long >= enough {
				return want, nil
			}
			continue
		}
		n, long = min(want, 4*n), 0
	}
	return n, nil
}

// mostSends bounds the sends of one run.
const mostSends = 1 << 20

// coldBytes is how much memory cold sends go through: 256 MiB where there is
// eight times as much to spare, less where there is not.
func coldBytes() int64 {
	const most, least = mostCold, 16 << 20
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil || kb < 0 || kb > math.MaxInt64>>10 {
				return least
			}
			return min(max(kb<<10/8, least), most)
		}
	}
	return least
}
