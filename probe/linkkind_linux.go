package probe

import (
	"net/netip"
)

// Attributes in IFLA_INFO_DATA; linux/if_link.h, linux/if_tunnel.h.
const (
	iflaBondMode        = 1
	iflaBondActiveSlave = 2
	iflaVlanID          = 1
	iflaMacvlanMode     = 1
	iflaTunType         = 3 // Linux 4.20
)

// tunnel says which attributes of a tunnel kind hold what; 0: it has none.
type tunnel struct {
	link, local, remote      int
	local6, remote6          int // kinds that have an attribute per family
	port                     int // outer UDP destination port, big-endian
	csum4, noCsum6           int // flags of the outer UDP checksum
	greFlags                 int // GRE output flags, big-endian
	metadata                 int // present: addresses come with each packet
	encap, encapFlags, dport int // FOU or GUE around it
}

var (
	greTunnel = tunnel{link: 1, local: 6, remote: 7, greFlags: 3, metadata: 18, encap: 14, encapFlags: 15, dport: 17}
	ipTunnel  = tunnel{link: 1, local: 2, remote: 3, metadata: 19, encap: 15, encapFlags: 16, dport: 18}
	vtiTunnel = tunnel{link: 1, local: 4, remote: 5}
)

var tunnels = map[string]tunnel{
	"vxlan":     {link: 3, local: 4, remote: 2, local6: 17, remote6: 16, port: 15, csum4: 18, noCsum6: 19, metadata: 25},
	"geneve":    {remote: 2, remote6: 7, port: 5, csum4: 8, noCsum6: 9, metadata: 6},
	"bareudp":   {port: 1},
	"gre":       greTunnel,
	"gretap":    greTunnel,
	"ip6gre":    greTunnel,
	"ip6gretap": greTunnel,
	"erspan":    greTunnel,
	"ip6erspan": greTunnel,
	"ipip":      ipTunnel,
	"sit":       ipTunnel,
	"ip6tnl":    ipTunnel,
	"vti":       vtiTunnel,
	"vti6":      vtiTunnel,
	"xfrm":      {link: 1, metadata: 3},
}

const (
	greChecksum = 0x8000 // GRE_CSUM, in host order after be16

	encapChecksum4 = 1 // TUNNEL_ENCAP_FLAG_CSUM
	encapChecksum6 = 2 // TUNNEL_ENCAP_FLAG_CSUM6
)

// kindData fills in what IFLA_INFO_DATA says for the link's kind.
func (l *rawLink) kindData(a *attrs) {
	switch l.Kind {
	case "bond":
		l.BondMode = int(a.u8(iflaBondMode))
		l.BondActive = int(a.u32(iflaBondActiveSlave))
	case "vlan":
		l.VlanID = int(a.u16(iflaVlanID))
	case "macvlan", "macvtap":
		l.MacvlanMode = a.u32(iflaMacvlanMode)
	case "tun":
		switch a.u8(iflaTunType) {
		case 1: // IFF_TUN
			l.TunTap = "tun"
		case 2: // IFF_TAP
			l.TunTap = "tap"
		}
	}
	if t, ok := tunnels[l.Kind]; ok {
		l.tunnelData(t, a)
	}
}

func (l *rawLink) tunnelData(t tunnel, a *attrs) {
	if l.Parent == 0 {
		// IFLA_LINK is not sent for vxlan.
		l.Parent = int(a.u32at(t.link))
	}
	local, remote := a.addr(t.local), a.addr(t.remote)
	if !local.IsValid() {
		local = a.addr(t.local6)
	}
	if !remote.IsValid() {
		remote = a.addr(t.remote6)
	}
	perPacket := t.metadata != 0 && a.has(t.metadata) && (len(a.values[t.metadata]) == 0 || a.u8(t.metadata) != 0)
	if perPacket {
		local, remote = netip.Addr{}, netip.Addr{}
	}
	if local.IsValid() {
		l.TunLocal = local.String()
	}
	if remote.IsValid() {
		l.TunRemote = remote.String()
	}
	if t.port != 0 {
		l.TunPort = int(a.be16(t.port))
	}
	outer := remote
	if !outer.IsValid() {
		outer = local
	}
	if !perPacket {
		l.TunCsum = tunnelChecksum(t, a, outer)
	}
	if t.encap != 0 && a.u16(t.encap) != 0 {
		l.TunPort = int(a.be16(t.dport))
	}
}

// tunnelChecksum tells whether the tunnel computes a checksum over what it
// carries; nil: it depends on the peer's address family, which is not fixed.
func tunnelChecksum(t tunnel, a *attrs, outer netip.Addr) *bool {
	var sum4, sum6, any bool
	if t.csum4 != 0 {
		sum4, sum6, any = a.u8(t.csum4) != 0, a.u8(t.noCsum6) == 0, true
	}
	if t.greFlags != 0 {
		sum4 = a.be16(t.greFlags)&greChecksum != 0
		sum6, any = sum4, true
	}
	if t.encap != 0 && a.u16(t.encap) != 0 {
		flags := a.u16(t.encapFlags)
		sum4 = sum4 || flags&encapChecksum4 != 0
		sum6, any = sum6 || flags&encapChecksum6 != 0, true
	}
	switch {
	case !any:
		return nil
	case outer.Is4():
		return &sum4
	case outer.Is6():
		return &sum6
	case sum4 == sum6:
		return &sum4
	}
	return nil
}

// u32at is u32 for an attribute that the kind may not have.
func (a *attrs) u32at(typ int) uint32 {
	if typ == 0 {
		return 0
	}
	return a.u32(typ)
}

// addr returns an address attribute; not valid if it is missing or zero.
func (a *attrs) addr(typ int) netip.Addr {
	if typ == 0 || !a.has(typ) {
		return netip.Addr{}
	}
	ip, ok := netip.AddrFromSlice(a.values[typ])
	if !ok || ip.IsUnspecified() {
		return netip.Addr{}
	}
	return ip
}
