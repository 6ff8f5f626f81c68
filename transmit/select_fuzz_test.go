package transmit

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// chance turns fuzzed bytes into decisions.
type chance struct {
	b []byte
}

func (c *chance) next() int {
	if len(c.b) == 0 {
		return 0
	}
	n := c.b[0]
	c.b = c.b[1:]
	return int(n)
}

func (c *chance) flag() bool { return c.next()&1 == 1 }

func pick[T any](c *chance, from ...T) T { return from[c.next()%len(from)] }

func (c *chance) tri() *bool { return pick(c, nil, new(true), new(false)) }

func (c *chance) conditions() Conditions {
	out := idealConditions()
	out.OS = pick(c, "linux", "linux", "", "darwin")
	for _, id := range slices.Sorted(maps.Keys(out.Features)) {
		f := out.Features[id]
		f.Status = pick(c, probe.Supported, probe.Supported, probe.Unsupported, probe.Disabled, probe.Denied, probe.UnknownFeature, probe.SkippedFeature, "new")
		f.Detail = pick(c, "", "It says so.")
		if out.Features[id] = f; c.next()%8 == 7 {
			delete(out.Features, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(out.Hazards)) {
		out.Hazards[id] = probe.Hazard{ID: id, Detail: pick(c, "", "it says so"), Status: pick(c, probe.Pass, probe.Pass, probe.Warn, probe.Fail, probe.Unknown, probe.Skipped, "new")}
		if c.next()%8 == 7 {
			delete(out.Hazards, id)
		}
	}
	for i := range out.Path.APIs {
		a := &out.Path.APIs[i]
		a.ZeroCopy = pick(c, probe.ZeroCopyYes, probe.ZeroCopyYes, probe.ZeroCopyNo, probe.ZeroCopyUnknown, "new")
		a.Supported = pick(c, new(true), new(true), nil, new(false))
		a.Copies = pick(c, nil, new(0), new(1), new(2))
		a.Causes = []probe.PathCause{{ID: pick(c, "no-scatter-gather", "packet-tap", "api-copy", "checksum-pass", "no such cause"), Device: pick(c, "", "eth0")}}
	}
	out.Path.Local = pick(c, "192.0.2.2", "2001:db8::1", "", "::ffff:192.0.2.2", "?")
	switch c.next() % 4 {
	case 0:
		out.Path = nil
	case 1:
		out.Path.APIs = out.Path.APIs[:c.next()%len(out.Path.APIs)]
	}
	out.Local = c.tri()
	for range c.next() % 3 {
		out.Uplinks = append(out.Uplinks, Uplink{Device: "eth0", ScatterGather: c.tri(), Checksum4: c.tri(), Checksum6: c.tri(), Tapped: c.tri()})
	}
	out.Limits.MemlockExempt = c.flag()
	out.Limits.MemlockBytes = pick(c, nil, new(uint64(0)), new(uint64(65536)), new(uint64(8<<20)))
	out.Limits.MemlockUsedBytes = pick(c, nil, new(uint64(0)), new(uint64(1<<63)))
	out.Limits.OptmemMaxBytes = pick(c, nil, new(uint64(0)), new(uint64(20480)))
	out.Limits.Unknown = pick(c, nil, []string{"memlock_bytes"}, []string{"memlock_exempt"}, []string{"optmem_max_bytes", "pipe_max_bytes"})
	if c.next()%8 == 7 {
		out.Limits = nil
	}
	return out
}

func (c *chance) transfer() Transfer {
	return Transfer{
		Source: pick(c, SourceKinds()...), Protocol: pick(c, Protocols()...), IPv6: c.flag(),
		SizeBytes: pick[int64](c, 0, 1, 1400, 1473, 4096, 32767, 32768, 65507, 65508, 65527, 65528, 256<<10, 1<<20, 5<<30, Never),
		Parts:     c.next() % 3, SegmentBytes: pick(c, 0, 0, 1200),
		Stability: pick(c, KeptStable, MayChange, Immutable), Reuse: pick(c, ReuseReleased, ReuseAtOnce),
		Goal: pick(c, Throughput, Latency), Cache: pick(c, CacheUnknown, CacheHot, CacheCold), MappingKept: c.flag(),
	}
}

func (c *chance) options() SelectOptions {
	names := append(Backends(), "", "", "", "", "no such backend")
	o := SelectOptions{Env: pick(c, names...), Force: pick(c, names...), CallBytes: pick[int64](c, 0, 65536)}
	if c.flag() {
		o.Calibration = &Calibration{Path: "eth0", Stale: pick(c, "", "too old")}
		for _, b := range []Backend{MsgZerocopy, MmapZerocopy} {
			n := pick[int64](c, 0, 1, 8192, 1<<20, Never)
			o.Calibration.Crossovers = append(o.Calibration.Crossovers, Crossover{b, pick(c, CacheHot, CacheCold), n, n / 2, n})
		}
	}
	return o
}

// Whatever is known of a host, and whatever is asked for, a plan keeps its
// promises.
func FuzzSelect(f *testing.F) {
	f.Add([]byte{})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Add([]byte("some bytes that choose one thing and then another, and so on until there are none left of them"))
	f.Add(slices.Repeat([]byte{7, 1, 2, 250, 13}, 60))
	f.Add(slices.Repeat([]byte{3, 0, 5}, 90))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &chance{b}
		o, tr := c.options(), c.transfer()
		cond := c.conditions()
		checkPlan(t, cond, tr, o, Select(cond, tr, o))
	})
}
