package sys

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Of linux/pkt_sched.h, linux/pkt_cls.h and linux/rtnetlink.h.
const (
	sizeofTCMsg        = 20
	tcHandleClsact     = 0xffff0000 // TC_H_MAKE(TC_H_CLSACT, 0)
	tcParentClsact     = 0xfffffff1 // TC_H_CLSACT
	tcParentIngress    = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	tcaBPFFD           = 6          // TCA_BPF_FD
	tcaBPFName         = 7          // TCA_BPF_NAME
	tcaBPFFlags        = 8          // TCA_BPF_FLAGS
	tcaBPFDirectAction = 1          // TCA_BPF_FLAG_ACT_DIRECT
)

// tcMessage makes a struct tcmsg; info is the priority and the protocol of a
// filter.
func tcMessage(index int, handle, parent, info uint32) []byte {
	b := make([]byte, sizeofTCMsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], handle)
	binary.NativeEndian.PutUint32(b[12:], parent)
	binary.NativeEndian.PutUint32(b[16:], info)
	return b
}

// AddClsact gives a device the place where classifiers of its ingress and
// egress are attached. It loads the module sch_ingress where that is one.
func AddClsact(n *Netlink, index int) error {
	body := tcMessage(index, tcHandleClsact, tcParentClsact, 0)
	body = AppendNetlinkAttr(body, unix.TCA_KIND, []byte("clsact\x00"))
	_, err := n.Query(unix.RTM_NEWQDISC, NetlinkCreate, body)
	return Wrap(fmt.Sprintf("RTM_NEWQDISC clsact %d", index), err)
}

// AddIngressBPF attaches a BPF classifier to the ingress of a device that has
// clsact. What the program returns is done, and nothing after it asked. It is
// detached with the device, and loads the module cls_bpf where that is one.
func AddIngressBPF(n *Netlink, index, program int, name string) error {
	const priority, handle = 1, 1
	body := tcMessage(index, handle, tcParentIngress, priority<<16|uint32(htons(unix.ETH_P_ALL)))
	body = AppendNetlinkAttr(body, unix.TCA_KIND, []byte("bpf\x00"))
	options := AppendNetlinkAttr(nil, tcaBPFFD, binary.NativeEndian.AppendUint32(nil, uint32(program)))
	options = AppendNetlinkAttr(options, tcaBPFName, append([]byte(name), 0))
	options = AppendNetlinkAttr(options, tcaBPFFlags, binary.NativeEndian.AppendUint32(nil, tcaBPFDirectAction))
	body = AppendNetlinkAttr(body, unix.TCA_OPTIONS, options)
	_, err := n.Query(unix.RTM_NEWTFILTER, NetlinkCreate, body)
	return Wrap(fmt.Sprintf("RTM_NEWTFILTER bpf %d", index), err)
}
