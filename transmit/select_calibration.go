package transmit

import "fmt"

// Calibration is what was measured on this host, in place of the defaults; see
// [LoadCalibration].
type Calibration struct {
	Path     string // what it was measured over: a destination or a device
	Measured string // when, "" if that is not known
	Stale    string // why it holds no more; "" if it does. A stale one is not used.
	Note     string // why another one, that comes before this, is not used

	// LowerBound says that the path of a transfer needs at least the sizes measured,
	// as those of the laboratory, which maps no memory for a device. They replace a
	// default only where they are larger.
	LowerBound bool
	Disturbed  bool // the machine had other work meanwhile, and intervals are wide
	Crossovers []Crossover
}

// Crossover is the size of one send from which a backend takes less CPU time
// than the one below it: msg_zerocopy and io_uring_send_zc than write, mmap_zerocopy and
// splice than sendfile.
type Crossover struct {
	Backend Backend
	Cache   CacheState
	Bytes   int64 // or [Never]
	// The interval that holds it.
	LowBytes, HighBytes int64
}

// Calibrates reports whether the crossover of a backend with another one is part of a
// [Calibration].
func Calibrates(b, against Backend) bool { return against != "" && plainFor(b) == against }

// plainFor is the backend that b has a crossover with, "" if there is none that decides.
func plainFor(b Backend) Backend {
	switch b {
	case MsgZerocopy, IoUringSendZC:
		return Write
	case MmapZerocopy, Splice:
		return Sendfile
	}
	return ""
}

// at returns the size that decides for a goal.
func (c Crossover) at(g Goal) int64 {
	if g == Latency {
		return max(c.Bytes, c.HighBytes)
	}
	return c.Bytes
}

// vague reports whether a measurement tells little: on a busy machine an interval can be
// anything.
func (c Crossover) vague() bool { return c.LowBytes == 0 || c.HighBytes/c.LowBytes >= vagueInterval }

const vagueInterval = 16

// String says what it is, for evidence.
func (c Crossover) String() string {
	s := "never"
	if c.Bytes != Never {
		s = fmt.Sprintf("%d bytes", c.Bytes)
		if c.LowBytes != c.HighBytes {
			s += fmt.Sprintf(" (between %d and %d)", c.LowBytes, c.HighBytes)
		}
	}
	if c.Cache != CacheUnknown {
		s += ", " + string(c.Cache)
	}
	return s
}

// defaultCrossovers hold where nothing was measured. They come from one host:
// Linux 6.18.44 on a Xeon of the Sapphire Rapids class, one sender to a veth
// peer that acknowledges and drops, MTU 1500, CPU time of the sender, medians of
// 5, 2026-11-21. In microseconds for each send, write against MSG_ZEROCOPY:
//
//	bytes   hot buffer    cold buffer
//	 4096   2.03  2.43    2.66  2.48
//	 8192   2.23  2.20    3.07  3.3
//	16384   2.35  2.43    4.19  2.62
//	32768   2.80  2.42    5.21  2.61
//	65536   5.73  4.58    9.84  5.05
//
// SEND_ZC by io_uring from registered buffers took 2.32, 2.26, 2.53 and 3.86 from 8
// KiB on with a hot buffer, and 3.2, 2.33, 2.07 and 4.06 with a cold one: the same
// crossovers, and a larger gain above.
//
// and in seconds of CPU for each gigabyte of a cached file on ext4, sendfile
// against MSG_ZEROCOPY from a mapping that is kept: 0.064 and 0.068 at 64 KiB,
// 0.056 and 0.037 at 256 KiB, 0.065 and 0.030 at 1 MiB; tmpfs is alike.
//
// Where an interval was found its upper end is taken: below it the gain is
// within the noise, and a copy asks nothing of the caller. A buffer of which
// nothing is known counts as hot, which is what a copy is best at.
var defaultCrossovers = []Crossover{
	{MsgZerocopy, CacheHot, 32 << 10, 16 << 10, 32 << 10},
	{MsgZerocopy, CacheCold, 16 << 10, 4 << 10, 16 << 10},
	{IoUringSendZC, CacheHot, 32 << 10, 16 << 10, 32 << 10},
	{IoUringSendZC, CacheCold, 16 << 10, 4 << 10, 16 << 10},
	{MmapZerocopy, CacheHot, 256 << 10, 64 << 10, 256 << 10},
}

const defaultSource = "default, measured on Linux 6.18 on 2026-11-21"

// DefaultCrossover is the size of a send, in bytes, from which a backend is
// cheaper than copying where nothing was measured, [Never] for one that has no
// such size. See [Calibration] for measured ones.
func DefaultCrossover(b Backend, c CacheState) int64 {
	if x, ok := findCrossover(defaultCrossovers, b, c); ok {
		return x.Bytes
	}
	if b.Copies() {
		return Never
	}
	return 0
}

// findCrossover looks for the state asked for, and else for the hot one, where
// zero-copy has most to prove.
func findCrossover(cs []Crossover, b Backend, state CacheState) (Crossover, bool) {
	var hot *Crossover
	for i, c := range cs {
		if c.Backend != b {
			continue
		}
		if c.Cache == state && state != CacheUnknown {
			return c, true
		}
		if c.Cache == CacheHot && hot == nil {
			hot = &cs[i]
		}
	}
	if hot == nil {
		return Crossover{}, false
	}
	return *hot, true
}

// crossover returns what decides between b and the way below it, and where that
// is known from.
func (o *SelectOptions) crossover(b Backend, state CacheState) (c Crossover, source string) {
	c, known := findCrossover(defaultCrossovers, b, state)
	if !known {
		c = Crossover{Backend: b, Bytes: Never, LowBytes: Never, HighBytes: Never}
	}
	cal := o.Calibration
	if cal == nil {
		return c, defaultSource
	}
	if cal.Stale != "" {
		return c, defaultSource + "; the calibration is stale: " + cal.Stale
	}
	measured, ok := findCrossover(cal.Crossovers, b, state)
	switch {
	case !ok:
		return c, defaultSource + "; the " + cal.name() + " says nothing of it"
	case measured.Bytes == Never && measured.LowBytes != Never:
		return c, defaultSource + "; the " + cal.name() + " could not tell"
	case !cal.LowerBound && known && measured.vague() && measured.LowBytes <= c.Bytes && c.Bytes <= measured.HighBytes:
		return c, fmt.Sprintf("%s; the %s found %s, which says nothing against it", defaultSource, cal.name(), measured)
	case !cal.LowerBound:
		return measured, cal.name()
	case !b.Notifies():
		return measured, cal.name() + ", where both refer to the same pages, as on a network card"
	}
	if measured.Bytes <= c.Bytes {
		return c, fmt.Sprintf("%s; the %s found %s, and a network card needs at least that", defaultSource, cal.name(), measured)
	}
	return measured, cal.name() + ", and a network card needs at least that"
}

// name says what was measured, where and when.
func (c *Calibration) name() string {
	s := "calibration of " + c.Path
	if c.Measured != "" {
		s += " on " + c.Measured
	}
	if c.Disturbed {
		s += ", on a busy machine"
	}
	if c.Note != "" {
		s += " (not used: " + c.Note + ")"
	}
	return s
}
