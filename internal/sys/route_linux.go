package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// RouteRequest is what RTM_GETROUTE is asked: the route of a packet that this
// namespace sends, or with IIF that comes in.
type RouteRequest struct {
	Dst   netip.Addr
	Src   netip.Addr // not valid: the kernel's choice
	OIF   int        // device to send by, 0 for any
	IIF   int        // device to receive by; needs Src
	Mark  uint32
	UID   *uint32 // nil: that of the caller
	Proto uint8   // IPPROTO_TCP, IPPROTO_UDP, or 0; Linux 4.17
	Port  uint16  // destination port, or 0

	// Match asks for the route that matches, with all its next hops, instead of
	// the way one packet takes; Linux 4.13.
	Match bool
}

// Route is the kernel's answer. Where there are several next hops it is the one
// the kernel picks for such a packet.
type Route struct {
	Type    uint8 // RTN_UNICAST, RTN_LOCAL, ...
	OIF     int
	Gateway netip.Addr // not valid: the destination is on the link
	PrefSrc netip.Addr
	MTU     int    // RTAX_MTU, of the route or learned; 0: the device's
	Encap   uint16 // LWTUNNEL_ENCAP_*, 0: none

	// NextHops are those of a route with several; set for requests with Match.
	NextHops []NextHop
}

// NextHop is one of the ways that a route may take.
type NextHop struct {
	OIF     int
	Gateway netip.Addr // not valid: the destination is on the link
	Encap   uint16
}

// Route types; rtnetlink(7).
const (
	RouteUnicast     = unix.RTN_UNICAST
	RouteLocal       = unix.RTN_LOCAL
	RouteBroadcast   = unix.RTN_BROADCAST
	RouteAnycast     = unix.RTN_ANYCAST
	RouteMulticast   = unix.RTN_MULTICAST
	RouteBlackhole   = unix.RTN_BLACKHOLE
	RouteUnreachable = unix.RTN_UNREACHABLE
	RouteProhibit    = unix.RTN_PROHIBIT
	RouteThrow       = unix.RTN_THROW
)

// GetRoute asks for one route over n, an rtnetlink socket. No packet is sent
// and no capability needed. Without a route it is ENETUNREACH; blackhole,
// unreachable and prohibit routes are EINVAL, EHOSTUNREACH and EACCES.
func GetRoute(n *Netlink, r RouteRequest) (Route, error) {
	op := "RTM_GETROUTE " + r.Dst.String()
	body, err := r.encode()
	if err != nil {
		return Route{}, Wrap(op, err)
	}
	msgs, err := n.Query(unix.RTM_GETROUTE, 0, body)
	if err != nil {
		return Route{}, Wrap(op, err)
	}
	for _, m := range msgs {
		if m.Type == unix.RTM_NEWROUTE {
			a, err := ParseRoute(m.Body)
			return a, Wrap(op, err)
		}
	}
	return Route{}, Wrap(op, errNoAnswer)
}

var (
	errNoAnswer = errors.New("no answer in the reply")
	errNoDst    = errors.New("no destination address")
)

func (r RouteRequest) encode() ([]byte, error) {
	if !r.Dst.IsValid() {
		return nil, errNoDst
	}
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = addrFamily(r.Dst), byte(r.Dst.BitLen())
	if r.Match {
		binary.NativeEndian.PutUint32(b[8:], unix.RTM_F_FIB_MATCH)
	}
	b = AppendNetlinkAttr(b, unix.RTA_DST, r.Dst.AsSlice())
	if r.Src.IsValid() {
		b[2] = byte(r.Src.BitLen())
		b = AppendNetlinkAttr(b, unix.RTA_SRC, r.Src.AsSlice())
	}
	u32 := func(typ uint16, v uint32) {
		b = AppendNetlinkAttr(b, typ, binary.NativeEndian.AppendUint32(nil, v))
	}
	if r.OIF != 0 {
		u32(unix.RTA_OIF, uint32(r.OIF))
	}
	if r.IIF != 0 {
		u32(unix.RTA_IIF, uint32(r.IIF))
	}
	if r.Mark != 0 {
		u32(unix.RTA_MARK, r.Mark)
	}
	if r.UID != nil {
		u32(unix.RTA_UID, *r.UID)
	}
	if r.Proto != 0 {
		b = AppendNetlinkAttr(b, unix.RTA_IP_PROTO, []byte{r.Proto})
		if r.Port != 0 {
			b = AppendNetlinkAttr(b, unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, r.Port))
		}
	}
	return b, nil
}

