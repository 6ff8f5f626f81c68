package ebpf

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// diagnosisFacts are all that advice is made from.
type diagnosisFacts struct {
	tier      Tier
	flows     []Flow
	calls     []callCount
	latencies map[int]latency // by process
	sockets   []watchedSocket
	taps      map[uint32][]probe.TapReport // as they bear on a network namespace
	tapsErr   error
	goVersion map[int]string               // by process; of those that Go built
	pipeSoft  uint64                       // fs.pipe-user-pages-soft; 0: no limit, or not known
	optmemMax uint64                       // net.core.optmem_max of this namespace; 0: not known
	uncounted uint64                       // calls for which there was no room
	predicted map[string]*probe.PathReport // by destination; where nothing is observed
}

// Completions are what the programs were told of sends with MSG_ZEROCOPY, one
// process each.
type Completions struct {
	PID               int    `json:"pid"`
	Comm              string `json:"comm"`
	Sends             uint64 `json:"sends"`       // accepted, while calls were looked at
	SmallSends        uint64 `json:"small_sends"` // of them those of less than 16 KiB
	SentBytes         uint64 `json:"sent_bytes"`
	Completed         uint64 `json:"completed"`           // of those sends, each that ended a notification; one that was read before it was reported is not seen
	ReportedCopied    uint64 `json:"reported_copied"`     // of those the kernel said SO_EE_CODE_ZEROCOPY_COPIED
	LatencyMedianNS   int64  `json:"latency_median_ns"`   // from the send, to a power of two
	LatencyP99NS      int64  `json:"latency_p99_ns"`      // the same
	LatencyMaxNS      int64  `json:"latency_max_ns"`      //
	Unread            uint64 `json:"unread"`              // completions that wait to be read now
	OldestUnreadNS    int64  `json:"oldest_unread_ns"`    // how long the oldest has been seen to wait; at least
	OptionMemoryBytes uint64 `json:"option_memory_bytes"` // held by them and by sends under way
}

// A watchedSocket is a socket as it is, and since when.
type watchedSocket struct {
	socketNow
	first     time.Time // it was seen
	last      time.Time
	waitsFrom time.Time // the oldest completion has been waiting; zero: none does
	sentFrom  uint32    // the id of the next send then
	fullFrom  time.Time // the option memory has been half full, or held without anything queued
}

func (w watchedSocket) waited() time.Duration {
	if w.waitsFrom.IsZero() {
		return 0
	}
	return w.last.Sub(w.waitsFrom)
}

// unreadIDs is how many completions wait to be read.
func (w watchedSocket) unreadIDs() uint64 {
	if !w.ids {
		return 0
	}
	return uint64(w.newest-w.oldest) + 1
}

// socketWatch follows sockets.
type socketWatch struct{ sockets map[uint64]watchedSocket }

// watchMost bounds what is kept of closed sockets.
const watchMost = 1 << 16

// see takes in what sockets are like.
func (w *socketWatch) see(now []socketNow, at time.Time) {
	if w.sockets == nil {
		w.sockets = map[uint64]watchedSocket{}
	}
	for _, s := range now {
		before, ok := w.sockets[s.ID]
		if !ok && len(w.sockets) >= watchMost {
			continue
		}
		if !ok || before.Inode != s.Inode {
			before = watchedSocket{first: at}
		}
		w.sockets[s.ID] = before.follow(s, at)
	}
	// Nobody reads the completions of a socket that is gone, and nobody has to.
	maps.DeleteFunc(w.sockets, func(_ uint64, s watchedSocket) bool { return s.last.Before(at) && at.Sub(s.last) > time.Minute })
}

