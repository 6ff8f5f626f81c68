package scenario

import (
	"slices"
)

// Bounds of what is sent.
const (
	mostSize   = 4 << 20  // bytes of one send
	mostSends  = 1000     // of one scenario
	mostSent   = 64 << 20 // bytes of one scenario
	mostParts  = 16
	mostUnix   = 64 << 10 // bytes of one scenario, which the buffers of a unix socket hold
	mostPage   = 64       // bytes of /proc/version that can be counted on
	mostGram   = 65507    // bytes of a datagram, of either family of addresses
	mostPieces = 64       // datagrams of one send (UDP_MAX_SEGMENTS, which was 64 to Linux 6.8)
)

// checkTraffic checks that there is such traffic, and that it fits its place.
func (r *fileReader) checkTraffic(s *Scenario) {
	t := s.Traffic
	r.checkSizes(t)
	wants := func(field string, is bool, format string, args ...any) {
		if !is {
			r.problem("traffic."+field, format, args...)
		}
	}
	apis := slices.Concat(copiers(), references(), lenders(), []string{"mmap_zerocopy"})
	if s.SetUp[0] == (Files{}) {
		apis = []string{"copy_file_range", "sendfile", "splice", "read_write"}
		wants("source", t.Source == OnDisk || t.Source == InTmpfs, "is %q, and files of disk and tmpfs are copied", string(t.Source))
	}
	wants("api", slices.Contains(apis, t.API), "is %q; there are %s", t.API, list(named(apis)))
	wants("protocol", slices.Contains([]string{"tcp", "udp", "unix", "file"}, t.Protocol), "is %q; there are tcp, udp, unix, file", t.Protocol)
	switch s.SetUp[0].(type) {
	case UnixPair:
		wants("protocol", t.Protocol == "unix", "is %s, and this place has unix sockets", t.Protocol)
	case Files:
		wants("protocol", t.Protocol == "file", "is %s, and this place has files", t.Protocol)
		wants("socket", t.Socket == (Socket{}), "is of no file")
	case Tun, Swallow, Macvlan:
		wants("protocol", t.Protocol == "udp", "is %s, and nobody here answers but to udp", t.Protocol)
	case Multipath:
		wants("protocol", t.Protocol == "tcp", "is %s, and this place has tcp", t.Protocol)
	default:
		wants("protocol", t.Protocol != "unix" && t.Protocol != "file", "is %s, and this place has a network", t.Protocol)
	}
	wants("ipv6", !t.IPv6 || t.Protocol == "tcp" || t.Protocol == "udp", "is of tcp and udp")
	r.checkSource(s, wants)

	datagrams := t.Protocol == "udp"
	wants("segment_bytes", t.Segment == 0 || datagrams && t.memory(), "is of memory that is sent by udp")
	wants("cork_sends", t.Cork == 0 || datagrams, "is of udp")
	wants("parts", t.Parts == 0 || t.memory() && !t.Raw && !t.Registered && t.API != "vmsplice", "are of memory, and not raw or registered")
	wants("registered", !t.Registered || t.API == "io_uring_send" || t.API == "io_uring_send_zc", "is of io_uring")
	raws := []string{"msg_zerocopy", "sendfile", "splice", "vmsplice"}
	wants("raw", !t.Raw || slices.Contains(raws, t.API) && t.Segment == 0 && t.Cork == 0 && (t.Protocol == "tcp" || datagrams), "is of %s, without segments or corks, over a network", list(raws))
	wants("socket.no_so_zerocopy", !t.Socket.NoOption || t.Raw && t.API == "msg_zerocopy", "is of msg_zerocopy that is raw")
	wants("socket.may_fragment", !t.Socket.Fragments || datagrams && !t.IPv6, "is of udp and IPv4")
	wants("socket.mptcp", !t.Socket.Multipath || t.Protocol == "tcp", "is of tcp")
}

// checkSource checks where the payload lies.
func (r *fileReader) checkSource(s *Scenario, wants func(field string, is bool, format string, args ...any)) {
	t := s.Traffic
	_, known := sources()[t.Source]
	wants("source", known || t.Source == "", "is %q, which there is not", string(t.Source))
	switch t.Source {
	case InTmpfs, OnDisk, Direct, Procfs, Zero:
		wants("source", !t.memory(), "is a file, which %s does not send", t.API)
	case Huge:
		wants("source", t.memory(), "is memory, which %s does not send", t.API)
	case Written:
		wants("source", t.API == "splice", "is a pipe, which splice sends")
	case Connected:
		wants("source", t.API == "splice" && t.Protocol == "tcp", "is a connection, which splice passes on by tcp")
		wants("source", slices.Contains(s.SetUp, Step(Feeder{})), "is a connection, which takes the step feeder")
	}
	wants("size_bytes", t.Source != Procfs || t.Size <= mostPage, "is %d, and the file has %d for sure", t.Size, mostPage)
	wants("size_bytes", t.Source != Huge || t.Size <= hugePage, "is %d, and a huge page has %d", t.Size, hugePage)
}

// checkSizes keeps what is sent within bounds.
func (r *fileReader) checkSizes(t Traffic) {
	within := func(field string, n, least, most int) bool {
		if n < least || n > most {
			r.problem("traffic."+field, "is %d, and %d to %d are possible", n, least, most)
		}
		return n >= least && n <= most
	}
	fits := within("size_bytes", t.Size, 1, mostSize) && within("count", t.Count, 1, mostSends)
	fits = within("parts", t.Parts, 0, min(mostParts, max(t.Size, 0))) && fits
	fits = within("segment_bytes", t.Segment, 0, mostGram) && within("cork_sends", t.Cork, 0, mostSends) && fits
	if !fits {
		return
	}
	most := mostSent
	if t.Protocol == "unix" {
		most = mostUnix
	}
	if t.Size*t.Count > most {
		r.problem("traffic.count", "sends make %d bytes, and %d is the most", t.Size*t.Count, most)
	}
	if t.API == "writev" && t.Size < 2 {
		r.problem("traffic.size_bytes", "is 1, and writev has two pieces")
	}
	if t.Protocol != "udp" {
		return
	}
	if n := t.Size * max(t.Cork, 1); n > mostGram {
		r.problem("traffic.size_bytes", "makes a datagram of %d bytes, and %d is the most", n, mostGram)
	}
	if t.Segment > 0 && (t.Size+t.Segment-1)/t.Segment > mostPieces {
		r.problem("traffic.segment_bytes", "makes more than %d datagrams of one send", mostPieces)
	}
	if t.Cork > 0 && t.Count%t.Cork != 0 {
		r.problem("traffic.cork_sends", "leaves a datagram that is not whole")
	}
}

// hugePage is the size of the huge pages that are asked for.
const hugePage = 2 << 20
