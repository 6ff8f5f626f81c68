package ebpf

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// TestAdvise: what follows from facts, and what does not.
func TestAdvise(t *testing.T) {
	call := func(p pattern, change func(*callCount)) diagnosisFacts {
		c := callCount{pid: 7, comm: "server", pattern: p, call: "sendmsg", target: partyTCP, calls: 100, bytes: 100 << 16, inode: 9}
		if change != nil {
			change(&c)
		}
		return diagnosisFacts{calls: []callCount{c}, optmemMax: 131072}
	}
	start := time.Unix(1000, 0)
	waiting := func(change func(*watchedSocket)) diagnosisFacts {
		s := watchedSocket{first: start, last: start.Add(3 * time.Second), waitsFrom: start.Add(time.Second), sentFrom: 10}
		s.socketNow = socketNow{Socket: Socket{PID: 7, Comm: "server", Protocol: "tcp"}, zerocopy: true, ids: true, oldest: 5, newest: 104, next: 120, optmem: 832, optmemMax: 131072}
		if change != nil {
			change(&s)
		}
		return diagnosisFacts{sockets: []watchedSocket{s}}
	}
	tapped := func(m probe.Mechanism) diagnosisFacts {
		return diagnosisFacts{
			flows: []Flow{{PID: 7, Comm: "server", API: "msg_zerocopy", NetNS: 3, Bytes: 100, CopiedBytes: 100,
				Causes: []Cause{{ID: "packet-tap", Mechanism: m, Device: "eth0", Bytes: 100}}}},
			taps: map[uint32][]probe.TapReport{3: {{Device: "eth1", PID: 5, Comm: "other", CopiesOutgoing: new(true)},
				{Device: "eth0", PID: 6, Comm: "tcpdump", CopiesOutgoing: new(true)}}},
			latencies: map[int]latency{7: {completed: 4, copied: 4}},
		}
	}
	stamped := func(uncopied uint64) diagnosisFacts {
		f := waiting(func(s *watchedSocket) { s.ids, s.timestamps, s.Inode = false, true, 9 })
		f.flows = []Flow{{PID: 7, Inode: 9, API: "msg_zerocopy", Device: "eth0", Bytes: 100, ZeroCopiedBytes: uncopied}}
		f.latencies = map[int]latency{7: {completed: 4, copied: 4}}
		return f
	}
	for _, c := range []struct {
		name  string
		facts diagnosisFacts
		want  string // ids
		says  string // part of the first text
		gaps  int
	}{
		{name: "nothing"},
		{name: "loop", facts: call(patternLoop, nil), want: "copy-loop", says: "6.2 MiB"},
		{name: "short loop", facts: call(patternLoop, func(c *callCount) { c.calls, c.bytes = 3, 3<<16 })},
		{name: "loop of little", facts: call(patternLoop, func(c *callCount) { c.calls = 5000 })},
		{name: "refused alone", facts: call(patternRefused, func(c *callCount) { c.errno = 22 })},
		{name: "fell back", facts: call(patternFellBack, func(c *callCount) { c.errno, c.call, c.source = 22, "sendfile", partyPipe }), want: "fast-path-refused", says: "EINVAL"},
		{name: "no option", facts: call(patternNoOption, nil), want: "no-so-zerocopy", says: "100 times"},
		{name: "lent", facts: call(patternZeroCopy, nil)},
		{name: "small", facts: call(patternZeroCopy, func(c *callCount) { c.small = 60 }), want: "small-send", says: "60 of 100"},
		{name: "few small", facts: call(patternZeroCopy, func(c *callCount) { c.small, c.calls = 9, 10 })},
		{name: "some small", facts: call(patternZeroCopy, func(c *callCount) { c.small = 40 })},
		{name: "no pages", facts: call(patternNoPages, nil), want: "gup-efault"},
		{name: "optmem", facts: call(patternNoBuffers, func(c *callCount) { c.optmem, c.asked, c.memlock = 131000, 65536, 65536 }), want: "optmem-limit", says: "128.0 KiB"},
		{name: "memlock", facts: call(patternNoBuffers, func(c *callCount) { c.asked, c.memlock = 65536, 65536 }), want: "memlock-limit", says: "64.0 KiB"},
		{name: "memlock of others", facts: call(patternNoBuffers, func(c *callCount) { c.asked, c.memlock, c.lockedPages = 4096, 65536, 14 }), want: "memlock-limit"},
		{name: "neither limit", facts: call(patternNoBuffers, func(c *callCount) { c.asked, c.memlock = 4096, 65536 }), gaps: 1},
		{name: "no limit", facts: call(patternNoBuffers, func(c *callCount) { c.asked, c.memlock = 1<<30, ^uint64(0) }), gaps: 1},
		{name: "size unknown", facts: call(patternNoBuffers, nil), gaps: 1},
		{name: "large splices", facts: call(patternSplice, func(c *callCount) { c.call, c.slots = "splice", 16 })},
		{name: "small splices", facts: call(patternSplice, func(c *callCount) { c.call, c.slots, c.small, c.bytes = "splice", 16, 90, 100<<12 }), want: "small-splice"},
		{name: "few splices", facts: call(patternSplice, func(c *callCount) { c.call, c.calls, c.small, c.bytes = "splice", 9, 9, 9<<12 })},
		{name: "small pipe", facts: call(patternSplice, func(c *callCount) { c.call, c.slots, c.small, c.bytes = "splice", 2, 100, 100<<13 }), want: "small-splice"},
		{name: "pipes at the limit", facts: func() diagnosisFacts {
			f := call(patternSplice, func(c *callCount) {
				c.call, c.slots, c.small, c.bytes, c.pipePages = "splice", 2, 100, 100<<13, 16384
			})
			f.pipeSoft = 16384
			return f
		}(), want: "pipe-slots"},
		{name: "datagram too large", facts: call(patternSendPages, func(c *callCount) { c.call, c.target, c.errno = "sendfile", partyUDP, 90 }), want: "udp-sendfile-emsgsize"},
		{name: "slab pages", facts: call(patternSendPages, func(c *callCount) { c.call, c.source, c.errno = "splice", partyPipe, 5 }), want: "page-not-sendable"},
		{name: "error of the disk", facts: call(patternSendPages, func(c *callCount) { c.call, c.source, c.errno = "sendfile", partyFile, 5 })},
		{name: "header", facts: call(patternHeader, func(c *callCount) { c.call = "sendfile" }), want: "cork-missing"},
		{name: "not drained", facts: waiting(nil), want: "undrained-completions", says: "does not read 100 completions"},
		{name: "waits, and nothing is sent", facts: waiting(func(s *watchedSocket) { s.next = 12 })},
		{name: "waits for a moment", facts: waiting(func(s *watchedSocket) { s.waitsFrom = s.last.Add(-time.Millisecond) })},
		{name: "none waits", facts: waiting(func(s *watchedSocket) { s.ids, s.waitsFrom = false, time.Time{} })},
		{name: "memory held", facts: waiting(func(s *watchedSocket) { s.ids, s.inferred, s.fullFrom = false, true, start }), want: "undrained-completions", says: "inferred"},
		{name: "MTU probing", facts: waiting(func(s *watchedSocket) { s.ids, s.mtuProbing = false, 1 }), want: "early-completion"},
		{name: "MTU probing, nothing lent", facts: waiting(func(s *watchedSocket) { s.ids, s.mtuProbing, s.next = false, 1, 0 })},
		{name: "MTU probing and UDP", facts: waiting(func(s *watchedSocket) { s.ids, s.mtuProbing, s.Protocol = false, 1, "udp" })},
		{name: "tap", facts: tapped(probe.AtClone), want: "packet-tap", says: "tcpdump (pid 6) captures on eth0"},
		{name: "timestamps", facts: stamped(100), want: "tx-timestamp", says: "say copied"},
		{name: "timestamps, and copied", facts: stamped(10)},
		{name: "hidden taps", facts: diagnosisFacts{tapsErr: errors.New("no")}, gaps: 1},
		{name: "no room", facts: diagnosisFacts{uncounted: 3}, gaps: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			advice, gaps := advise(&c.facts)
			var ids []string
			for _, a := range advice {
				ids = append(ids, a.ID)
				entry, ok := probe.LookupCause(a.ID)
				if !ok || a.Kind != entry.Kind || a.Remedy == "" || a.Text == "" || a.Evidence == nil {
					t.Errorf("incomplete: %+v", a)
				}
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("%q, not %q: %+v", got, c.want, advice)
			}
			if len(gaps) != c.gaps {
				t.Errorf("gaps %q", gaps)
			}
			if c.says != "" && (len(advice) == 0 || !strings.Contains(advice[0].Text, c.says)) {
				t.Errorf("does not say %q: %+v", c.says, advice)
			}
		})
	}
}

