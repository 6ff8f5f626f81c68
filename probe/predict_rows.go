package probe

import "fmt"

// transferKind is how a call hands its data to the socket.
type transferKind uint8

const (
	byCopy     transferKind = iota // write, send: the call copies
	byReadCopy                     // read, then write: two calls, two copies
	byPage                         // sendfile, splice, vmsplice: page references, nothing is notified
	byLoan                         // MSG_ZEROCOPY, io_uring SEND_ZC: pages lent until a completion
)

// transfer is one row of the table of predictions.
type transfer struct {
	api      string
	proto    string
	source   string
	size     uint64
	kind     transferKind
	features []string // ids that must be supported for the call to work
	segments bool     // with UDP_SEGMENT
}

// Sizes of TCP transfers: one packet, and the largest a GSO packet holds.
const (
	tcpSmall = 1024
	tcpLarge = 65536
)

// Largest UDP payloads: the 16-bit length fields less the headers.
const (
	udpMax4 = 65535 - 20 - 8 // IPv4 counts its header
	udpMax6 = 65535 - 8
)

// assumedMTU makes the rows where there is no device to ask: Ethernet's.
const assumedMTU = 1500

const udpMaxSegments = 64 // UDP_MAX_SEGMENTS to 6.8; 128 since

func tcpTransfers(v6 bool) []transfer {
	zc := "msg_zerocopy.tcp4"
	if v6 {
		zc = "msg_zerocopy.tcp6"
	}
	var rows []transfer
	for _, size := range []uint64{tcpSmall, tcpLarge} {
		for _, t := range []transfer{
			{api: "write", source: "memory"},
			{api: "write", source: "file", kind: byReadCopy},
			{api: "write", source: "socket", kind: byReadCopy},
			{api: "write", source: "pipe", kind: byReadCopy},
			{api: "writev", source: "memory"},
			{api: "sendfile", source: "file", kind: byPage, features: []string{"sendfile.tcp"}},
			{api: "splice", source: "file", kind: byPage, features: []string{"splice.file-tcp"}},
			{api: "splice", source: "pipe", kind: byPage, features: []string{"splice.file-tcp"}},
			{api: "splice", source: "socket", kind: byPage, features: []string{"splice.tcp-tcp"}},
			{api: "vmsplice", source: "memory", kind: byPage, features: []string{"vmsplice", "splice.file-tcp"}},
			{api: "msg_zerocopy", source: "memory", kind: byLoan, features: []string{zc}},
			{api: "io_uring_send", source: "memory", features: []string{"io_uring"}},
			{api: "io_uring_send_zc", source: "memory", kind: byLoan, features: []string{"io_uring.send_zc", zc}},
		} {
			t.proto, t.size = "tcp", size
			rows = append(rows, t)
		}
	}
	return rows
}

// udpTransfers makes the rows of one datagram at the MTU and one above it.
func udpTransfers(v6 bool, mtu int) []transfer {
	zc := "msg_zerocopy.udp4"
	if v6 {
		zc = "msg_zerocopy.udp6"
	}
	if mtu == 0 {
		mtu = assumedMTU
	}
	at := udpPayload(v6, mtu)
	var rows []transfer
	for _, size := range []uint64{at, at + 1} {
		for _, t := range []transfer{
			{api: "write", source: "memory"},
			{api: "write", source: "file", kind: byReadCopy},
			{api: "sendfile", source: "file", kind: byPage, features: []string{"sendfile.udp"}},
			{api: "splice", source: "file", kind: byPage, features: []string{"sendfile.udp"}},
			{api: "msg_zerocopy", source: "memory", kind: byLoan, features: []string{zc}},
			{api: "io_uring_send", source: "memory", features: []string{"io_uring"}},
			{api: "io_uring_send_zc", source: "memory", kind: byLoan, features: []string{"io_uring.send_zc", zc}},
		} {
			t.proto, t.size = "udp", size
			rows = append(rows, t)
		}
	}
	if n := min(udpMax(v6)/at, udpMaxSegments); n > 1 {
		rows = append(rows, transfer{
			api: "msg_zerocopy", proto: "udp", source: "memory", size: n * at, kind: byLoan,
			features: []string{zc, "udp.gso"}, segments: true,
		})
	}
	return rows
}

func udpMax(v6 bool) uint64 {
	if v6 {
		return udpMax6
	}
	return udpMax4
}

// udpPayload returns the largest payload of a datagram that is one packet.
func udpPayload(v6 bool, mtu int) uint64 {
	headers := 20 + 8
	if v6 {
		headers = 40 + 8
	}
	return min(uint64(max(mtu-headers, 1)), udpMax(v6))
}

