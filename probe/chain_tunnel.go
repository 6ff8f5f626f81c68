package probe

import (
	"net/netip"
)

// A tunnelKind is a kind of device that puts packets into other packets,
// unencrypted.
type tunnelKind struct {
	// shows are features by which a device below tells that it can do its work
	// on the packet inside: drivers that set hw_enc_features offer segmentation
	// for the tunnel as well.
	shows []string
	// inner is what the tunnel adds to a packet, in bytes, besides the outer IP
	// header.
	inner int
}

var (
	udpTunnelShows = []string{"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"}
	greTunnelShows = []string{"tx-gre-segmentation", "tx-gre-csum-segmentation"}
)

var tunnelKinds = map[string]tunnelKind{
	"vxlan":     {udpTunnelShows, 8 + 8 + 14}, // UDP, VXLAN and inner Ethernet header
	"geneve":    {udpTunnelShows, 8 + 8 + 14}, // without options
	"bareudp":   {udpTunnelShows, 8},
	"gtp":       {udpTunnelShows, 8 + 8},
	"gre":       {greTunnelShows, 4}, // without key and checksum
	"gretap":    {greTunnelShows, 4 + 14},
	"ip6gre":    {greTunnelShows, 4},
	"ip6gretap": {greTunnelShows, 4 + 14},
	"erspan":    {greTunnelShows, 8 + 8 + 14},
	"ip6erspan": {greTunnelShows, 8 + 8 + 14},
	"ipip":      {[]string{"tx-ipxip4-segmentation"}, 0},
	"sit":       {[]string{"tx-ipxip4-segmentation"}, 0},
	"ip6tnl":    {[]string{"tx-ipxip6-segmentation"}, 0},
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
	if l.Kind == "vxlan" && a.Type == routeLocal {
		w.unknown(trail, "the other end of %s is this machine, and which device takes its packets was not followed", l.Name)
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
