package probe

import "slices"

// send follows a packet that device l of namespace fl.net transmits.
func (w *walker) send(fl flight, l *Link, trail way) {
	if w.exhausted(trail) {
		return
	}
	if revisits(trail, legSend, fl.net, l, fl.dst) {
		w.unknown(trail, "the path runs in a circle over %s", l.Name)
		return
	}
	trail = w.grow(trail, leg{kind: legSend, net: fl.net, link: l, dst: fl.dst, v6: fl.v6, encap: fl.encap})
	if l.TCEgress == "netkit" {
		w.unknown(trail, "%s on %s decides where the packet goes, and may drop or copy it", tcWords(l.TCEgress), l.Name)
		return
	}
	if l.TCEgress != "" && l.TCEgress != tcUnknown {
		w.note("%s on %s may redirect or drop what it sends, or pull payload into the packet head (tc-pull)", tcWords(l.TCEgress), l.Name)
	}
	if l.ARPHRD == arphrdLoopback {
		w.receive(fl, l, trail)
		return
	}
	switch l.Kind {
	case "vlan", "dsa":
		w.below(fl, l, trail)
	case "macvlan", "macvtap":
		w.macvlan(fl, l, trail)
	case "ipvlan", "ipvtap":
		w.ipvlan(fl, l, trail)
	case "bond":
		w.bond(fl, l, trail)
	case "team":
		w.team(fl, l, trail)
	case "bridge":
		w.bridge(fl, l, nil, trail)
	case "veth", "netkit":
		w.veth(fl, l, trail)
	case "tun":
		w.end(trail, leg{kind: legRead, net: fl.net, link: l})
	case "dummy", "ifb", "nlmon":
		w.end(trail, leg{kind: legDrop, net: fl.net, link: l})
	case "macsec":
		w.crypt(fl, l, "macsec", "macsec-hw-offload", trail)
	case "wireguard":
		w.wireguard(fl, l, trail)
	case "xfrm", "vti", "vti6":
		w.ipsec(fl, l, trail)
	default:
		w.sendOther(fl, l, trail)
	}
}

// sendOther follows a packet through a device that is known by other things
// than its kind.
func (w *walker) sendOther(fl flight, l *Link, trail way) {
	switch _, tunnel := tunnelKinds[l.Kind]; {
	case tunnel:
		w.tunnel(fl, l, trail)
	case l.Driver == "net_failover":
		w.each(fl, l, w.ports(fl.net, l), "no standby or primary device", trail)
	case l.Driver == "hv_netvsc":
		w.netvsc(fl, l, trail)
	case l.HasDev && l.Kind == "":
		w.end(trail, leg{kind: legLeave, net: fl.net, link: l})
	default:
		w.unknown(trail, "what a device of kind %s does with packets is not known (%s)", linkKind(l), l.Name)
	}
}

// linkKind names what a device is, in the words of NIC.Kind.
func linkKind(l *Link) string {
	switch {
	case l.ARPHRD == arphrdLoopback:
		return "loopback"
	case l.Kind != "":
		return l.Kind
	case l.HasDev:
		return "physical"
	}
	return "virtual"
}

// below follows the packet to the device under l.
func (w *walker) below(fl flight, l *Link, trail way) {
	net, p, err := w.parent(fl.net, l)
	if err != nil {
		w.unknown(trail, "the device below %s cannot be looked at: %v", l.Name, err)
		return
	}
	fl.net = net
	w.send(fl, p, trail)
}

// each follows the packet to each of several devices, any of which may be the
// one.
func (w *walker) each(fl flight, l *Link, ports []*Link, none string, trail way) {
	if len(ports) == 0 {
		w.unknown(trail, "%s has %s", l.Name, none)
		return
	}
	for _, p := range ports {
		w.send(fl, p, trail)
	}
}

// Bond modes in which one port alone sends; linux/if_bonding.h.
const bondActiveBackup = 1

func (w *walker) bond(fl flight, l *Link, trail way) {
	ports := w.ports(fl.net, l)
	if l.BondMode == bondActiveBackup && l.BondActive != 0 {
		if i := slices.IndexFunc(ports, func(p *Link) bool { return p.Index == l.BondActive }); i >= 0 {
			ports = ports[i : i+1]
			w.note("%s is an active-backup bond and sends by %s; after a failover another port counts", l.Name, ports[0].Name)
		}
	}
	w.each(fl, l, ports, "no ports", trail)
}

func (w *walker) team(fl flight, l *Link, trail way) {
	ports := w.ports(fl.net, l)
	if i := slices.IndexFunc(ports, func(p *Link) bool { return p.Index == l.TeamActive }); i >= 0 {
		ports = ports[i : i+1]
		w.note("%s sends by %s now; after a failover another port counts", l.Name, ports[0].Name)
	}
	w.each(fl, l, ports, "no ports", trail)
}

// netvsc follows the packet through a Hyper-V device, which hands it to its
// virtual function while there is one (netvsc_vf_xmit).
func (w *walker) netvsc(fl flight, l *Link, trail way) {
	ports := w.ports(fl.net, l)
	if len(ports) == 0 {
		w.end(trail, leg{kind: legLeave, net: fl.net, link: l})
		return
	}
	w.note("%s sends by its virtual function %s while the host provides it", l.Name, ports[0].Name)
	w.each(fl, l, ports, "", trail)
}

