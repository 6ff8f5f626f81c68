package transmit

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// rules are asked in this order. Of two objections of the same weight the first
// is given as the reason, so what lies deeper comes first.
var rules = []rule{
	ruleSystem,
	ruleProtocol,
	ruleMemlock,
	ruleOptmem,
	ruleFeatures,
	ruleDirectory,
	ruleDatagramHazards,
	ruleDatagramSize,
	ruleChanging,
	ruleStale,
	ruleTruncation,
	ruleReuse,
	ruleRefusedOnPath,
	ruleCopiedOnPath,
	ruleMapping,
	ruleCold,
	ruleUnknownPath,
	ruleEarlyCompletion,
	ruleNoNotice,
	ruleCrossover,
	ruleRing,
	ruleParts,
}

// ruleSystem: only Linux is driven without copies.
func ruleSystem(s *selector, b Backend) objection {
	system := s.c.OS
	if system == "" {
		system = runtime.GOOS
	}
	if system == "linux" || isLoop(b) {
		return objection{}
	}
	return objection{weight: isOut, reason: fmt.Sprintf("It needs Linux, and this is %s.", system)}
}

// ruleProtocol: MSG_ZEROCOPY is for TCP and UDP.
func ruleProtocol(s *selector, b Backend) objection {
	if !b.Notifies() || s.t.Protocol == TCP || s.t.Protocol == UDP {
		return objection{}
	}
	return catalogued(isOut, "non-zc-proto", "Unix sockets have no zero-copy send.")
}

// catalogued is an objection with one cause and the catalogue's remedy.
func catalogued(weight int, id, reason string) objection {
	o := objection{weight: weight, reason: reason, causes: []string{id}}
	if c, ok := probe.LookupCause(id); ok && c.Kind != probe.KindNote {
		o.remedy = c.Remedy
	}
	return o
}

// needs returns the ids of the features that a backend is made of.
func (s *selector) needs(b Backend) []string {
	to := string(s.t.Protocol)
	switch b {
	case Sendfile:
		return []string{"sendfile." + to}
	case Splice:
		switch {
		case s.t.Protocol == UDP:
			return []string{"sendfile.udp"} // the same code: splice_to_socket, generic_splice_sendpage
		case s.t.Source == SourceSocket:
			return []string{"splice.tcp-tcp"}
		}
		return []string{"splice.file-tcp"}
	case Vmsplice:
		return []string{"vmsplice", "splice.file-tcp"}
	case IoUringSend:
		return []string{"io_uring"}
	case MsgZerocopy, MmapZerocopy, IoUringSendZC:
		if s.t.Protocol != TCP && s.t.Protocol != UDP {
			return nil // ruleProtocol
		}
		ids := []string{"msg_zerocopy." + to + s.family()}
		if b == IoUringSendZC {
			ids = []string{"io_uring.send_zc"}
		}
		if s.segmented() {
			ids = append(ids, "udp.gso")
		}
		return ids
	case CopyFileRange:
		return []string{"copy_file_range"}
	}
	return nil
}

func (s *selector) family() string {
	if s.v6 {
		return "6"
	}
	return "4"
}

func (s *selector) segmented() bool { return s.t.Protocol == UDP && s.t.SegmentBytes > 0 }

