package probe

import "fmt"

// Names of device features, as ethtool has them.
const (
	featSG          = "tx-scatter-gather"
	featCsum4       = "tx-checksum-ipv4"
	featCsum6       = "tx-checksum-ipv6"
	featCsumGeneric = "tx-checksum-ip-generic"
	featTSO         = "tx-tcp-segmentation"
	featTSO6        = "tx-tcp6-segmentation"
	featUSO         = "tx-udp-segmentation"
)

func on(b *bool) bool  { return b != nil && *b }
func off(b *bool) bool { return b != nil && !*b }

// both is the logical and of what may be unknown.
func both(a, b *bool) *bool {
	switch {
	case off(a) || off(b):
		return new(false)
	case a == nil || b == nil:
		return nil
	}
	return new(true)
}

// either is the logical or of what may be unknown.
func either(a, b *bool) *bool {
	switch {
	case on(a) || on(b):
		return new(true)
	case a == nil || b == nil:
		return nil
	}
	return new(false)
}

// feature returns whether a feature of a device is active, nil if that is not
// known.
func feature(l *Link, name string) *bool {
	if s, ok := l.Features[name]; ok {
		return new(s.Active)
	}
	// The kernel names every feature it has, the legacy ioctls only a few.
	if len(l.Features) > 0 && l.FeaturesSource == "ETHTOOL_GFEATURES" {
		return new(false)
	}
	return nil
}

func csumName(v6 bool) string {
	if v6 {
		return featCsum6
	}
	return featCsum4
}

func tsoName(v6 bool) string {
	if v6 {
		return featTSO6
	}
	return featTSO
}

// txChecksum returns whether a device computes TCP and UDP checksums of an
// address family.
func txChecksum(l *Link, v6 bool) *bool {
	return either(feature(l, featCsumGeneric), feature(l, csumName(v6)))
}

// encapChecksum returns whether the device of g computes the checksum of a
// packet inside a tunnel. The kernel asks dev->hw_enc_features, which nothing
// shows. Stacked devices pass the question on; others set it where they offer
// segmentation for the tunnel, on or off, and else have the default, which is
// scatter-gather alone (register_netdevice). A bridge has that default up to
// 6.18 whatever it shows, in 7.3 what its ports have.
func encapChecksum(g *leg) *bool {
	csum := txChecksum(g.link, g.v6)
	switch g.link.Kind {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "bond", "team":
		return csum
	}
	if csum == nil || !*csum {
		return csum
	}
	if g.link.Kind == "bridge" {
		return nil
	}
	offered := new(false)
	for _, name := range tunnelKinds[g.encap].shows {
		s, ok := g.link.Features[name]
		switch {
		case !ok:
			offered = either(offered, feature(g.link, name))
		case s.Available || s.Active:
			return new(true)
		}
	}
	return offered
}

// checksumDoubt says why it is not known whether the device of g computes the
// checksum of the packet.
func checksumDoubt(g *leg) string {
	if g.encap != "" && txChecksum(g.link, g.v6) != nil {
		return fmt.Sprintf("kernels differ in whether a %s lets a device below compute checksums inside a %s tunnel, and nothing shows it",
			linkKind(g.link), g.encap)
	}
	return "could not read whether " + g.link.Name + " computes checksums"
}

// tapReceives says whether a packet socket makes the kernel copy lent pages in
// a packet that a device receives. Unlike on transmission, sockets for the
// packet's own protocol count, and those that ignore outgoing packets.
func tapReceives(f *Facts, net, device string, v6 bool) (copies *bool, why string) {
	const ethPIP, ethPIPv6 = 0x0800, 0x86dd // linux/if_ether.h
	own := uint16(ethPIP)
	if v6 {
		own = ethPIPv6
	}
	unknown := ""
	for _, t := range f.Taps.Taps {
		switch {
		case t.Handler != "" && t.Protocol != ethPAll: // the IP stack itself, and its like
		case t.Protocol != ethPAll && t.Protocol != own, t.Handler == "" && !t.Running:
		case t.Net == net && (t.anyDevice() || t.Device == device):
			return new(true), "a packet socket sees what " + device + " receives"
		case t.Net == net || !t.anyDevice() || t.Protocol != ethPAll:
		case f.Taps.GlobalList == nil:
			unknown = fmt.Sprintf("could not tell whether a capture in namespace %q sees what %s receives", t.Net, device)
		case *f.Taps.GlobalList:
			return new(true), "a capture in another namespace sees what " + device + " receives"
		}
	}
	if unknown != "" {
		return nil, unknown
	}
	if gap := tapGap(f, net); gap != "" {
		return nil, gap
	}
	return new(false), ""
}