// predict says what becomes of a transfer's payload on every way of a path.
func predict(e *pathEnv, t transfer, p *pathJudge) APIReport {
	r := APIReport{
		API: t.api, Protocol: t.proto, Source: t.source, SizeBytes: t.size,
		ZeroCopy: ZeroCopyUnknown, Causes: []PathCause{},
	}
	supported, reason := p.supported(t, e.v6)
	if t.proto == "udp" && t.size > udpMax(e.v6) {
		supported, reason = new(false), fmt.Sprintf("The kernel refuses datagrams of more than %d bytes (EMSGSIZE).", udpMax(e.v6))
	}
	r.Supported = supported
	if off(supported) {
		r.ZeroCopy, r.Detail = ZeroCopyNo, reason
		return r
	}
	var worst *payload
	for _, w := range p.ways {
		d := t.start(e, w, p)
		if d.refused != "" {
			r.Supported, r.ZeroCopy, r.Detail = d.verdict, ZeroCopyNo, d.refused
			return r
		}
		d.secure(t, w, p)
		d.along(e, w)
		worst = worse(worst, &d.payload)
	}
	if worst == nil {
		r.Detail = p.noWay()
		return r
	}
	if worst.causes != nil {
		r.Causes = worst.causes
	}
	if len(worst.unsure) == 0 {
		r.Copies = new(worst.copies)
	}
	if len(worst.unsurePass) == 0 {
		r.ChecksumPasses = new(worst.passes)
	}
	switch {
	case worst.copies > 0:
		r.ZeroCopy = ZeroCopyNo
	case len(worst.unsure) > 0:
	case supported == nil:
		r.ZeroCopy = ZeroCopyUnknown
	default:
		r.ZeroCopy = ZeroCopyYes
	}
	r.Detail = explainTransfer(t, worst, p)
	if supported == nil {
		r.Detail += " " + reason
	}
	return r
}

// worse returns the graver of what happens on two ways. A packet may take
// either, so what holds for both is the most copies and every doubt.
func worse(a, b *payload) *payload {
	if a == nil {
		return b
	}
	w, o := a, b
	if b.copies > a.copies || (b.copies == a.copies && b.passes > a.passes) {
		w, o = b, a
	}
	for _, why := range o.unsure {
		w.doubt(why)
	}
	for _, why := range o.unsurePass {
		w.doubtPass(why)
	}
	if o.passes > w.passes {
		w.doubtPass("it differs from device to device")
	}
	return w
}

// departure is a payload in the socket, or why the call is refused.
type departure struct {
	payload
	refused string
	verdict *bool // false: the call fails; nil: it may
}

// start is the call itself, until the packet meets its first device.
func (t transfer) start(e *pathEnv, w way, p *pathJudge) departure {
	var d departure
	switch t.kind {
	case byReadCopy:
		d.copied("read-copy", AtSend, nil)
		d.copied("api-copy", AtSend, nil)
	case byCopy:
		d.copied("api-copy", AtSend, nil)
	case byPage:
		d.shared = true
	case byLoan:
		d.shared, d.zc = true, true
	}
	if t.proto == "tcp" {
		// TCP believes that every device can do scatter-gather and checksums
		// (sk_setup_caps); what they cannot is found out when they transmit.
		d.sum = true
		d.gso, d.soft = t.size > tcpSegment(e.v6, p.mtu), tsoName(e.v6)
		return d
	}
	t.startUDP(e, &d, w, p)
	return d
}

// tcpSegment is the payload of one TCP packet with timestamps.
func tcpSegment(v6 bool, mtu int) uint64 {
	headers := 20 + 20 + 12
	if v6 {
		headers = 40 + 20 + 12
	}
	return uint64(max(mtu-headers, 1))
}

// startUDP is __ip_append_data and __ip6_append_data: unlike TCP they look at
// the device of the route, and decide on copies and checksum in the call.
func (t transfer) startUDP(e *pathEnv, d *departure, w way, p *pathJudge) {
	if len(w) == 0 || w[0].kind != legSend {
		return // a way that is unknown from its first leg
	}
	dev := w[0].link
	csum := txChecksum(dev, e.v6)
	over := t.size > udpPayload(e.v6, p.mtu) && !t.segments
	d.gso, d.soft = t.segments, featUSO
	if t.segments && off(csum) {
		d.refused = "The kernel refuses UDP_SEGMENT (EIO) or copies at send, because " + dev.Name + " computes no checksums."
		return
	}
	// Only one whole packet may leave its checksum to the device.
	d.sum = !over && !off(csum)
	if !over && csum == nil {
		d.doubtPass("could not read whether " + dev.Name + " computes checksums")
	}
	switch t.kind {
	case byCopy, byReadCopy:
		d.linear = true
		d.sumInCall("checksum-pass", dev, csum)
	case byPage:
		t.startUDPPages(e, d, w, over)
	case byLoan:
		t.startUDPLoan(e, d, p, w, over)
	}
}

