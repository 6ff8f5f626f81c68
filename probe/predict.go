package probe

import "slices"

// payload is one transfer's data while it is followed through a way: where it
// lies, and what the CPU has done to it so far. The kernel's rules that change
// it are those of validate_xmit_skb, dev_queue_xmit_nit, the devices' xmit
// functions and the IP receive path.
type payload struct {
	linear bool   // in the packet's own memory; else in fragments that refer to pages
	shared bool   // the pages may change under the kernel: summing needs a private copy first
	zc     bool   // the pages are an application's, lent by MSG_ZEROCOPY or io_uring
	sum    bool   // a checksum over the payload is still to be made
	gso    bool   // larger than one packet
	soft   string // the device feature without which the kernel cuts it into packets

	copies, passes int
	causes         []PathCause
	unsure         []string // why the copies cannot be counted
	unsurePass     []string // why the passes cannot be counted
	notes          []string // remarks for the detail
	maybeOrphaned  string   // a forwarding namespace that may have copied the pages, or ""
}

// pathEnv is what a prediction needs to know beside the way.
type pathEnv struct {
	f  *Facts
	v6 bool // address family of the socket
	// forwardCopies: pages lent by an application are copied when they enter an
	// IP stack that forwards them; nil: could not tell.
	forwardCopies *bool
	// headBytes is how much of a zero-copy datagram is copied into the packet
	// head.
	headBytes int
}

func (p *payload) cause(id string, m Mechanism, l *Link) {
	c := PathCause{ID: id, Mechanism: m}
	if l != nil {
		c.Device = l.Name
	}
	if k, ok := LookupCause(id); ok {
		c.Expected = k.Expected
	}
	if !slices.Contains(p.causes, c) {
		p.causes = append(p.causes, c)
	}
}

// copied records that the CPU copies the payload.
func (p *payload) copied(id string, m Mechanism, l *Link) {
	p.copies++
	p.cause(id, m, l)
}

// flattened records a copy into memory that is the packet's own and linear.
func (p *payload) flattened(id string, m Mechanism, l *Link) {
	p.copied(id, m, l)
	p.linear, p.shared, p.zc = true, false, false
}

// summed records that the CPU reads the payload to checksum it.
func (p *payload) summed(id string, m Mechanism, l *Link) {
	p.passes++
	p.cause(id, m, l)
	p.sum = false
}

func (p *payload) doubt(why string) {
	if !slices.Contains(p.unsure, why) {
		p.unsure = append(p.unsure, why)
	}
}

func (p *payload) doubtPass(why string) {
	if !slices.Contains(p.unsurePass, why) {
		p.unsurePass = append(p.unsurePass, why)
	}
}

func (p *payload) note(s string) {
	if !slices.Contains(p.notes, s) {
		p.notes = append(p.notes, s)
	}
}

// along takes the payload through a way.
func (p *payload) along(e *pathEnv, w way) {
	for i := range w {
		g := &w[i]
		switch g.kind {
		case legSend:
			p.validate(e, w, i)
			p.tapped(e, g)
			p.driver(g.link)
		case legReceive:
			p.received(e, w, i)
		case legForward:
			p.forwarded(e, g)
		case legTunnel:
			if !p.sum && on(g.link.TunCsum) {
				p.sum = true // the outer checksum covers the payload too
			}
		case legCrypt:
			p.crypted(g)
		case legDeliver:
			if p.zc {
				p.copied("loopback-delivery", AtIngress, nil)
				p.zc, p.shared, p.maybeOrphaned = false, false, ""
			}
		case legRead:
			p.read(g)
		case legUnknown:
			p.doubt(g.why)
			p.doubtPass(g.why)
		}
	}
	if p.zc && p.maybeOrphaned != "" {
		p.doubt("could not tell whether this kernel copies lent pages where " + netName(p.maybeOrphaned) + " forwards them")
	}
}

// validate is validate_xmit_skb: software segmentation, linearization and
// checksum for what the device cannot do itself.
func (p *payload) validate(e *pathEnv, w way, i int) {
	g := &w[i]
	sg, csum := feature(g.link, featSG), txChecksum(g.link, g.v6)
	if g.encap != "" {
		csum = encapChecksum(g)
	}
	if !p.linear {
		switch {
		case sg == nil:
			p.doubt("could not read whether " + g.link.Name + " has scatter-gather")
		case !*sg:
			m := AtLinearize
			if p.gso {
				m = AtSegment
			}
			id, dev := lack(w, i, "no-scatter-gather", featSG)
			p.flattened(id, m, dev)
			p.gso = false
		}
	}
	if p.gso && p.linear && off(sg) {
		p.copied("no-scatter-gather", AtSegment, g.link)
	}
	if p.gso && (off(sg) || off(feature(g.link, p.soft))) {
		p.gso = false // cut by skb_segment, which only moves references where it can
	}
	if !p.sum {
		return
	}
	switch {
	case csum == nil:
		p.doubtPass(checksumDoubt(g))
		if p.shared && !p.linear {
			p.doubt(checksumDoubt(g))
		}
	case !*csum:
		if p.shared && !p.linear {
			id := "no-tx-csum"
			if g.encap != "" && !off(txChecksum(g.link, g.v6)) {
				id = "encap-features"
			}
			id, dev := lack(w, i, id, featCsumGeneric)
			p.flattened(id, AtLinearize, dev)
		}
		p.summed("checksum-pass", AtLinearize, g.link)
	}
}

