package ebpf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// tapsAge is how long what is known of packet sockets is believed.
const tapsAge = 5 * time.Second

// diagnosis looks at what programs ask for, beside a tier that looks at what the
// kernel does.
type diagnosis struct {
	options Options
	tier    Tier
	hooks   *callHooks // nil: calls are not looked at
	seen    []Hook     // or why not
	why     error      // the same

	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	watch   socketWatch
	looked  time.Duration                // at calls
	since   time.Time                    // that they are looked at now; zero if they are not
	failure error                        // the last one
	paths   map[string]*probe.PathReport // predictions, by destination
	built   map[int]string               // versions of Go, by process; "" for others

	tapsMu sync.Mutex
	taps   map[uint32]tapsSeen // by network namespace
}

type tapsSeen struct {
	at   time.Time
	taps []probe.TapReport
	err  error
}

// diagnose starts a diagnosis. That it cannot be made is no error of the tracer,
// but said in each summary.
func diagnose(k *kernel, o Options, tier Tier) *diagnosis {
	ctx, stop := context.WithCancel(context.Background())
	d := &diagnosis{options: o, tier: tier, stop: stop, done: make(chan struct{}), taps: map[uint32]tapsSeen{}, built: map[int]string{}, paths: map[string]*probe.PathReport{}}
	if tier == TierNone {
		close(d.done)
		return d
	}
	var err error
	d.seen = diagnosisHooks(tier, o)
	if d.hooks, err = hookCalls(k, o, d.seen); err != nil {
		for i := range d.seen {
			d.seen[i].Attached, d.seen[i].Err = false, err
		}
		d.why = err
		close(d.done)
		return d
	}
	d.beat(true)
	go func() {
		defer close(d.done)
		d.run(ctx)
	}()
	return d
}

// run looks again and again.
func (d *diagnosis) run(ctx context.Context) {
	window := time.NewTimer(callWindow)
	defer window.Stop()
	open := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-window.C:
		}
		if d.options.Exact {
			d.beat(false)
			window.Reset(callPeriod)
			continue
		}
		if open {
			d.unlook()
			// Not always at the same time after the last one: what a program does
			// in a rhythm would be seen always, or never.
			window.Reset(callPeriod/2 + rand.N(callPeriod) - callWindow)
		} else {
			d.beat(true)
			window.Reset(callWindow)
		}
		open = !open
	}
}

// beat reads the sockets, and begins to look at calls.
func (d *diagnosis) beat(look bool) {
	now, err := d.hooks.sockets()
	d.meetTaps(now)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failure = err
	}
	d.watch.see(now, time.Now())
	if calls, _, err := d.hooks.counts(); err == nil {
		d.learn(calls)
	}
	if !look {
		return
	}
	if err := d.hooks.look(); err != nil {
		d.failure = err
		return
	}
	d.since = time.Now()
}

func (d *diagnosis) unlook() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.hooks.unlook(); err != nil {
		d.failure = err
	}
	d.looked += time.Since(d.since)
	d.since = time.Time{}
}

func (d *diagnosis) close() error {
	d.stop()
	<-d.done
	if d.hooks == nil {
		return nil
	}
	h := d.hooks
	d.hooks = nil
	return h.close()
}

// add puts what was diagnosed into a summary.
func (d *diagnosis) add(s *Summary, all observations) {
	f := diagnosisFacts{flows: s.Flows, tier: d.tier}
	for _, gap := range all.gaps {
		s.Incomplete = append(s.Incomplete, "not seen: "+gap)
	}
	if d.why != nil {
		s.Incomplete = append(s.Incomplete, fmt.Sprintf("calls of programs were not looked at: %v", d.why))
	}
	d.mu.Lock()
	if d.hooks != nil {
		if err := d.read(&f); err != nil {
			s.Incomplete = append(s.Incomplete, fmt.Sprintf("what was seen of calls could not be read: %v", err))
		}
		f.sockets = d.watch.all()
	} else {
		f.sockets = all.watched
	}
	looked := d.looked
	if !d.since.IsZero() {
		looked += time.Since(d.since)
	}
	if d.failure != nil {
		s.Incomplete = append(s.Incomplete, fmt.Sprintf("calls were not looked at all the time: %v", d.failure))
	}
	d.mu.Unlock()
	s.CallsWatchedNS = min(looked.Nanoseconds(), s.DurationNS)
	f.keep(d.options)
	f.optmemMax = optmemMax()
	f.pipeSoft = setting("/proc/sys/fs/pipe-user-pages-soft")
	f.taps, f.tapsErr = d.tapsOf(f.flows)
	s.Completions = completionTotals(&f)
	if d.tier == TierNone {
		f.predicted = d.predict(f.flows)
	}
	advice, gaps := advise(&f)
	s.Advice = append(s.Advice, advice...)
	s.Incomplete = append(s.Incomplete, gaps...)
	if d.hooks != nil && !d.options.Exact {
		s.Incomplete = append(s.Incomplete, fmt.Sprintf("calls of programs were looked at for %v of %v: what is rare, or done once, may be missing from the advice",
			looked.Round(time.Millisecond), time.Duration(s.DurationNS).Round(time.Millisecond)))
	}
}

