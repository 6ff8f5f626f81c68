package sys

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// AddAddress gives a device an address, with the route to its network. Nobody is
// asked whether an IPv6 address is taken, but packets are taken in for it only
// when a worker of the kernel has made its route, which [GetRoute] tells.
func AddAddress(n *Netlink, index int, p netip.Prefix) error {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0], body[1] = addrFamily(p.Addr()), byte(p.Bits())
	if p.Addr().Is6() {
		body[2] = unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	body = AppendNetlinkAttr(body, unix.IFA_LOCAL, p.Addr().AsSlice())
	body = AppendNetlinkAttr(body, unix.IFA_ADDRESS, p.Addr().AsSlice())
	_, err := n.Query(unix.RTM_NEWADDR, NetlinkCreate, body)
	return Wrap("RTM_NEWADDR "+p.String(), err)
}

// AddNeighbour tells a device, for good, at which hardware address a neighbour
// is, so that it is never asked for.
func AddNeighbour(n *Netlink, index int, a netip.Addr, mac [hardwareAddressLen]byte) error {
	body := neighbourRequest(addrFamily(a), index, 0)
	binary.NativeEndian.PutUint16(body[8:], unix.NUD_PERMANENT)
	body = AppendNetlinkAttr(body, unix.NDA_DST, a.AsSlice())
	body = AppendNetlinkAttr(body, unix.NDA_LLADDR, mac[:])
	_, err := n.Query(unix.RTM_NEWNEIGH, NetlinkCreate, body)
	return Wrap("RTM_NEWNEIGH "+a.String(), err)
}

// AddPatientRoute routes an address over a device, directly, with a lower bound
// for the time after which TCP retransmits; 200 ms without.
func AddPatientRoute(n *Netlink, index int, a netip.Addr, rtoMin time.Duration) error {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1] = addrFamily(a), byte(a.BitLen())
	body[4], body[5] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC
	body[6], body[7] = unix.RT_SCOPE_LINK, unix.RTN_UNICAST
	body = AppendNetlinkAttr(body, unix.RTA_DST, a.AsSlice())
	body = AppendNetlinkAttr(body, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	// tcp_rto_min looks at the metric only if it is locked.
	metrics := AppendNetlinkAttr(nil, unix.RTAX_LOCK, binary.NativeEndian.AppendUint32(nil, 1<<unix.RTAX_RTO_MIN))
	metrics = AppendNetlinkAttr(metrics, unix.RTAX_RTO_MIN, binary.NativeEndian.AppendUint32(nil, uint32(rtoMin.Milliseconds())))
	body = AppendNetlinkAttr(body, unix.RTA_METRICS, metrics)
	_, err := n.Query(unix.RTM_NEWROUTE, NetlinkCreate, body)
	return Wrap("RTM_NEWROUTE "+a.String(), err)
}
