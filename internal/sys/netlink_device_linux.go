package sys

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/pkt_sched.h.
const (
	tcHandleRoot        = 0xffffffff // TC_H_ROOT
	tcLinkLayerEthernet = 1          // TC_LINKLAYER_ETHERNET: rates count bytes, and need no table
	tcaTBFParms         = 1          // TCA_TBF_PARMS
	tcaTBFBurst         = 6          // TCA_TBF_BURST
	psched              = 64         // nanoseconds of one PSCHED tick
)

// Of linux/if_link.h.
const (
	macvlanMode   = 1 // IFLA_MACVLAN_MODE
	macvlanBridge = 4 // MACVLAN_MODE_BRIDGE
)

// Device is a virtual device that is to be made.
type Device struct {
	Name  string
	Kind  string // "bridge", "ifb", "macvlan"
	Index int    // ifi_index; 0 lets the kernel choose
	MAC   [hardwareAddressLen]byte
	MTU   int // 0: the kind's own

	Parent int    // IFLA_LINK, the device below; 0: none
	Data   []byte // IFLA_INFO_DATA; nil: none
}

// MacvlanBridge is the Data of a macvlan that reaches others on the same parent.
func MacvlanBridge() []byte {
	return AppendNetlinkAttr(nil, macvlanMode, binary.NativeEndian.AppendUint32(nil, macvlanBridge))
}

// NewDevice makes a device in the namespace of n, an rtnetlink socket, or in the
// one that ns stands for if that is not nil. It needs CAP_NET_ADMIN there, and
// loads the module of the kind where that is one. A kind that the kernel does not
// know is EOPNOTSUPP.
func NewDevice(n *Netlink, d Device, ns *os.File) error {
	b := linkMessage(d.Index, 0, 0)
	b = AppendNetlinkAttr(b, unix.IFLA_IFNAME, append([]byte(d.Name), 0))
	if d.MAC != [hardwareAddressLen]byte{} {
		b = AppendNetlinkAttr(b, unix.IFLA_ADDRESS, d.MAC[:])
	}
	if d.MTU != 0 {
		b = AppendNetlinkAttr(b, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(d.MTU)))
	}
	if d.Parent != 0 {
		b = AppendNetlinkAttr(b, unix.IFLA_LINK, binary.NativeEndian.AppendUint32(nil, uint32(d.Parent)))
	}
	if ns != nil {
		b = AppendNetlinkAttr(b, unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(ns.Fd())))
	}
	info := AppendNetlinkAttr(nil, unix.IFLA_INFO_KIND, []byte(d.Kind))
	if d.Data != nil {
		info = AppendNetlinkAttr(info, unix.IFLA_INFO_DATA, d.Data)
	}
	b = AppendNetlinkAttr(b, unix.IFLA_LINKINFO, info)
	_, err := n.Query(unix.RTM_NEWLINK, NetlinkCreate, b)
	return Wrap("RTM_NEWLINK "+d.Kind+" "+d.Name, err)
}

// SetMaster makes a device a port of another, a bridge.
func SetMaster(n *Netlink, index, master int) error {
	b := AppendNetlinkAttr(linkMessage(index, 0, 0), unix.IFLA_MASTER, binary.NativeEndian.AppendUint32(nil, uint32(master)))
	_, err := n.Query(unix.RTM_NEWLINK, 0, b)
	return Wrap(fmt.Sprintf("RTM_NEWLINK %d master %d", index, master), err)
}

// AddGateway routes a prefix by way of a router.
func AddGateway(n *Netlink, p netip.Prefix, gateway netip.Addr) error {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1] = addrFamily(p.Addr()), byte(p.Bits())
	body[4], body[5] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC
	body[6], body[7] = unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	body = AppendNetlinkAttr(body, unix.RTA_DST, p.Addr().AsSlice())
	body = AppendNetlinkAttr(body, unix.RTA_GATEWAY, gateway.AsSlice())
	_, err := n.Query(unix.RTM_NEWROUTE, NetlinkCreate, body)
	return Wrap("RTM_NEWROUTE "+p.String(), err)
}

// addRoot makes a queueing discipline the root of a device. One that the kernel
// does not know is ENOENT.
func addRoot(n *Netlink, index int, kind string, options []byte) error {
	b := tcMessage(index, 0, tcHandleRoot, 0)
	b = AppendNetlinkAttr(b, unix.TCA_KIND, append([]byte(kind), 0))
	b = AppendNetlinkAttr(b, unix.TCA_OPTIONS, options)
	_, err := n.Query(unix.RTM_NEWQDISC, NetlinkCreate, b)
	return Wrap(fmt.Sprintf("RTM_NEWQDISC %s %d", kind, index), err)
}

// AddNetem delays what a device sends, up to limit packets at a time, and loads
// the module sch_netem where that is one.
func AddNetem(n *Netlink, index int, delay time.Duration, limit int) error {
	var qopt [24]byte // struct tc_netem_qopt
	binary.NativeEndian.PutUint32(qopt[0:], uint32(delay.Nanoseconds()/psched))
	binary.NativeEndian.PutUint32(qopt[4:], uint32(limit))
	return addRoot(n, index, "netem", qopt[:])
}

// AddTokenBucket lets a device send rate bytes a second, burst of them at once,
// and keeps limit bytes waiting. It loads the module sch_tbf where that is one.
func AddTokenBucket(n *Netlink, index int, rate uint64, burst, limit uint32) error {
	var qopt [36]byte // struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu
	qopt[1] = tcLinkLayerEthernet
	binary.NativeEndian.PutUint32(qopt[8:], uint32(rate))
	binary.NativeEndian.PutUint32(qopt[24:], limit)
	options := AppendNetlinkAttr(nil, tcaTBFParms, qopt[:])
	options = AppendNetlinkAttr(options, tcaTBFBurst, binary.NativeEndian.AppendUint32(nil, burst))
	return addRoot(n, index, "tbf", options)
}

// OpenTun makes a tun device of that name, without a protocol header in front of
// its packets, in the namespace of the thread. The device is gone when the file
// is closed. It needs CAP_NET_ADMIN and /dev/net/tun.
func OpenTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, Wrap("open /dev/net/tun", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, Wrap("ioctl TUNSETIFF "+name, err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}
