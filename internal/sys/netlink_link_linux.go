package sys

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// NetlinkCreate makes a request fail where the object exists already.
const NetlinkCreate = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// Attributes of a veth device and of IPv6 in IFLA_AF_SPEC; linux/veth.h,
// linux/if_link.h.
const (
	vethInfoPeer       = 1 // VETH_INFO_PEER
	inet6AddrGenMode   = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenModeNone    = 1 // IN6_ADDR_GEN_MODE_NONE: no link-local address
	operStateUp        = 6 // IF_OPER_UP
	hardwareAddressLen = 6
)

// VethEnd is one end of a veth pair that is to be made.
type VethEnd struct {
	Name  string
	Index int // ifi_index, unique in the end's network namespace
	MAC   [hardwareAddressLen]byte
	MTU   int
}

func (v VethEnd) attributes() []byte {
	var b []byte
	b = AppendNetlinkAttr(b, unix.IFLA_IFNAME, append([]byte(v.Name), 0))
	b = AppendNetlinkAttr(b, unix.IFLA_ADDRESS, v.MAC[:])
	b = AppendNetlinkAttr(b, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(v.MTU)))
	b = AppendNetlinkAttr(b, unix.IFLA_NUM_TX_QUEUES, binary.NativeEndian.AppendUint32(nil, 1))
	return AppendNetlinkAttr(b, unix.IFLA_NUM_RX_QUEUES, binary.NativeEndian.AppendUint32(nil, 1))
}

func linkMessage(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// NewVeth makes a veth pair with one queue each: near in the namespace of n, an
// rtnetlink socket, far in the one that ns stands for. Both are down. It needs
// CAP_NET_ADMIN in both, and loads the module veth where that is one.
func NewVeth(n *Netlink, near, far VethEnd, ns *os.File) error {
	peer := append(linkMessage(far.Index, 0, 0), far.attributes()...)
	peer = AppendNetlinkAttr(peer, unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(ns.Fd())))
	info := AppendNetlinkAttr(nil, unix.IFLA_INFO_KIND, []byte("veth"))
	info = AppendNetlinkAttr(info, unix.IFLA_INFO_DATA, AppendNetlinkAttr(nil, vethInfoPeer, peer))
	body := append(linkMessage(near.Index, 0, 0), near.attributes()...)
	body = AppendNetlinkAttr(body, unix.IFLA_LINKINFO, info)
	_, err := n.Query(unix.RTM_NEWLINK, NetlinkCreate, body)
	return Wrap("RTM_NEWLINK veth "+near.Name, err)
}

// SetNoLinkLocal keeps IPv6 from making an address of its own, and announcing
// it, when the device comes up. Where there is no IPv6 that is EAFNOSUPPORT.
func SetNoLinkLocal(n *Netlink, index int) error {
	mode := AppendNetlinkAttr(nil, inet6AddrGenMode, []byte{addrGenModeNone})
	spec := AppendNetlinkAttr(nil, unix.AF_INET6, mode)
	body := AppendNetlinkAttr(linkMessage(index, 0, 0), unix.IFLA_AF_SPEC, spec)
	_, err := n.Query(unix.RTM_SETLINK, 0, body)
	return Wrap(fmt.Sprintf("RTM_SETLINK %d addrgenmode none", index), err)
}

// SetLinkMTU sets the MTU of the device with an index, in bytes. It needs
// CAP_NET_ADMIN.
func SetLinkMTU(n *Netlink, index, mtu int) error {
	body := AppendNetlinkAttr(linkMessage(index, 0, 0), unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu)))
	_, err := n.Query(unix.RTM_NEWLINK, 0, body)
	return Wrap(fmt.Sprintf("RTM_NEWLINK %d mtu %d", index, mtu), err)
}

// SetLinkUp brings a device up.
func SetLinkUp(n *Netlink, index int) error {
	_, err := n.Query(unix.RTM_NEWLINK, 0, linkMessage(index, unix.IFF_UP, unix.IFF_UP))
	return Wrap(fmt.Sprintf("RTM_NEWLINK %d up", index), err)
}

// DeleteLink deletes a device, and with one end of a veth pair the other.
func DeleteLink(n *Netlink, index int) error {
	_, err := n.Query(unix.RTM_DELLINK, 0, linkMessage(index, 0, 0))
	return Wrap(fmt.Sprintf("RTM_DELLINK %d", index), err)
}

// LinkRuns reports whether packets given to a device are sent: it is up, has a
// carrier, and its queueing discipline is no longer the one that drops all.
func LinkRuns(n *Netlink, index int) (bool, error) {
	op := fmt.Sprintf("RTM_GETLINK %d", index)
	msgs, err := n.Query(unix.RTM_GETLINK, 0, linkMessage(index, 0, 0))
	if err != nil {
		return false, Wrap(op, err)
	}
	if len(msgs) != 1 || len(msgs[0].Body) < unix.SizeofIfInfomsg {
		return false, Wrap(op, io.ErrUnexpectedEOF)
	}
	var up, queues bool
	err = EachNetlinkAttr(msgs[0].Body[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) error {
		switch typ {
		case unix.IFLA_OPERSTATE:
			up = len(v) == 1 && v[0] == operStateUp
		case unix.IFLA_QDISC:
			queues = string(bytes.TrimRight(v, "\x00")) != "noop"
		}
		return nil
	})
	return up && queues, Wrap(op, err)
}
