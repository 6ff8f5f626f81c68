package sys

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/sys/unix"
)

// NetlinkXfrm is the netlink protocol of IPsec. Opening a socket of it loads
// the module xfrm_user where the kernel has it as one and it is not there.
const NetlinkXfrm = unix.NETLINK_XFRM

// XfrmPolicy is one policy of IPsec; linux/xfrm.h. A packet is for the policy
// of its direction that it matches and whose priority is the lowest number.
type XfrmPolicy struct {
	Out      bool // for packets that this namespace sends
	Block    bool // they are thrown away
	Priority uint32
	Index    uint32 // of two policies of the same priority the older is asked first

	Family           uint16
	Src, Dst         netip.Prefix
	Proto            uint8  // 0: any
	DPort, DPortMask uint16 // mask 0: any
	SPortMask        uint16 // 0: any source port
	OIF              int    // 0: any
	Templates        bool   // matching packets are transformed
	Marked           bool   // only packets of some mark or interface id
}

// Messages and numbers of linux/xfrm.h.
const (
	xfrmMsgNewPolicy = 0x13
	xfrmMsgGetPolicy = 0x15

	xfrmPolicySize   = 168 // struct xfrm_userpolicy_info
	xfrmPolicyOut    = 1
	xfrmPolicyBlock  = 1
	xfrmAttrTemplate = 5
	xfrmAttrMark     = 21
	xfrmAttrIfID     = 31
)

// XfrmPolicies returns the policies of the namespace. It takes CAP_NET_ADMIN.
func XfrmPolicies(n *Netlink) ([]XfrmPolicy, error) {
	msgs, err := n.Query(xfrmMsgGetPolicy, NetlinkDump, make([]byte, 64)) // struct xfrm_userpolicy_id, ignored
	if err != nil {
		return nil, Wrap("XFRM_MSG_GETPOLICY", err)
	}
	var out []XfrmPolicy
	for _, m := range msgs {
		if m.Type != xfrmMsgNewPolicy {
			continue
		}
		p, err := ParseXfrmPolicy(m.Body)
		if err != nil {
			return nil, Wrap("XFRM_MSG_GETPOLICY", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// ParseXfrmPolicy parses an XFRM_MSG_NEWPOLICY message.
func ParseXfrmPolicy(b []byte) (XfrmPolicy, error) {
	if len(b) < xfrmPolicySize {
		return XfrmPolicy{}, fmt.Errorf("policy of %d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	le, be := binary.NativeEndian, binary.BigEndian
	p := XfrmPolicy{
		DPort: be.Uint16(b[32:]), DPortMask: be.Uint16(b[34:]), SPortMask: be.Uint16(b[38:]),
		Family: le.Uint16(b[40:]), Proto: b[44],
		Priority: le.Uint32(b[152:]), Index: le.Uint32(b[156:]), Out: b[160] == xfrmPolicyOut, Block: b[161] == xfrmPolicyBlock,
	}
	var err error
	if p.OIF, err = attrIndex(b[48:]); err != nil {
		return XfrmPolicy{}, err
	}
	if p.Dst, err = xfrmPrefix(p.Family, b[0:16], b[42]); err != nil {
		return XfrmPolicy{}, err
	}
	if p.Src, err = xfrmPrefix(p.Family, b[16:32], b[43]); err != nil {
		return XfrmPolicy{}, err
	}
	err = EachNetlinkAttr(b[xfrmPolicySize:], func(typ uint16, v []byte) error {
		switch typ {
		case xfrmAttrTemplate:
			p.Templates = len(v) > 0
		case xfrmAttrMark, xfrmAttrIfID:
			for _, c := range v {
				p.Marked = p.Marked || c != 0
			}
		}
		return nil
	})
	if err != nil {
		return XfrmPolicy{}, err
	}
	return p, nil
}

// xfrmPrefix reads one address of a selector. Family 0 is for both.
func xfrmPrefix(family uint16, addr []byte, bits byte) (netip.Prefix, error) {
	a := netip.AddrFrom16([16]byte(addr))
	switch family {
	case unix.AF_INET:
		a = netip.AddrFrom4([4]byte(addr[:4]))
	case unix.AF_INET6, unix.AF_UNSPEC:
	default:
		return netip.Prefix{}, fmt.Errorf("policy of address family %d", family)
	}
	return a.Prefix(int(bits))
}
