package render

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/probe"
)

// flow is one that is balanced, with the cause of what was copied.
func flow(pid int, comm, api, remote, device string, bytes, copied uint64, cause string) ebpf.Flow {
	f := ebpf.Flow{
		PID: pid, Comm: comm, API: api, Protocol: "tcp", Local: "10.0.0.1:40122", Remote: remote, Device: device,
		Bytes: bytes, CopiedBytes: copied, ZeroCopiedBytes: bytes - copied, Causes: []ebpf.Cause{}, Inode: 7410295, Cgroup: 4242, NetNS: 4026531840,
	}
	if entry, ok := probe.LookupCause(cause); ok {
		mechanism := probe.AtSend
		if len(entry.Mechanisms) > 0 {
			mechanism = entry.Mechanisms[0]
		}
		c := ebpf.Cause{ID: cause, Kind: entry.Kind, Mechanism: mechanism, Bytes: copied, Packets: copied/65536 + 1, Expected: entry.Expected}
		if !entry.Expected {
			c.Device = device
		}
		f.Causes = append(f.Causes, c)
	}
	return f
}

func traced(tier ebpf.Tier, flows ...ebpf.Flow) *Traced {
	s := &ebpf.Summary{Schema: ebpf.Schema, Type: "summary", Tier: tier, Exact: true, SampleEvery: 1, DurationNS: 10_012_345_678,
		Incomplete: []string{}, Flows: append([]ebpf.Flow{}, flows...), Causes: []ebpf.CauseTotal{}, Advice: []ebpf.Advice{}, Completions: []ebpf.Completions{}}
	at := map[string]int{}
	for _, f := range flows {
		for _, c := range f.Causes {
			i, ok := at[c.ID]
			if !ok {
				i, at[c.ID] = len(s.Causes), len(s.Causes)
				s.Causes = append(s.Causes, ebpf.CauseTotal{ID: c.ID, Kind: c.Kind, Expected: c.Expected})
			}
			s.Causes[i].Bytes += c.Bytes
			s.Causes[i].Packets += c.Packets
		}
	}
	return &Traced{Summary: s, Refused: []RefusedTier{{"fentry", "the kernel refuses programs at the entry of functions"}}, Hooks: []ebpf.Hook{
		{Name: "net_dev_queue", Tier: tier, Purpose: "which memory payload lies in when it comes to a device", Runs: "each packet and device", Blind: "everything", Since: "5.10", Attached: true},
		{Name: "tcp_sendmsg_locked", Tier: tier, Purpose: "by which API each part of a TCP stream is sent", Runs: "each send", Blind: "what TCP sockets send by which API",
			Since: "6.16", Err: errors.New("the kernel has no such tracepoint")},
	}}
}

// tracedServer is a web server behind a device without scatter-gather.
func tracedServer() *Traced {
	partly := flow(4711, "nginx", "sendfile", "192.0.2.7:51234", "eth0", 1200<<20, 900<<20, "no-scatter-gather")
	partly.ZeroCopiedBytes -= 12 << 10
	partly.UnknownBytes, partly.RetransmittedData = 12<<10, 703<<10
	partly.Causes[0].Stack = []ebpf.Stack{{Packets: 14000, Frames: []string{"skb_segment+0x123", "tcp_gso_segment+0x45", "validate_xmit_skb+0x200"}},
		{Packets: 17, Frames: []string{"__pskb_pull_tail+0x1"}}, {Packets: 1, Frames: []string{"not_shown+0x0"}}}
	written := flow(4712, "nginx", "write", "[2001:db8::7]:51235", "eth0", 5<<20, 5<<20, "api-copy")
	datagrams := flow(812, "named", "msg_zerocopy", "", "eth0", 300, 0, "")
	datagrams.Protocol = "udp"
	fixed := flow(99, "store", "io_uring_send_zc", "10.0.0.9:9000", "eth1", 64<<20, 0, "")
	fixed.FixedBuffers = true
	t := traced(ebpf.TierTracepoint, partly, written, fixed, datagrams)
	t.Incomplete = []string{"not seen without tcp_sendmsg_locked: what TCP sockets send by which API", "this tier does not see payload of sockets other than TCP and UDP"}
	t.CallsWatchedNS = t.DurationNS
	t.Completions = []ebpf.Completions{{PID: 812, Comm: "named", Sends: 5000, SmallSends: 1, SentBytes: 1 << 30, Completed: 4990, ReportedCopied: 3,
		LatencyMedianNS: 131072, LatencyP99NS: 4194304, LatencyMaxNS: 10_000_000, Unread: 10, OldestUnreadNS: 3_000_000_000, OptionMemoryBytes: 8192},
		{PID: 1, Comm: "idle", Sends: 1, SentBytes: 1}}
	t.Advice = []ebpf.Advice{{ID: "fast-path-refused", Kind: "refused", Text: "sendfile was refused 312 times (EINVAL), and the data was read and written instead.",
		Remedy: "open the file without O_APPEND", PID: 4711, Comm: "nginx", Calls: 312, Bytes: 1 << 20, Evidence: []probe.Evidence{{Source: "sendfile", Value: "EINVAL, 312 times"}}}}
	return t
}

