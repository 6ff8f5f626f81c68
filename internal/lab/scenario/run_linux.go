package scenario

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// kernel is the release of the running kernel, "" if it does not tell.
func kernel() string {
	release, _, err := sys.KernelRelease()
	if err != nil {
		return ""
	}
	return release
}

// Run runs scenarios, one after the other. It changes nothing outside of namespaces
// that it makes, but on kernels before 5.11 lifts the process's RLIMIT_MEMLOCK. The
// error is the context's, a [*PermissionError], or says why nothing could be run.
func Run(ctx context.Context, all []Scenario, o Options) (*Report, error) {
	began := time.Now()
	r := &runner{o: o, of: len(all)}
	if err := r.begin(ctx); err != nil {
		return nil, errors.Join(err, r.end())
	}
	var results []Result
	for _, g := range groups(all) {
		got, err := r.group(ctx, g)
		if err != nil {
			return nil, errors.Join(err, r.end())
		}
		results = append(results, got...)
	}
	report := &Report{
		Schema: Schema, Verdict: verdict(results), Kernel: r.kernel, Arch: runtime.GOARCH, Tier: string(r.tracer.Tier()),
		DurationNS: time.Since(began).Nanoseconds(), Scenarios: append([]Result{}, results...),
	}
	return report, r.end()
}

// runner is what all scenarios of a run share.
type runner struct {
	o       Options
	of, did int
	kernel  string
	tracer  *ebpf.Tracer
	ring    *transmit.Ring
	noRing  error
	lost    uint64 // events, as told so far
}

// initialPIDs is what /proc/self/ns/pid is in the initial pid namespace
// (PROC_PID_INIT_INO).
const initialPIDs = "pid:[4026531836]"

func (r *runner) begin(ctx context.Context) error {
	var err error
	if r.kernel, _, err = sys.KernelRelease(); err != nil {
		return err
	}
	// What is missing is better told before anything is made.
	ns, err := lab.NewNamespace()
	if err == nil {
		err = ns.Close()
	}
	if err != nil {
		return permission(err)
	}
	o := ebpf.Options{Exact: true, Tier: r.o.Tier}
	if pids, err := os.Readlink("/proc/self/ns/pid"); err == nil && pids == initialPIDs {
		o.Processes = []int{os.Getpid()}
	}
	if r.tracer, err = ebpf.Open(ctx, o); err != nil {
		return permission(err)
	}
	if r.tracer.Tier() == ebpf.TierNone {
		return permission(fmt.Errorf("nothing can be observed without BPF: %w", fs.ErrPermission))
	}
	r.ring, r.noRing = transmit.NewRing(transmit.RingOptions{})
	return nil
}

func permission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &PermissionError{Needs: needs, Err: err}
	}
	return err
}

// endTime bounds how long the kernel may take to give up what is sent.
const endTime = 5 * time.Second

func (r *runner) end() error {
	var errs []error
	if r.ring != nil {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		errs = append(errs, r.ring.Close(ctx))
	}
	if r.tracer != nil {
		errs = append(errs, r.tracer.Close())
	}
	return errors.Join(errs...)
}

// group runs scenarios of one set-up in one place.
func (r *runner) group(ctx context.Context, g []Scenario) ([]Result, error) {
	if why := r.disturbs(g[0].SetUp); why != "" {
		return r.none(g, probe.Skipped, why), context.Cause(ctx)
	}
	r.tell(g[0].ID)
	began := time.Now()
	p, err := open(ctx, g[0].SetUp)
	if err != nil {
		if stop := context.Cause(ctx); stop != nil {
			return nil, stop
		}
		status, why := lacking(err)
		return r.none(g, status, why), nil
	}
	var results []Result
	for i := range g {
		if err != nil {
			break
		}
		r.tell(g[i].ID)
		r.did++
		var one Result
		var facts *probe.Facts
		if facts, err = p.look(ctx, g[i].Traffic); err == nil {
			one, err = r.decide(ctx, p, &g[i], facts)
		}
		if err == nil {
			one.DurationNS = time.Since(began).Nanoseconds()
			began = time.Now()
			results = append(results, one)
		}
	}
	return results, errors.Join(err, p.close())
}