func (w watchedSocket) follow(s socketNow, at time.Time) watchedSocket {
	same := w.ids && s.ids && w.oldest == s.oldest && !w.waitsFrom.IsZero()
	switch {
	case !s.ids:
		w.waitsFrom = time.Time{}
	case !same:
		w.waitsFrom, w.sentFrom = at, s.next
	}
	held := s.inferred && s.optmem > 0 && (s.queued == 0 || s.optmemMax > 0 && s.optmem > s.optmemMax/2)
	switch {
	case !held:
		w.fullFrom = time.Time{}
	case w.fullFrom.IsZero():
		w.fullFrom = at
	}
	w.socketNow, w.last = s, at
	return w
}

func (w *socketWatch) all() []watchedSocket {
	return slices.SortedFunc(maps.Values(w.sockets), func(a, b watchedSocket) int {
		return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.Inode, b.Inode))
	})
}

// keep leaves out what the trace is not about.
func (f *diagnosisFacts) keep(o Options) {
	sends := func(pid int) bool {
		return slices.ContainsFunc(f.flows, func(f Flow) bool { return f.PID == pid })
	}
	flowsOnly := o.Device != 0 || len(o.Destinations) > 0 || o.Port != 0
	f.calls = slices.DeleteFunc(f.calls, func(c callCount) bool {
		return o.Comm != "" && c.comm != o.Comm || len(o.Cgroups) > 0 && !slices.Contains(o.Cgroups, c.cgroup) || flowsOnly && !sends(c.pid)
	})
	f.sockets = slices.DeleteFunc(f.sockets, func(s watchedSocket) bool { return !o.takes(s.Socket) })
}

// advise says what is worth doing, and what could not be told.
func advise(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, rule := range []func(*diagnosisFacts) ([]Advice, []string){
		adviseRefused, adviseLoops, adviseZeroCopyCalls, adviseNoBuffers, adviseHeaders, adviseSplices,
		adviseCompletions, adviseEarly, adviseTaps, adviseCaptures, adviseTimestamps, advisePredicted,
	} {
		a, g := rule(f)
		advice, gaps = append(advice, a...), append(gaps, g...)
	}
	for i := range advice {
		entry, _ := probe.LookupCause(advice[i].ID)
		advice[i].Kind = entry.Kind
		advice[i].Remedy = cmp.Or(advice[i].Remedy, entry.Remedy)
	}
	if f.uncounted > 0 {
		gaps = append(gaps, fmt.Sprintf("%d calls for which there was no room", f.uncounted))
	}
	order := []probe.CauseKind{probe.KindHazard, probe.KindRefused, probe.KindCopy, probe.KindPass, probe.KindNote}
	slices.SortStableFunc(advice, func(a, b Advice) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(b.Bytes, a.Bytes))
	})
	return advice, gaps
}

func completionTotals(f *diagnosisFacts) []Completions {
	byPID := map[int]*Completions{}
	of := func(pid int, comm string) *Completions {
		if byPID[pid] == nil {
			byPID[pid] = &Completions{PID: pid, Comm: comm}
		}
		return byPID[pid]
	}
	for _, c := range f.calls {
		if c.pattern == patternZeroCopy {
			t := of(c.pid, c.comm)
			t.Sends += c.calls
			t.SentBytes += c.bytes
			t.SmallSends += c.small
		}
	}
	for _, s := range f.sockets {
		if s.zerocopy && (s.next > 0 || s.optmem > 0) {
			t := of(s.PID, s.Comm)
			t.Unread += s.unreadIDs()
			t.OptionMemoryBytes += s.optmem
			t.OldestUnreadNS = max(t.OldestUnreadNS, s.waited().Nanoseconds())
		}
	}
	for pid, l := range f.latencies {
		if t := byPID[pid]; t != nil && l.completed > 0 {
			t.Completed, t.ReportedCopied = l.completed, l.copied
			t.LatencyMedianNS, t.LatencyP99NS = l.below(50).Nanoseconds(), l.below(99).Nanoseconds()
			t.LatencyMaxNS = l.most.Nanoseconds()
		}
	}
	out := []Completions{}
	for _, pid := range slices.Sorted(maps.Keys(byPID)) {
		out = append(out, *byPID[pid])
	}
	return out
}

// size writes bytes for people.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// count names so many things.
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