// lack returns which device is to blame where the device of w[i] lacks a
// feature, and by which cause. VLAN devices, bonds, teams and bridges have what
// the devices below them have: where it was not switched off on top, the fault
// is below. What a device below has but does not offer for tagged packets is
// the VLAN's.
func lack(w way, i int, id, feat string) (string, *Link) {
	g := &w[i]
	switch g.link.Kind {
	case "vlan", "bond", "team", "bridge":
	default:
		return id, g.link
	}
	if i+1 >= len(w) || w[i+1].kind != legSend || id == "encap-features" {
		return id, g.link
	}
	below, requested, offered := w[i+1].link, g.link.Features[feat].Requested, feature(w[i+1].link, feat)
	if feat == featCsumGeneric {
		requested = requested || g.link.Features[csumName(g.v6)].Requested
		offered = txChecksum(below, g.v6)
	}
	switch {
	case !requested:
		return id, g.link
	case off(offered):
		return lack(w, i+1, id, feat)
	case on(offered) && g.link.Kind == "vlan":
		return "vlan-features", g.link
	}
	return id, g.link
}

// tapped: a packet socket gets a clone of what the device transmits, and pages
// lent by an application are copied for it (dev_queue_xmit_nit).
func (p *payload) tapped(e *pathEnv, g *leg) {
	if p.linear || !p.shared {
		return
	}
	copies, why, _ := tapEffect(e.f, g.net, g.link.Name)
	switch {
	case off(copies):
	case !p.zc:
		if copies != nil {
			p.note("a capture on " + g.link.Name + " copies what it keeps, in the sender's time")
		}
	case copies == nil:
		p.doubt(why)
	default:
		p.copied("packet-tap", AtClone, g.link)
	}
}

// Drivers that move whole frames through memory of their own, always; in
// bouncing some do, which ethtool does not show.
var (
	bounceDrivers      = []string{"8139too", "ibmvnic", "lan78xx", "r8152"}
	maybeBounceDrivers = []string{"gve", "ibmveth"}
)

func (p *payload) driver(l *Link) {
	switch {
	case slices.Contains(bounceDrivers, l.Driver):
		p.flattened("driver-bounce", AtDriver, l)
	case slices.Contains(maybeBounceDrivers, l.Driver):
		p.doubt("driver " + l.Driver + " of " + l.Name + " copies frames in some of its modes, which cannot be read")
	}
}

// received is the start of the receive path of a device of this machine: XDP
// first, then packet sockets. Pages that go on to local delivery are copied
// there once; a packet socket before it makes no difference.
func (p *payload) received(e *pathEnv, w way, i int) {
	g := &w[i]
	switch g.link.XDP {
	case "":
	case "native":
		if g.link.Kind == "veth" {
			p.flattened("veth-xdp", AtIngress, g.link)
		}
	case "generic":
		p.flattened("xdp-generic", AtIngress, g.link)
	default:
		p.doubt("what the XDP program on " + g.link.Name + " (" + g.link.XDP + ") does to packets cannot be told")
	}
	if !p.zc || (i+1 < len(w) && w[i+1].kind == legDeliver) {
		return
	}
	copies, why := tapReceives(e.f, g.net, g.link.Name, lastFamily(w[:i]))
	switch {
	case copies == nil:
		p.doubt(why)
	case *copies:
		p.copied("packet-tap", AtIngress, g.link)
		p.zc, p.shared = false, false
	}
}

// lastFamily is the address family of the packet when it was last sent.
func lastFamily(w way) (v6 bool) {
	for _, g := range w {
		if g.kind == legSend {
			v6 = g.v6
		}
	}
	return v6
}

func (p *payload) forwarded(e *pathEnv, g *leg) {
	if !p.zc {
		return
	}
	switch {
	case e.forwardCopies == nil:
		p.maybeOrphaned = g.net
		if p.maybeOrphaned == "" {
			p.maybeOrphaned = ownNamespace
		}
	case *e.forwardCopies:
		p.copied("veth-routed-ingress", AtIngress, nil)
		p.zc, p.shared = false, false
	}
}

// crypted: segmentation without features and a software checksum come first,
// then the ciphertext is written to linear memory.
func (p *payload) crypted(g *leg) {
	p.flattened(g.cause, AtCrypto, g.link)
	if p.sum {
		p.summed("checksum-pass", AtCrypto, g.link)
	}
	p.gso = false
}

// read: tun_net_xmit makes lent pages private, then the program that reads the
// device copies every packet.
func (p *payload) read(g *leg) {
	if p.zc {
		p.copied("tun-tap", AtDriver, g.link)
		p.zc, p.shared = false, false
	}
	p.copied("tun-tap", AtDriver, g.link)
}
