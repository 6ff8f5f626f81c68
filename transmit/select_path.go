package transmit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// predicted returns what the path says of a backend; nil if nothing.
func (s *selector) predicted(b Backend) *probe.APIReport {
	if s.t.Protocol != TCP && s.t.Protocol != UDP {
		return nil
	}
	api, source := string(b), string(s.t.Source)
	switch b {
	case MmapZerocopy: // lent like memory
		api, source = string(MsgZerocopy), string(SourceMemory)
	case MmapWrite:
		api, source = string(Write), string(SourceMemory)
	case ReadWrite:
		api = string(Write)
	case Writev:
		if s.t.Protocol == UDP {
			api = string(Write)
		}
	}
	return s.c.prediction(api, string(s.t.Protocol), source, s.judgedSize(b), s.segmented())
}

// judgedSize is the size of send that a backend is judged by. Datagrams of any
// size are lent from the crossover on, and must be good at that.
func (s *selector) judgedSize(b Backend) int64 {
	if s.t.SizeBytes != 0 || s.t.Protocol != UDP || s.segmented() || !b.Notifies() {
		return s.t.SizeBytes
	}
	c, _ := s.o.crossover(b, s.t.Cache)
	return c.at(s.t.Goal)
}

// ruleRefusedOnPath: the call fails on the way to this destination.
func ruleRefusedOnPath(s *selector, b Backend) objection {
	r := s.predicted(b)
	if r == nil || !isFalse(r.Supported) || isLoop(b) {
		return objection{}
	}
	s.sawPath(b, r)
	return objection{weight: isOut, reason: or(r.Detail, "The kernel refuses it on the way to this destination.")}
}

// ruleCopiedOnPath: pages that are copied on the way had better been copied by
// the call. References to a file still save the copy that a read makes, so they
// lose only to a mapping that is kept.
func ruleCopiedOnPath(s *selector, b Backend) objection {
	if b.Copies() {
		return objection{}
	}
	r := s.predicted(b)
	if r == nil {
		return s.copiedWithoutPath(b)
	}
	s.sawPath(b, r)
	if r.ZeroCopy != probe.ZeroCopyNo || isFalse(r.Supported) {
		return objection{}
	}
	o := objection{weight: isDearer, reason: s.copyWords(r), causes: copyCauses(r), remedy: s.pathRemedy(r)}
	if len(o.causes) == 0 {
		o.reason = or(r.Detail, "It is copied on this path.")
	}
	if b.Notifies() {
		return o
	}
	if !s.mappedIsCheaper(r) {
		o.weight = isDoubt
		o.reason += " What copies in the call is copied there too, or twice."
	}
	return o
}

// mappedIsCheaper reports whether writing from a kept mapping takes no more
// copies than the call that r is about.
func (s *selector) mappedIsCheaper(r *probe.APIReport) bool {
	if s.t.Source != SourceFile || !s.t.MappingKept || s.t.Stability == MayChange || s.t.Cache == CacheCold {
		return false
	}
	w := s.predicted(MmapWrite)
	return w != nil && w.Copies != nil && r.Copies != nil && *w.Copies <= *r.Copies
}

// copiedWithoutPath judges by where the receiver is, and by the devices that
// lead out of the host, where the path is not known.
func (s *selector) copiedWithoutPath(b Backend) objection {
	if !b.Notifies() || s.t.Protocol != TCP && s.t.Protocol != UDP {
		return objection{}
	}
	if s.t.Protocol == UDP && !s.segmented() && s.judgedSize(b) > assumedDatagram {
		return catalogued(isDearer, "udp-over-mtu", fmt.Sprintf("A datagram of more than one packet is copied at send; with the usual MTU that is %d bytes.", assumedDatagram))
	}
	if isTrue(s.c.Local) {
		return catalogued(isDearer, "loopback-delivery", "The receiver is on this machine, where lent pages are copied on delivery.")
	}
	if len(s.c.Uplinks) == 0 {
		return objection{}
	}
	var causes []string
	var remedy string
	for i := range s.c.Uplinks {
		u := &s.c.Uplinks[i]
		copies, cause, fix := u.copies(s.v6)
		s.saw("device "+u.Device, uplinkWords(copies, cause))
		if !isTrue(copies) {
			return objection{}
		}
		if !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
		remedy = or(remedy, fix)
	}
	return objection{weight: isDearer, causes: causes, remedy: or(remedy, remedyOf(causes[0])),
		reason: "Every device that leads out of this host copies lent pages: " + causeWords(causes) + "."}
}