func addrFamily(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// ParseRoute parses an RTM_NEWROUTE message.
func ParseRoute(b []byte) (Route, error) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, fmt.Errorf("route of %d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	r := Route{Type: b[7]}
	var hop NextHop
	err := EachNetlinkAttr(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) error {
		var err error
		switch typ {
		case unix.RTA_OIF:
			hop.OIF, err = attrIndex(v)
		case unix.RTA_PREFSRC:
			r.PrefSrc, err = attrAddr(v)
		case unix.RTA_METRICS:
			r.MTU, err = metricMTU(v)
		case unix.RTA_MULTIPATH:
			r.NextHops, err = parseNextHops(v)
		default:
			err = hop.attr(typ, v)
		}
		if err != nil {
			return fmt.Errorf("route attribute %d: %w", typ, err)
		}
		return nil
	})
	if err != nil {
		return Route{}, err
	}
	r.OIF, r.Gateway, r.Encap = hop.OIF, hop.Gateway, hop.Encap
	return r, nil
}

// attr takes an attribute that routes and each of their next hops may have.
func (h *NextHop) attr(typ uint16, v []byte) (err error) {
	switch typ {
	case unix.RTA_GATEWAY:
		h.Gateway, err = attrAddr(v)
	case unix.RTA_VIA: // struct rtvia: family, then an address of it
		if len(v) < 2 {
			return io.ErrUnexpectedEOF
		}
		h.Gateway, err = attrAddr(v[2:])
	case unix.RTA_ENCAP_TYPE:
		if len(v) < 2 {
			return io.ErrUnexpectedEOF
		}
		h.Encap = binary.NativeEndian.Uint16(v)
	}
	return err
}

// parseNextHops parses RTA_MULTIPATH, a list of struct rtnexthop with
// attributes.
func parseNextHops(b []byte) ([]NextHop, error) {
	var hops []NextHop
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, io.ErrUnexpectedEOF
		}
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			return nil, fmt.Errorf("next hop of %d bytes in %d: %w", length, len(b), io.ErrUnexpectedEOF)
		}
		index, err := attrIndex(b[4:])
		if err != nil {
			return nil, err
		}
		hop := NextHop{OIF: index}
		if err := EachNetlinkAttr(b[unix.SizeofRtNexthop:length], hop.attr); err != nil {
			return nil, err
		}
		hops = append(hops, hop)
		b = b[min(align4(length), len(b)):]
	}
	return hops, nil
}

// attrIndex reads an interface index, which the kernel keeps positive.
func attrIndex(v []byte) (int, error) {
	if len(v) < 4 {
		return 0, io.ErrUnexpectedEOF
	}
	i := int32(binary.NativeEndian.Uint32(v))
	if i < 0 {
		return 0, fmt.Errorf("interface index %d", i)
	}
	return int(i), nil
}

func attrAddr(v []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(v)
	if !ok {
		return netip.Addr{}, fmt.Errorf("address of %d bytes", len(v))
	}
	return a, nil
}

// metricMTU reads RTAX_MTU from the metrics of a route.
func metricMTU(b []byte) (mtu int, err error) {
	err = EachNetlinkAttr(b, func(typ uint16, v []byte) error {
		if typ != unix.RTAX_MTU {
			return nil
		}
		if len(v) < 4 {
			return io.ErrUnexpectedEOF
		}
		mtu = int(min(binary.NativeEndian.Uint32(v), 1<<30))
		return nil
	})
	return mtu, err
}

