package transmit

import (
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// idealConditions is a host on which everything works, and a path that copies nothing.
func idealConditions() Conditions {
	c := Conditions{
		OS: "linux", Features: map[string]probe.Feature{}, Hazards: map[string]probe.Hazard{},
		Limits: &probe.Limits{MemlockExempt: true, OptmemMaxBytes: new(uint64(131072)), PipeMaxBytes: new(uint64(1 << 20))},
		Local:  new(false),
	}
	for _, id := range []string{
		"sendfile.tcp", "sendfile.udp", "sendfile.unix", "sendfile.pipe", "sendfile.file", "splice.file-tcp", "splice.tcp-tcp",
		"vmsplice", "copy_file_range", "io_uring", "io_uring.send_zc", "msg_zerocopy.tcp4", "msg_zerocopy.tcp6", "msg_zerocopy.udp4", "msg_zerocopy.udp6", "udp.gso",
	} {
		c.Features[id] = probe.Feature{ID: id, Status: probe.Supported, Detail: id + " works."}
	}
	for _, id := range []string{"early-completion", "udp-splice-csum-loss", "udp-sendfile-loss", "live-source", "stale-source", "truncated-tail"} {
		c.Hazards[id] = probe.Hazard{ID: id, Status: probe.Pass}
	}
	c.Path = &probe.PathReport{Destination: "192.0.2.1", Local: "192.0.2.2", MTU: 1500}
	add := func(api, proto, source string, size uint64, copies int) {
		zero := probe.ZeroCopyYes
		if copies > 0 {
			zero = probe.ZeroCopyNo
		}
		c.Path.APIs = append(c.Path.APIs, probe.APIReport{API: api, Protocol: proto, Source: source, SizeBytes: size,
			Supported: new(true), Copies: &copies, ZeroCopy: zero})
	}
	for _, n := range []uint64{1024, 65536} {
		add("write", "tcp", "memory", n, 1)
		add("writev", "tcp", "memory", n, 1)
		add("write", "tcp", "file", n, 2)
		add("sendfile", "tcp", "file", n, 0)
		add("splice", "tcp", "file", n, 0)
		add("splice", "tcp", "socket", n, 0)
		add("splice", "tcp", "pipe", n, 0)
		add("vmsplice", "tcp", "memory", n, 0)
		add("msg_zerocopy", "tcp", "memory", n, 0)
		add("io_uring_send_zc", "tcp", "memory", n, 0)
	}
	for i, n := range []uint64{1472, 1473} {
		add("write", "udp", "memory", n, 1)
		add("sendfile", "udp", "file", n, 0)
		add("splice", "udp", "file", n, 0)
		add("msg_zerocopy", "udp", "memory", n, i)
	}
	c.Path.APIs[len(c.Path.APIs)-1].Causes = []probe.PathCause{{ID: "udp-over-mtu", Mechanism: probe.AtSend}}
	add("msg_zerocopy", "udp", "memory", 44*1472, 0)
	return c
}

func featureIs(id string, s probe.FeatureStatus) func(*Conditions) {
	return func(c *Conditions) {
		c.Features[id] = probe.Feature{ID: id, Status: s, Detail: "It says so.", Subject: "/srv"}
	}
}

// spliceFrom is a calibration of the laboratory by which splice is cheaper from so many
// bytes on.
func spliceFrom(n int64) SelectOptions {
	return SelectOptions{Calibration: &Calibration{Path: CalibrationLab, LowerBound: true, Crossovers: []Crossover{{Splice, CacheHot, n, n, Never}}}}
}

// pipesAre limits the pages of pipes, for so many connections.
func pipesAre(pages, connections uint64) func(*Conditions) {
	return func(c *Conditions) { c.Limits.PipeUserSoftPages, c.Limits.Connections = &pages, connections }
}

func hazardIs(id string, s probe.CheckStatus) func(*Conditions) {
	return func(c *Conditions) { c.Hazards[id] = probe.Hazard{ID: id, Status: s, Detail: "it says so"} }
}

func memlockIs(bytes uint64) func(*Conditions) {
	return func(c *Conditions) { c.Limits.MemlockExempt, c.Limits.MemlockBytes = false, &bytes }
}

// copied changes what the path says of calls, those over TCP: so many copies, by
// a cause.
func pathCopies(copies int, cause string, apis ...string) func(*Conditions) {
	return func(c *Conditions) {
		for i := range c.Path.APIs {
			if a := &c.Path.APIs[i]; a.Protocol == "tcp" && slices.Contains(apis, a.API) {
				a.Copies, a.ZeroCopy = &copies, probe.ZeroCopyNo
				a.Causes = []probe.PathCause{{ID: cause, Mechanism: probe.AtLinearize, Device: "eth0"}}
			}
		}
		c.Path.Blockers = []probe.PathBlocker{{ID: cause, Device: "eth0", Remedy: "ethtool -K eth0 sg on"}}
	}
}

func pathDoubtful(apis ...string) func(*Conditions) {
	return func(c *Conditions) {
		for i := range c.Path.APIs {
			if a := &c.Path.APIs[i]; slices.Contains(apis, a.API) {
				a.Copies, a.ZeroCopy, a.Detail = nil, probe.ZeroCopyUnknown, "Could not tell."
			}
		}
	}
}

func withoutPath(c *Conditions) { c.Path, c.Local = nil, nil }

func uplinkIs(sg, csum, tapped *bool) func(*Conditions) {
	return func(c *Conditions) {
		withoutPath(c)
		c.Uplinks = append(c.Uplinks, Uplink{Device: "eth0", ScatterGather: sg, Checksum4: csum, Checksum6: csum, Tapped: tapped, SGRemedy: "ethtool -K eth0 sg on"})
	}
}

var (
	yes, no          = new(true), new(false)
	memTransfer      = Transfer{Source: SourceMemory, Protocol: TCP, SizeBytes: 1 << 20}
	ringTransfer     = Transfer{Source: SourceMemory, Protocol: TCP, SizeBytes: 1 << 20, Ring: true}
	fileTransfer     = Transfer{Source: SourceFile, Protocol: TCP, SizeBytes: 1 << 20}
	keptTransfer     = Transfer{Source: SourceFile, Protocol: TCP, SizeBytes: 1 << 20, MappingKept: true}
	datagramTransfer = Transfer{Source: SourceFile, Protocol: UDP, SizeBytes: 1400}
)

// changed changes a copy of a transfer.
func changed(t Transfer, f func(*Transfer)) Transfer {
	f(&t)
	return t
}

// A selectCase is what is chosen, and of one loser (or of the winner) the cause
// that is named.
type selectCase struct {
	name string
	set  func(*Conditions)
	t    Transfer
	o    SelectOptions
	want Backend

	lost  Backend // is rejected with this cause and these words
	cause string
	words string
	note  string // the cause of a note of the plan
}

var selectCases = []selectCase{
	{name: "memory", t: memTransfer, want: MsgZerocopy, lost: Write, cause: "api-copy"},
	{name: "memory over IPv6", t: changed(memTransfer, func(t *Transfer) { t.IPv6 = true }), set: func(c *Conditions) { withoutPath(c); delete(c.Features, "msg_zerocopy.tcp4") }, want: MsgZerocopy},
	{name: "file", t: fileTransfer, want: Sendfile, lost: ReadWrite, cause: "read-copy"},
	{name: "mapped file", t: keptTransfer, want: MmapZerocopy, lost: Sendfile, cause: "pipe-slots"},
	{name: "socket", t: Transfer{Source: SourceSocket, Protocol: TCP}, want: Splice, lost: ReadWrite, cause: "read-copy"},
	{name: "pipe to pipe", t: Transfer{Source: SourcePipe, Protocol: ToPipe}, want: Splice},
	{name: "file to unix", t: Transfer{Source: SourceFile, Protocol: Unix}, want: Sendfile},
	{name: "file to pipe", t: Transfer{Source: SourceFile, Protocol: ToPipe}, want: Splice, lost: Sendfile, cause: "sendfile-to-pipe"},
	{name: "file to file", t: Transfer{Source: SourceFile, Protocol: ToFile}, want: CopyFileRange, lost: Sendfile, cause: "file-to-file"},

	{name: "another system", set: func(c *Conditions) { c.OS = "plan9" }, t: fileTransfer, want: ReadWrite, lost: Sendfile, words: "needs Linux"},
	{name: "memory to unix", t: Transfer{Source: SourceMemory, Protocol: Unix, SizeBytes: 1 << 20}, want: Write, lost: MsgZerocopy, cause: "non-zc-proto"},

	{name: "no locked memory", set: memlockIs(0), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "memlock-limit", words: "the limit is 0"},
	{name: "locked memory for all but two pages", set: memlockIs(1<<20 + 4096), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "memlock-limit"},
	{name: "locked memory just enough", set: memlockIs(1<<20 + 8192), t: memTransfer, want: MsgZerocopy},
	{name: "locked memory for a piece", set: memlockIs(128 << 10), t: memTransfer, o: SelectOptions{CallBytes: 64 << 10}, want: MsgZerocopy},
	{name: "locked memory for pieces of what is large", set: memlockIs(8 << 20), t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 5 << 30 }), want: MsgZerocopy},
	{name: "locked memory for a stream", set: memlockIs(64 << 10), t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 0 }), want: Write, lost: MsgZerocopy, cause: "memlock-limit"},
	{name: "locked memory of a mapping", set: memlockIs(64 << 10), t: keptTransfer, want: Sendfile, lost: MmapZerocopy, cause: "memlock-limit"},
	{name: "locked memory unknown", set: func(c *Conditions) { c.Limits = nil }, t: memTransfer, want: MsgZerocopy, note: "memlock-limit"},
	{name: "locked memory perhaps", set: func(c *Conditions) { memlockIs(0)(c); c.Limits.Unknown = []string{"memlock_exempt"} }, t: memTransfer, want: MsgZerocopy, note: "memlock-limit"},
	{name: "locked memory in use", set: func(c *Conditions) { memlockIs(2 << 20)(c); c.Limits.MemlockUsedBytes = new(uint64(1 << 20)) }, t: memTransfer, want: MsgZerocopy, note: "memlock-limit"},
	{name: "no option memory", set: func(c *Conditions) { c.Limits.OptmemMaxBytes = new(uint64(500)) }, t: memTransfer, want: Write, lost: MsgZerocopy, cause: "optmem-limit"},

	{name: "no zero-copy", set: featureIs("msg_zerocopy.tcp4", probe.Unsupported), t: memTransfer, want: Write, lost: MsgZerocopy, words: "It says so"},
	{name: "no sendfile", set: featureIs("sendfile.tcp", probe.Denied), t: fileTransfer, want: Splice, lost: Sendfile, cause: "fast-path-refused"},
	{name: "no splice either", set: func(c *Conditions) {
		featureIs("sendfile.tcp", probe.Denied)(c)
		featureIs("splice.file-tcp", probe.Disabled)(c)
	}, t: fileTransfer, want: ReadWrite, lost: Splice, cause: "fast-path-refused"},
	{name: "sendfile not known", set: featureIs("sendfile.tcp", probe.UnknownFeature), t: fileTransfer, want: Sendfile, note: ""},
	{name: "no UDP_SEGMENT", set: featureIs("udp.gso", probe.Unsupported), t: Transfer{Source: SourceMemory, Protocol: UDP, SizeBytes: 60000, SegmentBytes: 1400}, want: Write, lost: MsgZerocopy, words: "It says so"},
	{name: "directory", set: featureIs("dir.sendfile", probe.Unsupported), t: fileTransfer, want: Splice, lost: Sendfile, cause: "fast-path-refused"},
	{name: "directory of splice", set: func(c *Conditions) {
		featureIs("dir.sendfile", probe.Unsupported)(c)
		featureIs("dir.splice", probe.Unsupported)(c)
	}, t: fileTransfer, want: ReadWrite, lost: Splice, cause: "fast-path-refused"},

	{name: "datagram", t: datagramTransfer, want: Sendfile},
	{name: "datagram that would be lost", set: hazardIs("udp-splice-csum-loss", probe.Fail), t: datagramTransfer, want: ReadWrite, lost: Sendfile, cause: "udp-splice-csum-loss"},
	{name: "datagram that might be lost", set: hazardIs("udp-splice-csum-loss", probe.Unknown), t: datagramTransfer, want: ReadWrite, lost: Splice, cause: "udp-splice-csum-loss"},
	{name: "datagram never tried", set: func(c *Conditions) { clear(c.Hazards) }, t: datagramTransfer, want: ReadWrite, lost: Sendfile, cause: "udp-splice-csum-loss"},
	{name: "datagram by sendfile lost", set: hazardIs("udp-sendfile-loss", probe.Fail), t: datagramTransfer, want: ReadWrite, lost: Sendfile, cause: "udp-sendfile-loss"},
	{name: "datagram that a pipe may not hold", set: featureIs("dir.sendfile", probe.Unsupported), t: changed(datagramTransfer, func(t *Transfer) { t.SizeBytes = 61441 }), want: ReadWrite, lost: Splice, words: "two datagrams"},
	{name: "datagram that a pipe holds", set: featureIs("dir.sendfile", probe.Unsupported), t: changed(datagramTransfer, func(t *Transfer) { t.SizeBytes = 61440 }), want: Splice},
	{name: "datagram of unknown size", t: changed(datagramTransfer, func(t *Transfer) { t.SizeBytes = 0 }), want: ReadWrite, lost: Sendfile, cause: "udp-sendfile-emsgsize"},
	{name: "datagram too large", t: changed(datagramTransfer, func(t *Transfer) { t.SizeBytes = 65508 }), want: ReadWrite, lost: Splice, cause: "udp-sendfile-emsgsize"},
	{name: "relay to UDP", t: Transfer{Source: SourceSocket, Protocol: UDP}, want: ReadWrite, lost: Splice, words: "what has arrived"},
	{name: "large datagram of memory", t: Transfer{Source: SourceMemory, Protocol: UDP, SizeBytes: 40000}, want: Write, lost: MsgZerocopy, cause: "udp-over-mtu"},
	{name: "datagrams of memory", t: Transfer{Source: SourceMemory, Protocol: UDP}, want: Write, lost: MsgZerocopy, cause: "udp-over-mtu"},
	{name: "datagrams, path unknown", set: withoutPath, t: Transfer{Source: SourceMemory, Protocol: UDP}, want: Write, lost: MsgZerocopy, cause: "udp-over-mtu"},
	{name: "datagrams by a ring, copied", t: Transfer{Source: SourceMemory, Protocol: UDP, SizeBytes: 1400}, want: Write, lost: IoUringSend, words: "copies as write does"},
	{name: "batch of datagrams", t: Transfer{Source: SourceMemory, Protocol: UDP, SizeBytes: 60000, SegmentBytes: 1400}, want: MsgZerocopy},
	{name: "batch too large", t: Transfer{Source: SourceMemory, Protocol: UDP, SizeBytes: 65508, SegmentBytes: 1400}, want: Write, lost: MsgZerocopy, words: "at most 65507"},

	{name: "file that changes", t: changed(fileTransfer, func(t *Transfer) { t.Stability = MayChange }), want: ReadWrite, lost: Sendfile, cause: "live-source"},
	{name: "mapping that changes", t: changed(keptTransfer, func(t *Transfer) { t.Stability = MayChange }), want: ReadWrite, lost: MmapZerocopy, cause: "live-source"},
	{name: "mapping that shrinks", t: changed(keptTransfer, func(t *Transfer) { t.Stability = MayChange }), want: ReadWrite, lost: MmapWrite, cause: "truncated-tail"},
	{name: "file kept as it is", set: hazardIs("live-source", probe.Warn), t: fileTransfer, want: Sendfile, note: "live-source"},
	{name: "mapping kept as it is", set: hazardIs("truncated-tail", probe.Warn), t: keptTransfer, want: MmapZerocopy, note: "truncated-tail"},
	{name: "memory that changes", t: changed(memTransfer, func(t *Transfer) { t.Stability = MayChange }), want: Write, lost: MsgZerocopy, words: "may change"},
	{name: "file that changes, to a file", t: Transfer{Source: SourceFile, Protocol: ToFile, Stability: MayChange}, want: CopyFileRange},
	{name: "stale file", set: hazardIs("stale-source", probe.Warn), t: fileTransfer, want: ReadWrite, lost: Sendfile, cause: "stale-source"},
	{name: "perhaps stale file", set: hazardIs("stale-source", probe.Unknown), t: keptTransfer, want: ReadWrite, lost: MmapZerocopy, cause: "stale-source"},
	{name: "stale file that is immutable", set: hazardIs("stale-source", probe.Fail), t: changed(fileTransfer, func(t *Transfer) { t.Stability = Immutable }), want: ReadWrite, lost: Splice, cause: "stale-source"},
	{name: "immutable file of a share", set: hazardIs("stale-source", probe.Warn), t: changed(fileTransfer, func(t *Transfer) { t.Stability = Immutable }), want: Sendfile},
	{name: "stale file to a file", set: hazardIs("stale-source", probe.Fail), t: Transfer{Source: SourceFile, Protocol: ToFile}, want: ReadWrite, lost: CopyFileRange, cause: "stale-source"},
	{name: "memory wanted back", t: changed(memTransfer, func(t *Transfer) { t.Reuse = ReuseAtOnce }), want: Write, lost: MsgZerocopy, words: "wanted back"},
	{name: "early completions", set: hazardIs("early-completion", probe.Fail), t: memTransfer, want: MsgZerocopy, note: "early-completion"},
	{name: "perhaps early completions", set: hazardIs("early-completion", probe.Unknown), t: memTransfer, want: MsgZerocopy, note: "early-completion"},

	{name: "call refused on the path", set: func(c *Conditions) { c.Path.APIs[8].Supported, c.Path.APIs[18].Supported = no, no }, t: memTransfer, want: Write, lost: MsgZerocopy, words: "refuses"},
	{name: "receiver on this machine", set: pathCopies(1, "loopback-delivery", "msg_zerocopy"), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "loopback-delivery"},
	{name: "capture", set: pathCopies(1, "packet-tap", "msg_zerocopy"), t: keptTransfer, want: Sendfile, lost: MmapZerocopy, cause: "packet-tap"},
	{name: "no scatter-gather", set: pathCopies(1, "no-scatter-gather", "msg_zerocopy", "sendfile", "splice"), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "no-scatter-gather", words: "eth0"},
	{name: "file without checksums", set: pathCopies(1, "no-tx-csum", "msg_zerocopy", "sendfile", "splice"), t: fileTransfer, want: Sendfile, note: "no-tx-csum"},
	{name: "mapping without checksums", set: pathCopies(1, "no-tx-csum", "msg_zerocopy", "sendfile", "splice"), t: keptTransfer, want: MmapWrite, lost: Sendfile, cause: "no-tx-csum"},
	{name: "doubtful path", set: pathDoubtful("msg_zerocopy"), t: memTransfer, want: MsgZerocopy, note: ""},
	{name: "mapping on a doubtful path", set: pathDoubtful("msg_zerocopy"), t: keptTransfer, want: Sendfile, lost: MmapZerocopy, words: "Could not tell"},
	{name: "mapping on an unknown path", set: withoutPath, t: keptTransfer, want: Sendfile, lost: MmapZerocopy, words: "path is not known"},
	{name: "path unknown", set: withoutPath, t: memTransfer, want: MsgZerocopy},
	{name: "path unknown, receiver here", set: func(c *Conditions) { withoutPath(c); c.Local = yes }, t: memTransfer, want: Write, lost: MsgZerocopy, cause: "loopback-delivery"},
	{name: "no device with scatter-gather", set: uplinkIs(no, yes, no), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "no-scatter-gather"},
	{name: "no device with checksums", set: uplinkIs(yes, no, no), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "no-tx-csum"},
	{name: "all devices tapped", set: uplinkIs(yes, yes, yes), t: memTransfer, want: Write, lost: MsgZerocopy, cause: "packet-tap"},
	{name: "one of two devices", set: func(c *Conditions) { uplinkIs(no, yes, no)(c); uplinkIs(yes, yes, nil)(c) }, t: memTransfer, want: MsgZerocopy},

	{name: "vmsplice is not volunteered", set: featureIs("msg_zerocopy.tcp4", probe.Unsupported), t: memTransfer, want: Write, lost: Vmsplice, words: "Nothing says when"},
	{name: "vmsplice to a pipe", t: Transfer{Source: SourceMemory, Protocol: ToPipe}, want: Write, lost: Vmsplice, words: "Nothing says when"},
	{name: "mapping for one send", t: fileTransfer, want: Sendfile, lost: MmapZerocopy, words: "22 to 44 us"},
	{name: "mapping of a cold file", t: changed(keptTransfer, func(t *Transfer) { t.Cache = CacheCold }), want: Sendfile, lost: MmapZerocopy, cause: "cold-file"},
	{name: "small send", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 32<<10 - 1 }), want: Write, lost: MsgZerocopy, cause: "small-send", words: "2026-11-21"},
	{name: "large enough", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 32 << 10 }), want: MsgZerocopy},
	{name: "cold memory", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes, t.Cache = 16<<10, CacheCold }), want: MsgZerocopy},
	{name: "small send of a mapping", t: changed(keptTransfer, func(t *Transfer) { t.SizeBytes = 256<<10 - 1 }), want: Sendfile, lost: MmapZerocopy, cause: "small-send"},
	{name: "header and memory", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes, t.Parts = 4096, 2 }), want: Writev, lost: Write, words: "each part", o: SelectOptions{}},
	{name: "one part", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 4096 }), want: Write, lost: Writev, words: "several parts"},

	{name: "ring", t: ringTransfer, want: IoUringSendZC, lost: MsgZerocopy, words: "pins the pages"},
	{name: "ring and UDP", t: changed(ringTransfer, func(t *Transfer) { t.Protocol, t.SizeBytes, t.SegmentBytes = UDP, 60000, 1400 }), set: func(c *Conditions) { c.Path = nil }, want: IoUringSendZC},
	{name: "no ring", t: memTransfer, want: MsgZerocopy, lost: IoUringSendZC, words: "takes a ring that the program keeps"},
	{name: "ring and a small send", t: changed(ringTransfer, func(t *Transfer) { t.SizeBytes = 4096 }), want: Write, lost: IoUringSendZC, cause: "small-send"},
	{name: "ring without option memory", set: func(c *Conditions) { c.Limits.OptmemMaxBytes = new(uint64(500)) }, t: ringTransfer, want: IoUringSendZC, lost: MsgZerocopy, cause: "optmem-limit"},
	{name: "ring refused", set: featureIs("io_uring.send_zc", probe.Disabled), t: ringTransfer, want: MsgZerocopy, lost: IoUringSendZC, words: "It says so"},
	{name: "ring to a unix socket", t: Transfer{Source: SourceMemory, Protocol: Unix, Ring: true}, want: Write, lost: IoUringSendZC, cause: "non-zc-proto"},
	{name: "ring that copies", t: memTransfer, want: MsgZerocopy, lost: IoUringSend, words: "in one batch"},
	{name: "ring that copies, asked for", t: memTransfer, o: SelectOptions{Force: IoUringSend}, want: IoUringSend},

	{name: "environment", t: memTransfer, o: SelectOptions{Env: Write, Force: MsgZerocopy}, want: Write, lost: MsgZerocopy, words: "ZCPROBE_BACKEND=write is set"},
	{name: "environment of a file", t: fileTransfer, o: SelectOptions{Env: Write}, want: ReadWrite},
	{name: "environment that would lose data", set: hazardIs("udp-sendfile-loss", probe.Fail), t: datagramTransfer, o: SelectOptions{Env: Sendfile}, want: ReadWrite, lost: Sendfile, cause: "udp-sendfile-loss", words: "ZCPROBE_BACKEND=sendfile is set, but not obeyed"},
	{name: "environment for something else", t: memTransfer, o: SelectOptions{Env: Sendfile}, want: MsgZerocopy, lost: Sendfile, words: "does not go from memory to TCP"},
	{name: "asked for", t: memTransfer, o: SelectOptions{Force: Vmsplice}, want: Vmsplice},
	{name: "asked for below the threshold", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 100 }), o: SelectOptions{Force: MsgZerocopy}, want: MsgZerocopy},
	{name: "asked for without locked memory", set: memlockIs(0), t: memTransfer, o: SelectOptions{Force: MsgZerocopy}, want: Write, lost: MsgZerocopy, cause: "memlock-limit", words: "not obeyed"},

	{name: "calibrated", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 8192 }), o: SelectOptions{Calibration: &Calibration{Path: "eth0", Crossovers: []Crossover{{MsgZerocopy, CacheHot, 8192, 4096, 16384}}}}, want: MsgZerocopy},
	{name: "calibrated, for latency", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes, t.Goal = 8192, Latency }), o: SelectOptions{Calibration: &Calibration{Path: "eth0", Crossovers: []Crossover{{MsgZerocopy, CacheHot, 8192, 4096, 16384}}}}, want: Write, lost: MsgZerocopy, cause: "small-send", words: "calibration of eth0"},
	{name: "calibrated to never", t: memTransfer, o: SelectOptions{Calibration: &Calibration{Path: "eth0", Crossovers: []Crossover{{MsgZerocopy, CacheHot, Never, Never, Never}}}}, want: Write, lost: MsgZerocopy, words: "cheaper at no size"},
	{name: "splice was measured", t: fileTransfer, o: spliceFrom(1 << 20), want: Splice, lost: Sendfile, cause: "pipe-slots", words: "from 1048576 bytes on splice takes less CPU time than sendfile (calibration of lab"},
	{name: "splice was measured, of smaller sends", t: fileTransfer, o: spliceFrom(1<<20 + 1), want: Sendfile, lost: Splice},
	{name: "splice was measured, of sends of any size", t: changed(fileTransfer, func(t *Transfer) { t.SizeBytes = 0 }), o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, on TCP", t: changed(fileTransfer, func(t *Transfer) { t.Protocol = Unix }), o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, and the mapping is kept", t: changed(fileTransfer, func(t *Transfer) { t.MappingKept = true }), o: spliceFrom(1), want: MmapZerocopy},
	{name: "splice was measured, with few pipes", set: pipesAre(16384, 65), t: fileTransfer, o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, with enough pipes", set: pipesAre(16384, 64), t: fileTransfer, o: spliceFrom(1), want: Splice},
	{name: "splice was measured, with few pipes that are not limited", set: func(c *Conditions) { pipesAre(16384, 65)(c); c.Limits.PipePagesExempt = true }, t: fileTransfer, o: spliceFrom(1), want: Splice},
	{name: "splice was measured, with small pipes", set: func(c *Conditions) { c.Limits.PipeMaxBytes = new(uint64(1<<20 - 1)) }, t: fileTransfer, o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, with pipes of which nothing is known", set: func(c *Conditions) { c.Limits.Unknown = []string{"pipe_user_pages_soft"} }, t: fileTransfer, o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, without limits", set: func(c *Conditions) { c.Limits = nil }, t: fileTransfer, o: spliceFrom(1), want: Sendfile},
	{name: "splice was measured, and is refused", set: featureIs("splice.file-tcp", probe.Denied), t: fileTransfer, o: spliceFrom(1), want: Sendfile, lost: Splice},
	{name: "stale calibration", t: changed(memTransfer, func(t *Transfer) { t.SizeBytes = 8192 }), o: SelectOptions{Calibration: &Calibration{Stale: "another kernel", Crossovers: []Crossover{{MsgZerocopy, CacheHot, 1, 1, 1}}}}, want: Write, lost: MsgZerocopy, words: "stale: another kernel"},
}