// TestSocketWatch: completions wait for as long as the oldest is the same.
func TestSocketWatch(t *testing.T) {
	var w socketWatch
	at := time.Unix(1000, 0)
	see := func(oldest, next uint32, ids bool) watchedSocket {
		w.see([]socketNow{{Socket: Socket{ID: 1, Inode: 2}, zerocopy: true, ids: ids, oldest: oldest, newest: next - 1, next: next}}, at)
		return w.all()[0]
	}
	for _, c := range []struct {
		oldest, next uint32
		ids          bool
		waited       time.Duration
	}{
		{0, 10, true, 0}, {0, 20, true, time.Second}, {15, 30, true, 0}, {0, 40, false, 0}, {35, 50, true, 0}, {35, 60, true, time.Second}, {35, 70, true, 2 * time.Second},
	} {
		at = at.Add(time.Second)
		if s := see(c.oldest, c.next, c.ids); s.waited() != c.waited {
			t.Errorf("%+v: waited %v", c, s.waited())
		}
	}
	w.see(nil, at.Add(2*time.Minute))
	if len(w.all()) != 0 {
		t.Error("a socket that is gone stays")
	}
}

func TestLatency(t *testing.T) {
	l := latency{completed: 100, most: 5000, steps: make([]uint64, 40)}
	l.steps[9], l.steps[12] = 99, 1
	if got := []time.Duration{l.below(50), l.below(99), l.below(100)}; !slices.Equal(got, []time.Duration{1024, 1024, 5000}) {
		t.Errorf("%v", got)
	}
}