// Neighbour is an entry of the neighbour table, or of the forwarding table of a
// bridge or VXLAN device.
type Neighbour struct {
	MAC  net.HardwareAddr // empty while it is not resolved
	Port int              // device the entry is of: the port of a bridge
	Dst  netip.Addr       // remote end of a VXLAN; not valid: none
}

// GetNeighbour asks over n, an rtnetlink socket, for the entry of addr on a
// device. Nothing is resolved. ENOENT: there is none. Linux 5.0.
func GetNeighbour(n *Netlink, ifindex int, addr netip.Addr) (Neighbour, error) {
	b := neighbourRequest(addrFamily(addr), ifindex, 0)
	b = AppendNetlinkAttr(b, unix.NDA_DST, addr.AsSlice())
	return getNeighbour(n, "RTM_GETNEIGH "+addr.String(), b)
}

// GetBridgePort asks for the port by which a bridge reaches a hardware address.
// ENOENT: the bridge has not learned it. Linux 5.0.
func GetBridgePort(n *Netlink, bridge int, mac net.HardwareAddr) (Neighbour, error) {
	b := neighbourRequest(unix.AF_BRIDGE, 0, 0)
	b = AppendNetlinkAttr(b, unix.NDA_LLADDR, mac)
	b = AppendNetlinkAttr(b, unix.NDA_MASTER, binary.NativeEndian.AppendUint32(nil, uint32(bridge)))
	return getNeighbour(n, "RTM_GETNEIGH bridge", b)
}

// GetVXLANEnd asks for the remote end to which a VXLAN device sends frames for
// a hardware address. ENOENT: it has no entry for it. Linux 5.0.
func GetVXLANEnd(n *Netlink, vxlan int, mac net.HardwareAddr) (Neighbour, error) {
	b := neighbourRequest(unix.AF_BRIDGE, vxlan, unix.NTF_SELF)
	b = AppendNetlinkAttr(b, unix.NDA_LLADDR, mac)
	return getNeighbour(n, "RTM_GETNEIGH vxlan", b)
}

// neighbourRequest is a struct ndmsg.
func neighbourRequest(family byte, ifindex int, flags byte) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(ifindex))
	b[10] = flags
	return b
}

func getNeighbour(n *Netlink, op string, body []byte) (Neighbour, error) {
	msgs, err := n.Query(unix.RTM_GETNEIGH, 0, body)
	if err != nil {
		return Neighbour{}, Wrap(op, err)
	}
	for _, m := range msgs {
		if m.Type == unix.RTM_NEWNEIGH {
			a, err := ParseNeighbour(m.Body)
			return a, Wrap(op, err)
		}
	}
	return Neighbour{}, Wrap(op, errNoAnswer)
}

// ParseNeighbour parses an RTM_NEWNEIGH message.
func ParseNeighbour(b []byte) (Neighbour, error) {
	if len(b) < unix.SizeofNdMsg {
		return Neighbour{}, fmt.Errorf("neighbour of %d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	port, err := attrIndex(b[4:])
	if err != nil {
		return Neighbour{}, err
	}
	a := Neighbour{Port: port}
	err = EachNetlinkAttr(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) error {
		switch typ {
		case unix.NDA_LLADDR:
			if len(v) > 32 { // MAX_ADDR_LEN
				return fmt.Errorf("hardware address of %d bytes", len(v))
			}
			a.MAC = append(net.HardwareAddr(nil), v...)
		case unix.NDA_DST:
			dst, err := attrAddr(v)
			if err != nil {
				return err
			}
			a.Dst = dst
		}
		return nil
	})
	if err != nil {
		return Neighbour{}, err
	}
	return a, nil
}

// Options of IPv4 sockets; ip(7).
const (
	SolIP         = unix.SOL_IP
	IPMulticastIf = unix.IP_MULTICAST_IF // takes a struct ip_mreqn
)
