package sys

import (
	"encoding/binary"
	"net/netip"

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