// read reads what the kernel has counted, and sockets once more.
func (d *diagnosis) read(f *diagnosisFacts) (err error) {
	if f.calls, f.latencies, err = d.hooks.counts(); err != nil {
		return err
	}
	d.learn(f.calls)
	f.goVersion = maps.Clone(d.built)
	if f.uncounted, err = d.hooks.uncounted(); err != nil {
		return err
	}
	now, err := d.hooks.sockets()
	if err == nil {
		d.watch.see(now, time.Now())
	}
	return err
}

// tapsOf finds who captures what is sent in network namespaces, where that matters.
func (d *diagnosis) tapsOf(flows []Flow) (map[uint32][]probe.TapReport, error) {
	const most = 16 // each has to be looked for in all of /proc
	out := map[uint32][]probe.TapReport{}
	var errs []error
	for _, f := range flows {
		if _, done := out[f.NetNS]; done || len(out) >= most {
			continue
		}
		tapped := slices.ContainsFunc(f.Causes, func(c Cause) bool { return c.ID == "packet-tap" })
		seen := d.tapsIn(f.NetNS, f.PID, tapped)
		if tapped || len(seen.taps) > 0 {
			out[f.NetNS] = seen.taps
			errs = append(errs, seen.err)
		}
	}
	return out, errors.Join(errs...)
}

// tapsIn finds the packet sockets of the namespace of a process. Unless it is
// certain that there is one, it looks only where the process shows one.
func (d *diagnosis) tapsIn(netns uint32, pid int, certain bool) tapsSeen {
	d.tapsMu.Lock()
	defer d.tapsMu.Unlock()
	seen := d.taps[netns]
	if time.Since(seen.at) < tapsAge && (len(seen.taps) > 0 || !certain) || !certain && !captured(pid) {
		return seen
	}
	taps, err := probe.CollectTaps(context.Background(), uint64(netns))
	if len(taps) == 0 && len(seen.taps) > 0 {
		taps = seen.taps // it has ended meanwhile
	}
	d.taps[netns] = tapsSeen{at: time.Now(), taps: taps, err: err}
	return d.taps[netns]
}

// meetTaps looks for packet sockets while the processes are there whose sockets
// were just seen.
func (d *diagnosis) meetTaps(sockets []socketNow) {
	const most = 16
	met := map[uint32]bool{}
	for _, s := range sockets {
		if !met[s.NetNS] && len(met) < most {
			met[s.NetNS] = true
			d.tapsIn(s.NetNS, s.PID, false)
		}
	}
}

// captured says whether a packet socket takes all packets where a process sends
// from, as far as its namespace shows that. It is cheap.
func captured(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", pid))
	if err != nil {
		return false // it has ended
	}
	for line := range strings.Lines(string(b)) {
		const protocol, all = 3, "0003" // the column, and ETH_P_ALL
		if fields := strings.Fields(line); len(fields) > protocol && fields[protocol] == all {
			return true
		}
	}
	return false
}

// learn finds out, of each process that copies itself, which version of Go
// built it, while it is there.
func (d *diagnosis) learn(calls []callCount) {
	for _, c := range calls {
		if _, known := d.built[c.pid]; known || c.pattern != patternLoop {
			continue
		}
		d.built[c.pid] = goVersion(fmt.Sprintf("/proc/%d/exe", c.pid))
	}
}

// predict asks package probe about the paths of flows, of which without BPF
// nothing is observed. It does so once for each destination.
func (d *diagnosis) predict(flows []Flow) map[string]*probe.PathReport {
	own, err := netnsOf("self")
	if err != nil {
		return nil
	}
	const most = 8
	o := probe.Options{}
	for _, f := range flows {
		if d.paths[f.Remote] != nil || f.Remote == "" || f.NetNS != own || len(o.Also) >= most {
			continue
		}
		to := probe.Destination{To: f.Remote}
		if !slices.Contains(o.Also, to) {
			o.Also = append(o.Also, to)
		}
	}
	if len(o.Also) == 0 {
		return d.paths
	}
	facts, err := probe.Collect(context.Background(), o)
	if err != nil {
		return d.paths
	}
	for _, to := range o.Also {
		d.paths[to.To] = probe.JudgePath(facts, probe.Options{To: to.To})
	}
	return d.paths
}

func callName(number uint32) string {
	switch int(number) {
	case sys.CallWrite:
		return "write"
	case sys.CallWritev:
		return "writev"
	case sys.CallSendto:
		return "sendto"
	case sys.CallSendmsg:
		return "sendmsg"
	case sys.CallSendmmsg:
		return "sendmmsg"
	case sys.CallSendfile:
		return "sendfile"
	case sys.CallSplice:
		return "splice"
	case sys.CallCopyFileRange:
		return "copy_file_range"
	}
	return fmt.Sprintf("system call %d", number)
}
