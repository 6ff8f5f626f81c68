package ebpf

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// A Tracer observes. Its methods may be called from any goroutine.
type Tracer struct {
	options Options
	tier    Tier
	start   time.Time

	mu     sync.Mutex // of in
	in     eye
	calls  *diagnosis
	hooks  []Hook
	closed error

	refused []Refusal
}

// An eye is a tier that looks. What it has seen only grows.
type eye interface {
	drain() (observations, error)
	close() error
}

// Open starts a tracer: from its return on, what is sent is counted. It needs
// CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, and addresses in /proc/kallsyms,
// which take CAP_SYSLOG where kernel.kptr_restrict is 1, or
// kernel.perf_event_paranoid is above 1. [TierNone] needs nothing, and sees the
// less the less the caller may. What Open needs is needed until Close: a tracer
// that samples attaches its hooks again and again.
func Open(ctx context.Context, o Options) (*Tracer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("open tracer: %w", err)
	}
	k := newKernel()
	in, hooks, tier, refused, err := choose(k, o)
	if err != nil {
		return nil, fmt.Errorf("open tracer: %w", err)
	}
	calls := diagnose(k, o, tier)
	return &Tracer{options: o, tier: tier, start: time.Now(), in: in, hooks: append(hooks, calls.seen...), refused: refused, calls: calls}, nil
}

// Tier returns the tier that was chosen.
func (t *Tracer) Tier() Tier { return t.tier }

// Hooks returns every hook of the tier: attached, or why not.
func (t *Tracer) Hooks() []Hook { return slices.Clone(t.hooks) }

// ErrClosed is what a closed tracer says.
var ErrClosed = errors.New("tracer is closed")

// Summary tells what was seen since Open.
func (t *Tracer) Summary() (*Summary, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in == nil {
		return nil, ErrClosed
	}
	all, err := t.in.drain()
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	all.sockets = slices.DeleteFunc(all.sockets, func(s Socket) bool { return !t.options.takes(s) })
	s := &Summary{
		Schema: Schema, Type: "summary", Tier: t.tier, Exact: true, SampleEvery: 1,
		DurationNS: time.Since(t.start).Nanoseconds(), Advice: []Advice{},
	}
	s.judge(&all, t.hooks)
	t.calls.add(s, all)
	return s, nil
}

// Run observes until the context ends, which is no error, and returns the
// summary. Packets that are under way on this machine then get a moment to
// arrive.
func (t *Tracer) Run(ctx context.Context) (*Summary, error) {
	<-ctx.Done()
	time.Sleep(settle)
	return t.Summary()
}

// Summaries yields what was seen since Open, again and again, until the context
// ends.
func (t *Tracer) Summaries(ctx context.Context, every time.Duration) iter.Seq2[*Summary, error] {
	return func(yield func(*Summary, error) bool) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s, err := t.Summary()
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// Close takes everything out of the kernel. Closing again does nothing and
// returns the same.
func (t *Tracer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in != nil {
		t.closed = errors.Join(t.calls.close(), t.in.close())
		t.in = nil
	}
	return t.closed
}
