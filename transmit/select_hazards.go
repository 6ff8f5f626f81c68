package transmit

import (
	"fmt"

	"github.com/zcprobe/zcprobe/probe"
)

// Largest UDP payloads, in bytes: the 16-bit length fields less the headers.
const (
	datagramMax4 = 65535 - 20 - 8 // IPv4 counts its header
	datagramMax6 = 65535 - 8
)

func (s *selector) datagramMax() int64 {
	if s.v6 {
		return datagramMax6
	}
	return datagramMax4
}

// refers reports whether the kernel goes on referring to the pages of a file
// after the call of b has returned.
func (s *selector) refers(b Backend) bool {
	switch b {
	case Sendfile, Splice, MmapZerocopy:
		return s.t.Source == SourceFile && s.t.Protocol != ToFile
	}
	return false
}

// ruleDatagramHazards: splicing to UDP loses datagrams on some kernels
// (udp-splice-csum-loss, udp-sendfile-loss), and the sender is told nothing. It
// is done only where that was tried and did not happen.
func ruleDatagramHazards(s *selector, b Backend) objection {
	if s.t.Protocol != UDP || b != Sendfile && b != Splice {
		return objection{}
	}
	for _, id := range []string{"udp-splice-csum-loss", "udp-sendfile-loss"} {
		h, ok := s.c.Hazards[id]
		switch {
		case ok && h.Status == probe.Pass:
			s.saw("hazard."+id, string(h.Status))
		case ok && h.Status == probe.Fail:
			s.saw("hazard."+id, string(h.Status))
			return catalogued(isOut, id, sentence(or(h.Detail, "This kernel loses datagrams that are spliced to UDP")))
		default:
			s.saw("hazard."+id, string(probe.Unknown))
			return catalogued(isOut, id, "Some kernels lose such datagrams, and it is not known whether this one does.")
		}
	}
	return objection{}
}

// ruleDatagramSize: everything that is spliced goes into one datagram, and a
// batch that the kernel cuts is no larger than one.
func ruleDatagramSize(s *selector, b Backend) objection {
	if s.t.Protocol != UDP {
		return objection{}
	}
	most := s.datagramMax()
	over := s.t.SizeBytes > most
	switch {
	case isLoop(b) || b == MmapWrite || b == IoUringSend:
		if over {
			return objection{reason: fmt.Sprintf("A send holds at most %d bytes, so this takes several.", most)}
		}
	case b.Notifies():
		if over {
			return objection{weight: isOut, reason: fmt.Sprintf("A send holds at most %d bytes.", most)}
		}
	case s.t.Source != SourceFile:
		return objection{weight: isOut, reason: "Where one datagram ends and the next begins would hang on what has arrived when."}
	case s.t.SizeBytes == 0:
		return catalogued(isOut, "udp-sendfile-emsgsize", "All of it would be one datagram, and its size is not known.")
	case over:
		return catalogued(isOut, "udp-sendfile-emsgsize", fmt.Sprintf("All of it would be one datagram, which holds at most %d bytes.", most))
	case b == Splice && s.t.SizeBytes > spliceDatagram:
		return objection{weight: isOut, reason: fmt.Sprintf("More than %d bytes may not fit a pipe of sixteen pages, and would be two datagrams.", spliceDatagram)}
	}
	return objection{}
}

// spliceDatagram is what fits the sixteen pages of a pipe that could not be made
// larger, wherever in a page it begins, in bytes.
const spliceDatagram = 15 * 4096

// ruleChanging: references send what the file or memory holds when the packet
// leaves, and a retransmission what it holds then.
func ruleChanging(s *selector, b Backend) objection {
	switch s.t.Source {
	case SourceMemory:
		if s.t.Stability == MayChange && !b.Copies() {
			return objection{weight: isOut, reason: "The memory may change before it is acknowledged, and what it holds then would be sent."}
		}
		return objection{}
	case SourceFile:
	default:
		return objection{}
	}
	if !s.refers(b) || s.t.Stability == Immutable {
		return objection{}
	}
	if s.t.Stability == MayChange {
		return catalogued(isOut, "live-source", "The file may change while it is sent, and would go out mixed.")
	}
	if h := s.c.Hazards["live-source"]; h.Status == probe.Pass {
		s.saw("hazard.live-source "+h.Subject, string(h.Status))
		return objection{}
	}
	return objection{reason: "The file must not change before the send is released: what it holds then would be sent.", causes: []string{"live-source"}}
}

// ruleStale: on some file systems read asks the server and everything else the
// page cache, which nobody keeps up to date.
func ruleStale(s *selector, b Backend) objection {
	if s.t.Source != SourceFile || b == ReadWrite {
		return objection{}
	}
	h, ok := s.c.Hazards["stale-source"]
	switch {
	case !ok || h.Status == probe.Skipped || h.Status == probe.Pass:
		return objection{}
	case s.t.Stability == Immutable && h.Status != probe.Fail:
		return objection{}
	}
	s.saw("hazard.stale-source "+h.Subject, string(h.Status))
	o := catalogued(isOut, "stale-source", sentence(or(h.Detail, "What is sent may be older than what read returns")))
	o.remedy = or(h.Remedy, o.remedy)
	return o
}

// ruleTruncation: a mapping reaches to the end of its last page, whatever
// becomes of the file.
func ruleTruncation(s *selector, b Backend) objection {
	if b != MmapZerocopy && b != MmapWrite {
		return objection{}
	}
	switch s.t.Stability {
	case Immutable:
		return objection{}
	case MayChange:
		return catalogued(isOut, "truncated-tail", "The file may be cut short while it is sent, and would go out with zeros at its end.")
	}
	if s.c.Hazards["truncated-tail"].Status == probe.Pass {
		return objection{}
	}
	return objection{reason: "If the file is cut short while it is sent zeros may go out in place of its end; its size is looked at after each send, and the error says so.",
		causes: []string{"truncated-tail"}}
}

// ruleEarlyCompletion: with MTU probing some kernels notify too early. It is
// gated, not refused.
func ruleEarlyCompletion(s *selector, b Backend) objection {
	if !b.Notifies() || s.t.Protocol != TCP {
		return objection{}
	}
	h, ok := s.c.Hazards["early-completion"]
	if ok && h.Status == probe.Pass {
		return objection{}
	}
	if ok && h.Status == probe.Fail {
		s.saw("hazard.early-completion", string(h.Status))
		return objection{causes: []string{"early-completion"},
			reason: "net.ipv4.tcp_mtu_probing is set, and the kernel may notify before the data is acknowledged: memory is released when both have come."}
	}
	return objection{causes: []string{"early-completion"},
		reason: "Memory is released when the kernel has notified and the peer has acknowledged; with MTU probing the first alone may come too early."}
}