// veth follows the packet to the other end, which receives it.
func (w *walker) veth(fl flight, l *Link, trail way) {
	net, p, err := w.parent(fl.net, l)
	if err != nil {
		w.unknown(trail, "the other end of %s cannot be looked at: %v", l.Name, err)
		return
	}
	fl.net = net
	w.receive(fl, p, trail)
}

func isMacvlan(l *Link) bool { return l.Kind == "macvlan" || l.Kind == "macvtap" }

func isIPvlan(l *Link) bool { return l.Kind == "ipvlan" || l.Kind == "ipvtap" }

// macvlanBridge is MACVLAN_MODE_BRIDGE of linux/if_link.h: the only mode in
// which devices on the same parent reach each other directly.
const macvlanBridge = 4

func (w *walker) macvlan(fl flight, l *Link, trail way) {
	if l.MacvlanMode != macvlanBridge {
		w.below(fl, l, trail)
		return
	}
	mac := w.mac(fl)
	w.sibling(fl, l, trail, isMacvlan, func(net string, s *Link) bool {
		if mac != "" {
			return s.MAC == mac
		}
		return s.Kind == "macvlan" && w.owns(net, fl.hop)
	})
}

func (w *walker) ipvlan(fl flight, l *Link, trail way) {
	w.sibling(fl, l, trail, isIPvlan, func(net string, _ *Link) bool { return w.owns(net, fl.hop) })
}

// sibling follows the packet to the device on the same parent that takes it,
// or to the parent if none does.
func (w *walker) sibling(fl flight, l *Link, trail way, kin func(*Link) bool, takes func(string, *Link) bool) {
	pnet, parent, err := w.parent(fl.net, l)
	if err != nil {
		w.unknown(trail, "the device below %s cannot be looked at: %v", l.Name, err)
		return
	}
	for _, net := range w.r.namespaces() {
		links := w.all(net)
		for i := range links {
			s := &links[i]
			if !kin(s) || s.Parent != parent.Index || (net == fl.net && s.Index == l.Index) {
				continue
			}
			if n, err := parentNet(net, s); err != nil || n != pnet || !takes(net, s) {
				continue
			}
			if s.Kind == "macvtap" || s.Kind == "ipvtap" {
				trail = w.grow(trail, leg{kind: legReceive, net: net, link: s})
				w.end(trail, leg{kind: legRead, net: net, link: s})
				return
			}
			fl.net = net
			w.receive(fl, s, trail)
			return
		}
	}
	if n := w.r.hidden(); n > 0 && fl.hop == fl.dst {
		w.unknown(trail, "%s may be on a neighbour of %s in a network namespace that cannot be looked into", fl.dst, l.Name)
		return
	}
	fl.net = pnet
	w.send(fl, parent, trail)
}

// bridge follows a frame through a bridge; in is the port it came in by, nil
// if the bridge's own namespace sends it.
func (w *walker) bridge(fl flight, br, in *Link, trail way) {
	mac := w.mac(fl)
	if in != nil && (mac != "" && mac == br.MAC || w.owns(fl.net, fl.hop)) {
		// The frame is for the bridge's namespace itself.
		if revisits(trail, legReceive, fl.net, br, "") {
			w.unknown(trail, "the path runs in a circle over %s", br.Name)
			return
		}
		w.receive(fl, br, trail)
		return
	}
	ports := w.ports(fl.net, br)
	if in != nil {
		ports = slices.DeleteFunc(ports, func(p *Link) bool { return p.Index == in.Index })
	}
	w.each(fl, br, w.portsToward(fl, br, mac, ports), "no port that could lead to "+fl.hop, trail)
}

// portsToward returns the port of a bridge that leads to the next hop, or all
// that may if the bridge has not learned it.
func (w *walker) portsToward(fl flight, br *Link, mac string, ports []*Link) []*Link {
	if mac != "" {
		a, err := w.r.neighbour(NeighbourQuery{Net: fl.net, Dev: br.Index, MAC: mac})
		if err == nil && a.Errno == "" {
			if i := slices.IndexFunc(ports, func(p *Link) bool { return p.Index == a.Port }); i >= 0 {
				return ports[i : i+1]
			}
		}
	}
	// To ask each namespace behind a port whether it owns the address is
	// quick; to read its devices is not.
	for i, p := range ports {
		if net, err := parentNet(fl.net, p); isVeth(p) && err == nil && w.owns(net, fl.hop) {
			return ports[i : i+1]
		}
	}
	maybe := slices.DeleteFunc(ports, func(p *Link) bool { return isVeth(p) && w.endsIn(fl.net, p) })
	if len(maybe) > 1 {
		w.note("%s has not learned which of its ports leads to %s: all of them are judged", br.Name, fl.hop)
	}
	return maybe
}

// endsIn reports whether the other end of a veth is a plain device of a
// namespace, so that frames for others go nowhere from there.
func (w *walker) endsIn(net string, l *Link) bool {
	_, peer, err := w.parent(net, l)
	return err == nil && peer.Master == 0
}

func isVeth(l *Link) bool { return l.Kind == "veth" || l.Kind == "netkit" }
