package ebpf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// Runs returns how often each program of a tier of functions ran, and for how many
// nanoseconds, while the kernel counts that; nil in other tiers.
func (t *Tracer) Runs() (map[string][2]uint64, error) {
	f, ok := t.in.(*functionTracer)
	if !ok {
		return nil, nil
	}
	runs := map[string][2]uint64{}
	for name, p := range f.loaded.Programs {
		stats, err := p.Stats()
		if err != nil {
			return nil, err
		}
		runs[name] = [2]uint64{stats.RunCount, uint64(stats.Runtime)}
	}
	return runs, nil
}

// Counts shows what the kernel has counted for one socket, for tests that fail.
func (t *Tracer) Counts(inode uint64) string {
	all, err := t.in.drain()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, s := range all.sockets {
		if s.Inode != inode {
			continue
		}
		for _, o := range all.counts {
			if o.socket == s.ID {
				fmt.Fprintf(&b, "place %d api %d memory %d was %d evidence %#x device %s where %q: %d bytes %d packets %d lent\n",
					o.place, o.api, o.memory, o.was, uint32(o.evidence), o.device.Name, o.where, o.bytes, o.packets, o.lent)
			}
		}
	}
	for _, f := range all.facts {
		if slices.ContainsFunc(all.sockets, func(s Socket) bool { return s.ID == f.socket && s.Inode == inode }) {
			fmt.Fprintf(&b, "fact %d api %d memory %d evidence %#x device %s: %d bytes %d times by %v\n",
				f.kind, f.api, f.memory, uint32(f.evidence), f.device.Name, f.bytes, f.times, f.callers)
		}
	}
	fmt.Fprintf(&b, "%+v", all.losses)
	return b.String()
}

// Skipped is how often hooks were skipped so far.
func (t *Tracer) Skipped() uint64 {
	if f, ok := t.in.(*functionTracer); ok {
		return f.missed().total()
	}
	return 0
}

// Allow sets how much of a processor's time looking may take: nothing makes a
// tracer sample whatever there is to see.
func (t *Tracer) Allow(part float64) {
	w := t.in.(*attachment).watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.may = part
}

// Samples says whether the tracer looks in windows now, and not all of the time.
func (t *Tracer) Samples() bool {
	w := t.in.(*attachment).watch
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.number%2 == 1 || !w.open
}

// ProgramRuns returns how often each program of the tier of tracepoints and of
// diagnosis ran, and for how many nanoseconds, while the kernel counts that.
func (t *Tracer) ProgramRuns() (map[string][2]uint64, error) {
	runs := map[string][2]uint64{}
	loaded := []*ebpf.Collection{t.in.(*attachment).loaded}
	if t.calls.hooks != nil {
		loaded = append(loaded, t.calls.hooks.loaded)
	}
	for _, c := range loaded {
		for name, p := range c.Programs {
			stats, err := p.Stats()
			if err != nil {
				return nil, err
			}
			runs[name] = [2]uint64{runs[name][0] + stats.RunCount, runs[name][1] + uint64(stats.Runtime)}
		}
	}
	return runs, nil
}
