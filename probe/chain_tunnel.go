package probe

import (
	"net/netip"
)

// tunnelKinds maps the kinds of devices that put packets into other packets,
// unencrypted, to the feature by which a device below shows that it can do its
// work on the packet inside: drivers that set hw_enc_features offer
// segmentation for the tunnel as well.
var tunnelKinds = map[string][]string{
	"vxlan":     {"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"},
	"geneve":    {"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"},
	"bareudp":   {"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"},
	"gtp":       {"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"},
	"gre":       {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"gretap":    {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"ip6gre":    {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"ip6gretap": {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"erspan":    {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"ip6erspan": {"tx-gre-segmentation", "tx-gre-csum-segmentation"},
	"ipip":      {"tx-ipxip4-segmentation"},
	"sit":       {"tx-ipxip4-segmentation"},
	"ip6tnl":    {"tx-ipxip6-segmentation"},
}

const (
	protoTCP = 6
	protoUDP = 17
)

// tunnel follows the packet inside its outer one, by the route to the other
// end of the tunnel.
func (w *walker) tunnel(fl flight, l *Link, trail way) {
	remote := l.TunRemote
	if far := w.farEnd(fl, l); far != "" {
		remote = far
	}
	if remote == "" {
		w.unknown(trail, "%s picks the other end for each packet, and which it is for %s was not found", l.Name, fl.dst)
		return
	}
	trail = w.grow(trail, leg{kind: legTunnel, net: fl.net, link: l})
	fl.encap = l.Kind
	w.outer(fl, l, remote, l.TunLocal, trail)
}

// farEnd asks a VXLAN device where it sends frames for the next hop: its own
// forwarding table comes before the remote it was made with.
func (w *walker) farEnd(fl flight, l *Link) string {
	if l.Kind != "vxlan" {
		return ""
	}
	mac := w.mac(fl)
	if mac == "" {
		return ""
	}
	a, err := w.r.neighbour(NeighbourQuery{Net: fl.net, Dev: l.Index, MAC: mac})
	if err != nil || a.Errno != "" {
		return ""
	}
	return a.Dst
}

// outer follows a tunnel's outer packet to remote.
func (w *walker) outer(fl flight, l *Link, remote, local string, trail way) {
	net, err := parentNet(fl.net, l)
	if err != nil {
		w.unknown(trail, "the devices below %s cannot be looked at: %v", l.Name, err)
		return
	}
	q := RouteQuery{Net: net, Dst: remote, Src: local, OIF: l.Parent}
	if l.TunPort != 0 {
		q.Proto, q.Port = protoUDP, uint16(l.TunPort)
	}
	a, err := w.r.route(q)
	switch {
	case err != nil:
		w.unknown(trail, "the route of %s to its other end %s cannot be told: %v", l.Name, remote, err)
		return
	case a.Errno != "":
		w.unknown(trail, "%s has no route to its other end %s (%s)", l.Name, remote, a.Errno)
		return
	}
	fl.dst, fl.src, fl.v6 = remote, a.PrefSrc, isV6(remote)
	if local != "" {
		fl.src = local
	}
	w.out(a, fl, trail)
}

// isV6 reports whether s is an IPv6 address.
func isV6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() && !a.Is4In6()
}

// wireguard: every packet is encrypted by the CPU; to which peer needs
// CAP_NET_ADMIN to read, and the packet that leaves is a new one in any case.
func (w *walker) wireguard(fl flight, l *Link, trail way) {
	trail = w.grow(trail, leg{kind: legCrypt, net: fl.net, link: l, cause: "wireguard"})
	fl.encap = ""
	if l.TunRemote != "" {
		w.outer(fl, l, l.TunRemote, l.TunLocal, trail)
		return
	}
	w.note("which way the encrypted packets of %s take needs CAP_NET_ADMIN to read and was not followed", l.Name)
	w.end(trail, leg{kind: legLeave, net: fl.net, link: l, why: "encrypted"})
}

// crypt follows the packet through a device that encrypts what its parent then
// sends, unless the parent does both.
func (w *walker) crypt(fl flight, l *Link, cause, offload string, trail way) {
	net, p, err := w.parent(fl.net, l)
	if err != nil {
		w.unknown(trail, "the device below %s cannot be looked at: %v", l.Name, err)
		return
	}
	if on := feature(p, offload); on == nil || *on {
		w.unknown(trail, "%s may encrypt for %s (%s): whether it does was not read", p.Name, l.Name, offload)
		return
	}
	fl.net = net
	w.send(fl, p, w.grow(trail, leg{kind: legCrypt, net: fl.net, link: l, cause: cause}))
}

// ipsec: packets through an xfrm or VTI device are encrypted by the CPU unless
// the device below offers to do it.
func (w *walker) ipsec(fl flight, l *Link, trail way) {
	if l.Parent != 0 {
		w.crypt(fl, l, "ipsec-sw", "esp-hw-offload", trail)
		return
	}
	w.unknown(trail, "%s encrypts packets; whether a device does it (esp-hw-offload) depends on states that need CAP_NET_ADMIN to read", l.Name)
}