// ruleFeatures: the kernel has the calls, and permits them.
func ruleFeatures(s *selector, b Backend) objection {
	var doubt objection
	for _, id := range s.needs(b) {
		f, ok := s.c.Features[id]
		if !ok {
			f = probe.Feature{Status: probe.UnknownFeature}
		}
		switch f.Status {
		case probe.Supported:
			s.saw(id, string(f.Status))
		case probe.Unsupported, probe.Disabled, probe.Denied:
			s.saw(id, string(f.Status))
			o := objection{weight: isOut, reason: or(f.Detail, id+" is "+string(f.Status)+"."), remedy: f.Remedy}
			if !b.Notifies() && b != IoUringSend {
				o.causes = []string{"fast-path-refused"}
			}
			return o
		default:
			s.saw(id, or(string(f.Status), string(probe.UnknownFeature)))
			if doubt.reason == "" {
				doubt.reason = fmt.Sprintf("It is not known whether %s works here; where the kernel refuses it the next way goes on.", id)
			}
		}
	}
	return doubt
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ruleDirectory: what was tried with the files that are to be sent beats what
// was tried with others.
func ruleDirectory(s *selector, b Backend) objection {
	if s.t.Source != SourceFile || b != Sendfile && b != Splice {
		return objection{}
	}
	f, ok := s.c.Features["dir."+string(b)]
	switch f.Status {
	case probe.Unsupported, probe.Disabled, probe.Denied:
		o := catalogued(isOut, "fast-path-refused", f.Detail)
		o.remedy = or(f.Remedy, o.remedy)
		o.reason = or(o.reason, "The files of the directory cannot be sent by it.")
		s.saw(f.ID+" "+f.Subject, string(f.Status))
		return o
	case probe.Supported:
		s.saw(f.ID+" "+f.Subject, string(f.Status))
	case probe.UnknownFeature:
		if ok {
			return objection{reason: strings.TrimSuffix(f.Detail, ".") + "; where the kernel refuses it the next way goes on."}
		}
	}
	return objection{}
}

// ruleReuse: memory that its owner wants back at once has to be copied.
func ruleReuse(s *selector, b Backend) objection {
	if s.t.Source != SourceMemory || s.t.Reuse != ReuseAtOnce || b.Copies() {
		return objection{}
	}
	return objection{weight: isOut, reason: "The memory is wanted back when the call returns, and the kernel keeps lent pages until they are acknowledged.",
		remedy: "reuse the memory when the send is released, not when it returns"}
}

// ruleNoNotice: vmsplice gives pages away for good, as far as anybody says.
func ruleNoNotice(_ *selector, b Backend) objection {
	if b != Vmsplice {
		return objection{}
	}
	return objection{weight: isDearer, reason: "Nothing says when the kernel is done with the memory, so it is only taken where it is asked for."}
}

// ruleMapping: mapping a file for one send costs what it gains.
func ruleMapping(s *selector, b Backend) objection {
	if b != MmapZerocopy && b != MmapWrite || s.t.MappingKept {
		return objection{}
	}
	return objection{weight: isDearer, remedy: "keep a mapping of files that are sent often",
		reason: fmt.Sprintf("Without a mapping that is kept, mapping, faulting in and unmapping %s: as much as is gained.", mappingCost(s.t.SizeBytes))}
}

// The cost of mapping, faulting in and unmapping cached pages, in nanoseconds:
// 7 and 22 us for 256 KiB and 1 MiB of ext4, 15 and 44 us of tmpfs, on the host
// and day of the default crossovers. A send of 1 MiB from a mapping saves 36 us
// against sendfile there.
const (
	mapBaseLeast, mapPerMiBLeast = 2_000, 20_000
	mapBaseMost, mapPerMiBMost   = 5_300, 38_700
)

func mappingCost(size int64) string {
	if size <= 0 {
		return "costs 7 to 44 us for 256 KiB to 1 MiB"
	}
	us := func(base, perMiB float64) float64 { return (base + perMiB*float64(size)/(1<<20)) / 1000 }
	return fmt.Sprintf("costs about %.0f to %.0f us", us(mapBaseLeast, mapPerMiBLeast), us(mapBaseMost, mapPerMiBMost))
}

// ruleCold: a fault on a page that is not cached blocks the thread.
func ruleCold(s *selector, b Backend) objection {
	if b != MmapZerocopy && b != MmapWrite || s.t.Cache != CacheCold {
		return objection{}
	}
	return catalogued(isDearer, "cold-file", "The file is not cached: each page of the mapping that is missing blocks a thread until the disk has it.")
}

// ruleCrossover: below some size a copy is cheaper than lending pages, and
// references to a file are than a mapping.
func ruleCrossover(s *selector, b Backend) objection {
	if !b.Notifies() {
		return objection{}
	}
	c, source := s.o.crossover(b, s.t.Cache)
	s.saw("crossover of "+string(b), c.String()+", "+source)
	switch at := c.at(s.t.Goal); {
	case at == Never:
		return catalogued(isDearer, "small-send", "It was measured, and is cheaper at no size.")
	case s.t.SizeBytes > 0 && s.t.SizeBytes < at:
		other := "copying is cheaper"
		if b == MmapZerocopy {
			other = "sendfile is cheaper"
		}
		return catalogued(isSmall, "small-send", fmt.Sprintf("Below %d bytes %s (%s).", at, other, source))
	}
	return objection{}
}

// ruleRing: a ring is made once for many sends, and copies for nobody.
func ruleRing(s *selector, b Backend) objection {
	switch {
	case b == IoUringSend:
		return objection{weight: isDearer, reason: "It copies as write does; a ring only saves system calls, where many small sends go in one batch."}
	case b == IoUringSendZC && !s.t.Ring:
		return objection{weight: isDearer, reason: "It takes a ring that the program keeps, and is the cheapest way from buffers that are registered with it.",
			remedy: "keep a transmit.Ring and a transmit.Pool, and give them to the Sender"}
	}
	return objection{}
}

// ruleParts: one call for all parts, and the plain call for one.
func ruleParts(s *selector, b Backend) objection {
	switch {
	case b == Write && s.t.Parts > 1:
		return objection{weight: isDearer, reason: "Each part would take a call of its own."}
	case b == Writev && s.t.Parts <= 1:
		return objection{weight: isDearer, reason: "It does what write does, for several parts."}
	}
	return objection{}
}