// assumedDatagram is the payload of a datagram that is one packet where the MTU
// is not known: Ethernet's, less the headers of IPv4 and UDP.
const assumedDatagram = 1500 - 20 - 8

func uplinkWords(copies *bool, cause string) string {
	switch {
	case copies == nil:
		return "not known whether lent pages are copied"
	case *copies:
		return "lent pages are copied: " + cause
	}
	return "lent pages are not copied"
}

// ruleUnknownPath: where it is not known whether lent pages are copied, memory
// is lent all the same, since completions tell. A mapped file is not, since
// sendfile needs no luck.
func ruleUnknownPath(s *selector, b Backend) objection {
	if !b.Notifies() || s.t.Protocol != TCP && s.t.Protocol != UDP {
		return objection{}
	}
	r := s.predicted(b)
	if r != nil && r.ZeroCopy != probe.ZeroCopyUnknown {
		return objection{}
	}
	why := "The path is not known"
	if r != nil {
		why = or(strings.TrimSuffix(r.Detail, "."), "It is not known whether this path copies")
	}
	if b == MmapZerocopy {
		return objection{weight: isDearer, reason: why + "; where it copies, sendfile is cheaper.", remedy: "name the destination, so that the path can be judged"}
	}
	return objection{reason: why + "; completions tell whether it copies, and the sender then copies itself."}
}

func (s *selector) sawPath(b Backend, r *probe.APIReport) {
	copies := "unknown"
	if r.Copies != nil {
		copies = fmt.Sprint(*r.Copies)
	}
	s.saw(fmt.Sprintf("path %s: %s of %d bytes", s.c.Path.Destination, r.API, r.SizeBytes),
		fmt.Sprintf("zero-copy %s, copies %s", r.ZeroCopy, copies))
}

// copyCauses returns what makes a path copy, without the copy that a call is
// made of.
func copyCauses(r *probe.APIReport) []string {
	var ids []string
	for _, c := range r.Causes {
		k, ok := probe.LookupCause(c.ID)
		if ok && k.Kind == probe.KindCopy && c.ID != "api-copy" && c.ID != "read-copy" && !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (s *selector) copyWords(r *probe.APIReport) string {
	var words []string
	for _, id := range copyCauses(r) {
		w := causeWords([]string{id})
		for _, c := range r.Causes {
			if c.ID == id && c.Device != "" {
				w += " (" + id + " of " + c.Device + ")"
				break
			}
		}
		words = append(words, w)
	}
	return sentence("It is copied on this path all the same: " + strings.Join(words, "; "))
}

// causeWords says causes in the words of the catalogue.
func causeWords(ids []string) string {
	var words []string
	for _, id := range ids {
		if c, ok := probe.LookupCause(id); ok {
			words = append(words, lowerFirst(c.Summary))
		}
	}
	return strings.Join(words, "; ")
}

func remedyOf(id string) string {
	c, _ := probe.LookupCause(id)
	return c.Remedy
}

// pathRemedy returns the command that changes the path, or what the catalogue
// advises.
func (s *selector) pathRemedy(r *probe.APIReport) string {
	for _, id := range copyCauses(r) {
		for _, b := range s.c.Path.Blockers {
			if b.ID == id && b.Remedy != "" {
				return b.Remedy
			}
		}
		if c, ok := probe.LookupCause(id); ok {
			return c.Remedy
		}
	}
	return ""
}

func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// lowerFirst makes a sentence of the catalogue the end of another one, unless it
// begins with a name.
func lowerFirst(s string) string {
	if len(s) < 2 || s[1] != ' ' && (s[1] < 'a' || s[1] > 'z') {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