func (r *runner) tell(id string) {
	if r.o.Progress != nil {
		r.o.Progress(r.did+1, r.of, id)
	}
}

// disturbs says why a set-up is not made unless it is asked for, or "".
func (r *runner) disturbs(steps []Step) string {
	if r.o.Disturb {
		return ""
	}
	if slices.ContainsFunc(steps, func(s Step) bool { _, ok := s.(HugePages); return ok }) {
		return "the reserve of huge pages is the machine's: it is changed with --disturb alone"
	}
	if !anyTap(steps) {
		return ""
	}
	if global, source := probe.TapsShared(); global == nil || *global {
		return "a packet socket on any device may make this kernel copy what all namespaces send: it is opened with --disturb alone (" + source + ")"
	}
	return ""
}

// lacking says what a set-up that failed means.
func lacking(err error) (probe.CheckStatus, string) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return probe.Unknown, err.Error()
	case sys.Unsupported(err), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV):
		return probe.Skipped, "this machine lacks something: " + err.Error()
	}
	return probe.Unknown, "the set-up failed: " + err.Error()
}

// none are the results of scenarios that were not run.
func (r *runner) none(g []Scenario, status probe.CheckStatus, why string) []Result {
	var out []Result
	for i := range g {
		r.did++
		out = append(out, unrun(&g[i], r.kernel, status, why))
	}
	return out
}

func unrun(s *Scenario, kernel string, status probe.CheckStatus, why string) Result {
	none := Column{Causes: []string{}}
	out := Result{
		ID: s.ID, Summary: s.Summary, Status: status, Reason: why, API: s.Traffic.API, Protocol: s.Traffic.Protocol,
		SetUp: describe(s.SetUp), Expected: none, Predicted: none, Reported: none, Observed: none, Findings: []Finding{},
	}
	if t, err := s.truth(kernel); err == nil {
		out.Expected.Causes, out.Expected.Detail = named(t.Causes), t.Why
	}
	return out
}

// look collects what package probe sees from the sender's namespace, once for each
// address that traffic of the place goes to.
func (p *place) look(ctx context.Context, t Traffic) (*probe.Facts, error) {
	to, err := p.to.of(t)
	if p.unix || p.files || err != nil {
		return &probe.Facts{}, nil
	}
	if f := p.facts[to]; f != nil {
		return f, nil
	}
	var facts *probe.Facts
	err = p.doors[AtSender].Do(func() (err error) {
		facts, err = probe.Collect(ctx, probe.Options{To: to.String()})
		return err
	})
	if err != nil {
		return nil, err
	}
	if p.sink != nil {
		asNIC(facts, lab.Device)
	}
	p.facts[to] = facts
	return facts, nil
}

// mostAttempts bounds how often a scenario is run: on a busy machine the tracer may
// miss some of a transfer.
const mostAttempts = 3

// decide runs one scenario, again if what ran could not be seen. What disagrees is
// not tried again.
func (r *runner) decide(ctx context.Context, p *place, s *Scenario, facts *probe.Facts) (Result, error) {
	for attempt := 1; ; attempt++ {
		one, err := r.one(ctx, p, s, facts)
		one.Attempts = attempt
		unseen := one.Status == probe.Unknown && slices.ContainsFunc(one.Findings, func(f Finding) bool {
			return f.Kind == Unknown && (f.Layer == LayerEBPF || f.Layer == LayerLab)
		})
		if err != nil || !unseen || attempt == mostAttempts {
			return one, err
		}
	}
}