func tracedHostile() *Traced {
	f := flow(666, fixture.Hostile, fixture.Hostile, fixture.Hostile, fixture.Hostile, 1000, 1000, "no-scatter-gather")
	t := traced(ebpf.TierTracepoint, f)
	t.Advice = []ebpf.Advice{{ID: fixture.Hostile, Kind: "note", Text: fixture.Hostile, Remedy: fixture.Hostile, Comm: fixture.Hostile, Device: fixture.Hostile,
		Evidence: []probe.Evidence{{Source: fixture.Hostile, Value: fixture.Hostile}}}}
	t.Incomplete = []string{fixture.Hostile}
	t.Completions = []ebpf.Completions{{PID: 666, Comm: fixture.Hostile, Sends: 2}}
	t.CommandStatus = new(139)
	return t
}

func tracedMany() *Traced {
	var flows []ebpf.Flow
	for i := range 40 {
		flows = append(flows, flow(1000+i, "worker", "msg_zerocopy", fmt.Sprintf("192.0.2.%d:443", i+1), "lo", uint64(1000-i)<<10, uint64(1000-i)<<10, "loopback-delivery"))
	}
	t := traced(ebpf.TierTracepoint, flows...)
	t.LostEvents = 17
	return t
}

func tracedEmpty(tier ebpf.Tier) *Traced { return traced(tier) }

func tracedSampled(tier ebpf.Tier) *Traced {
	f := flow(4711, "nginx", "sendfile", "192.0.2.7:51234", "eth0", 5<<30, 0, "")
	t := traced(tier, f)
	t.Exact, t.SampleEvery = false, 16
	return t
}

// Without BPF nothing is known of where bytes lie.
func tracedNone() *Traced {
	f := flow(4711, "nginx", "unknown", "192.0.2.7:51234", "eth0", 5<<20, 0, "")
	f.ZeroCopiedBytes, f.UnknownBytes = 0, f.Bytes
	t := traced(ebpf.TierNone, f)
	t.Incomplete = []string{"without BPF no copy is seen"}
	t.CommandStatus = new(0)
	return t
}

func TestGoldenTrace(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *Traced
		how  int
		set  func(*text.Printer)
	}{
		{"trace", tracedServer(), Normal, nil},
		{"trace-ascii", tracedServer(), Normal, ascii},
		{"trace-quiet", tracedServer(), Quiet, nil},
		{"trace-verbose", tracedServer(), Verbose, nil},
		{"trace-wide", tracedServer(), Normal, func(p *text.Printer) { p.Width = 120 }},
		{"trace-hostile", tracedHostile(), Verbose, nil},
		{"trace-hostile-ascii", tracedHostile(), Normal, ascii},
		{"trace-many", tracedMany(), Normal, nil},
		{"trace-empty", tracedEmpty(ebpf.TierTracepoint), Normal, nil},
		{"trace-fentry", tracedSampled(ebpf.TierFentry), Normal, nil},
		{"trace-kprobe", tracedSampled(ebpf.TierKprobe), Normal, nil},
		{"trace-none", tracedNone(), Normal, nil},
		{"trace-none-empty", tracedEmpty(ebpf.TierNone), Normal, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { Trace(p, c.r, c.how) })
			goldenJSON(t, c.name, "trace.v1", c.r)
		})
	}
}

// goldenJSON compares what is printed for programs with a file, once for each
// answer, whatever the ways to show it.
func goldenJSON(t *testing.T, name, schema string, v any) {
	t.Helper()
	validJSON(t, schema, v)
	var b bytes.Buffer
	if err := JSONLine(&b, v); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if r != '\n' && (r < ' ' || r == 0x7f || r == '\u202e') {
			t.Errorf("%q in %s", r, b.String())
		}
	}
	name, _, _ = strings.Cut(name, "-ascii")
	if strings.HasSuffix(name, "-quiet") || strings.HasSuffix(name, "-verbose") || strings.HasSuffix(name, "-wide") {
		return
	}
	goldenFile(t, name+".json", b.Bytes())
}