// secure is what IPsec does before the packet meets a device: it sums, on a
// private copy, and encrypts into memory of its own.
func (d *departure) secure(t transfer, w way, p *pathJudge) {
	policy := p.q.IPsecTCP
	if t.proto == "udp" {
		policy = p.q.IPsecUDP
	}
	switch policy {
	case ipsecLikely:
		d.doubt("an IPsec policy may apply, which depends on what is not known or takes CAP_NET_ADMIN to read")
		d.doubtPass("an IPsec policy may apply")
	case ipsecApplies:
		if len(w) > 0 && w[0].kind == legSend && !off(feature(w[0].link, "esp-hw-offload")) {
			d.doubt("an IPsec policy applies, and whether " + w[0].link.Name + " encrypts (esp-hw-offload) was not read")
			d.doubtPass("an IPsec policy applies")
			return
		}
		d.crypted(&leg{kind: legCrypt, cause: "ipsec-sw"})
	}
}

// sumInCall sums what no device will: it cannot, or the datagram is not one
// packet and no device is to blame.
func (d *departure) sumInCall(id string, dev *Link, csum *bool) {
	switch {
	case d.sum:
	case off(csum):
		d.summed(id, AtSend, dev)
	default:
		d.summed(id, AtSend, nil)
	}
}

func (t transfer) startUDPLoan(e *pathEnv, d *departure, p *pathJudge, w way, over bool) {
	dev := w[0].link
	sg, csum := feature(dev, featSG), txChecksum(dev, e.v6)
	switch {
	case over:
		d.flattened("udp-over-mtu", AtSend, nil)
	case off(sg):
		id, dev := lack(w, 0, "no-scatter-gather", featSG)
		d.flattened(id, AtSend, dev)
	case off(csum):
		id, dev := lack(w, 0, "no-tx-csum", featCsumGeneric)
		d.flattened(id, AtSend, dev)
	case sg == nil:
		d.doubt("could not read whether " + dev.Name + " has scatter-gather")
	case csum == nil:
		d.doubt("could not read whether " + dev.Name + " computes checksums")
	case e.headBytes > 0 && t.size <= uint64(e.headBytes):
		d.flattened("udp-linear-head", AtSend, nil)
	case e.headBytes > 0:
		d.cause("udp-linear-head", AtSend, nil)
		d.note(fmt.Sprintf("the first %d bytes of each datagram are copied", e.headBytes))
	}
	d.sumInCall("checksum-pass", dev, csum)
	if !d.zc {
		return
	}
	switch p.route.Type {
	case routeBroadcast: // ip_mc_output gives a clone to this machine
		d.copied("loopback-delivery", AtIngress, nil)
	case routeMulticast:
		d.doubt("if this machine has joined the group, it gets a copy")
	}
}

// startUDPPages is sendfile and splice to UDP. Kernels differ in whether it
// keeps the pages, which a test has shown or nothing does.
func (t transfer) startUDPPages(e *pathEnv, d *departure, w way, over bool) {
	dev := w[0].link
	s, sg := judgeUDPSplice(e.f), feature(dev, featSG)
	switch {
	case off(s.keepsPages):
		d.flattened("udp-splice-copy", AtSend, nil)
		d.doubtPass("kernels that copy here differ in when they sum")
		return
	case off(sg):
		id, dev := lack(w, 0, "no-scatter-gather", featSG)
		d.flattened(id, AtSend, dev)
	case s.keepsPages == nil:
		d.doubt("could not tell whether this kernel keeps page references when a file is spliced to UDP")
		d.doubtPass("could not tell how this kernel splices to UDP")
		return
	case sg == nil:
		d.doubt("could not read whether " + dev.Name + " has scatter-gather")
	}
	pass := "udp-splice-csum"
	if d.linear {
		pass = "checksum-pass" // what is copied is summed on the way (csum_and_copy_from_iter)
	}
	switch {
	case !d.sum:
		d.sumInCall(pass, dev, txChecksum(dev, e.v6))
	case on(s.alwaysSums):
		d.summed(pass, AtSend, nil)
	case s.alwaysSums == nil:
		d.doubtPass("could not tell whether this kernel sums what is spliced to UDP")
	}
}