// one runs one scenario. The error is the context's.
func (r *runner) one(ctx context.Context, p *place, s *Scenario, facts *probe.Facts) (Result, error) {
	truth, err := s.truth(r.kernel)
	if err != nil {
		return unrun(s, r.kernel, probe.Skipped, err.Error()), context.Cause(ctx)
	}
	if strings.HasPrefix(s.Traffic.API, "io_uring") && r.noRing != nil {
		return unrun(s, r.kernel, probe.Skipped, r.noRing.Error()), context.Cause(ctx)
	}
	tr, closing, err := p.send(ctx, s.Traffic, r.ring)
	if stop := context.Cause(ctx); stop != nil {
		return Result{}, errors.Join(stop, closing())
	}
	if status, why := tr.otherWay(truth.Refused); why != "" {
		return unrun(s, r.kernel, status, why), closing()
	}
	if err != nil {
		status, why := lacking(err)
		return unrun(s, r.kernel, status, why), closing()
	}
	w := Witness{Sent: tr.sent, Kept: tr.kept, Reported: tr.reported, Tier: string(r.tracer.Tier())}
	w.Predicted, w.PassesUnknown = p.predict(facts, s.Traffic)
	w.Reported.Causes = []string{}
	if len(tr.refused) > 0 {
		w.Reported.Refused = tr.refused[0].Cause
	}
	if tr.noBuffers && slices.Contains([]string{"memlock-limit", "optmem-limit"}, truth.Refused) {
		w.Reported.Refused = truth.Refused
	}
	if w.Reported.CopiedBytes == nil {
		w.Reported.Detail = "this API has no completions"
	}
	seen, lost, err := r.settle(ctx, p, s, tr)
	if err = errors.Join(err, closing()); err != nil {
		return Result{}, err
	}
	w.Observed, w.UnknownBytes = seen.column, seen.unknown+tr.sent-min(seen.bytes, tr.sent)
	w.ResentBytes, w.Lost = seen.resent, lost
	if p.count != nil {
		w.Arrived = new(p.count.arrived(s.Traffic.Protocol, tr.local))
	}
	return Judge(s, truth, w), nil
}

// otherWay says why what was sent is not what the scenario is about, or "": the
// kernel lacks something, or package transmit knows better. What the kernel is known
// to refuse here is what the scenario is about.
func (tr *transfer) otherWay(known string) (probe.CheckStatus, string) {
	if tr.other == 0 || slices.ContainsFunc(tr.refused, func(d *transmit.Downgrade) bool { return known != "" && d.Cause == known }) {
		return "", ""
	}
	var said []string
	for _, d := range tr.refused {
		if d.Err != nil && sys.Unsupported(d.Err) {
			return probe.Skipped, d.Error()
		}
		said = append(said, d.Error())
	}
	return probe.Unknown, fmt.Sprintf("%d of %d bytes were sent another way: %s", tr.other, tr.sent, strings.Join(said, "; "))
}

// Bounds of waiting for what is under way, on this machine, to be accounted for.
const (
	settleStep = 10 * time.Millisecond
	settleMost = 5 * time.Second
)

// settle waits until the peer and the tracer have seen all that was sent.
func (r *runner) settle(ctx context.Context, p *place, sc *Scenario, tr transfer) (seen sight, lost uint64, err error) {
	for end := time.Now().Add(settleMost); ; {
		// Asked before the tracer: what happens where the payload arrives is to be seen, too.
		arrived := p.count == nil || p.count.arrived(sc.Traffic.Protocol, tr.local) >= tr.sent
		s, err := r.tracer.Summary()
		if err != nil {
			return seen, 0, err
		}
		seen, lost = observed(s, tr.inode, sc.Traffic), s.LostEvents-r.lost
		if arrived && (seen.complete(tr.sent) || sc.blind(string(r.tracer.Tier()))) || time.Now().After(end) {
			r.lost = s.LostEvents
			return seen, lost, nil
		}
		select {
		case <-ctx.Done():
			return seen, 0, context.Cause(ctx)
		case <-time.After(settleStep):
		}
	}
}