func TestGoldenTracePlan(t *testing.T) {
	plan := PlanOf(&ebpf.Plan{Tier: ebpf.TierTracepoint, Hooks: tracedServer().Hooks,
		Tiers: []probe.Tier{{ID: "fentry", Status: probe.Denied, Detail: "It needs CAP_BPF and CAP_PERFMON, or root."}, {ID: "tp_btf", Status: probe.Supported, Detail: "It was attached."}},
		Needs: []ebpf.Privilege{{Name: "CAP_BPF", For: "to load programs", Held: true}, {Name: "CAP_PERFMON", For: "to attach them"}}})
	golden(t, "trace-plan", nil, func(p *text.Printer) { TracePlan(p, plan) })
	goldenJSON(t, "trace-plan", "trace-plan.v1", plan)
	cannot := PlanOf(&ebpf.Plan{Tier: ebpf.TierFentry, Err: errors.New("fentry is denied: Tracing needs CAP_BPF and CAP_PERFMON, or root."), Hooks: tracedServer().Hooks,
		Tiers: plan.Tiers, Needs: []ebpf.Privilege{{Name: "CAP_BPF", For: "to load programs"}}})
	golden(t, "trace-plan-cannot", nil, func(p *text.Printer) { TracePlan(p, cannot) })
	goldenJSON(t, "trace-plan-cannot", "trace-plan.v1", cannot)
	empty := PlanOf(&ebpf.Plan{Tier: ebpf.TierNone})
	golden(t, "trace-plan-none", nil, func(p *text.Printer) { TracePlan(p, empty) })
}

func TestGoldenTraceLive(t *testing.T) {
	before := tracedServer().Summary
	before.DurationNS -= 1e9
	for i := range before.Flows {
		before.Flows[i].Bytes /= 2
	}
	for _, c := range []struct {
		name   string
		s, was *ebpf.Summary
		lines  int
		set    func(*text.Printer)
	}{
		{"trace-live", tracedServer().Summary, before, 22, nil},
		{"trace-live-first", tracedServer().Summary, nil, 22, nil},
		{"trace-live-low", tracedMany().Summary, nil, 8, nil},
		{"trace-live-narrow", tracedServer().Summary, before, 22, func(p *text.Printer) { p.Width = 39 }},
		{"trace-live-hostile", tracedHostile().Summary, nil, 22, nil},
		{"trace-live-unknown", tracedNone().Summary, nil, 22, nil},
		{"trace-live-empty", tracedEmpty(ebpf.TierTracepoint).Summary, nil, 22, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { TraceLive(p, c.s, c.was, c.lines) })
			var b bytes.Buffer
			p := text.New(&b)
			TraceLive(p, c.s, c.was, c.lines)
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(b.String(), "\n"); n > c.lines {
				t.Errorf("%d lines, for %d", n, c.lines)
			}
		})
	}
}

// A share of 0 or 100 % is exact.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		n, all uint64
		want   string
	}{{0, 0, "0 %"}, {0, 9, "0 %"}, {1, 1 << 40, "under 1 %"}, {3, 4, "75 %"}, {1<<40 - 1, 1 << 40, "over 99 %"}, {7, 7, "100 %"}, {996, 1000, "over 99 %"}} {
		if got := share(c.n, c.all); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.n, c.all, got, c.want)
		}
	}
}

// Many connections do not hide by which call most bytes went.
func TestManyFlows(t *testing.T) {
	for hosts, want := range map[int]string{1: "10.0.1.1, 30 flows", 20: "20 hosts, 30 flows"} {
		s := &ebpf.Summary{}
		for i := range 30 {
			remote := fmt.Sprintf("10.0.1.%d:%d", 1+i%hosts, 2000+i)
			s.Flows = append(s.Flows, ebpf.Flow{PID: 7, Comm: "nginx", API: "writev", Protocol: "tcp", Remote: remote, Device: "eth0", Bytes: 240, CopiedBytes: 240})
			s.Flows = append(s.Flows, ebpf.Flow{PID: 7, Comm: "nginx", API: "sendfile", Protocol: "tcp", Remote: remote, Device: "eth0", Bytes: 1 << 20, ZeroCopiedBytes: 1 << 20})
		}
		var b bytes.Buffer
		p := text.New(&b)
		tracedFlows(p, s.Flows, Normal)
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		out := b.String()
		if strings.Count(out, want) != 2 || !strings.Contains(out, "30 MiB") || strings.Contains(out, "more") {
			t.Errorf("%d hosts:\n%s", hosts, out)
		}
	}
}
