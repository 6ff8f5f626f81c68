package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Traffic control in rtnetlink(7); numbers from linux/rtnetlink.h and
// linux/pkt_sched.h.
const (
	rtmNewQdisc   = 36
	rtmGetQdisc   = 38
	rtmNewTFilter = 44
	rtmGetTFilter = 46

	tcMsgSize = 20 // struct tcmsg
	tcaKind   = 1

	tcIngressParent       = 0xffff0000 // filters of an ingress qdisc
	tcClsactIngressParent = 0xfffffff2
	tcClsactEgressParent  = 0xfffffff3
)

// readTC finds the devices of the namespace that a tc filter or a BPF program
// of tcx or netkit is attached to. Those run before the IP stack takes a packet
// in, and may send it anywhere.
func (t *nsTable) readTC(nl *sys.Netlink, links []rawLink) error {
	var errs []error
	msgs, err := nl.Query(rtmGetQdisc, sys.NetlinkDump, make([]byte, tcMsgSize))
	if err != nil && !sys.Unsupported(err) { // a kernel without traffic control has no filters
		errs = append(errs, fmt.Errorf("list of qdiscs: %w", err))
	}
	kinds, err := parseQdiscs(msgs)
	errs = append(errs, err)
	for i := range links {
		l := &links[i].Link
		if kinds[l.Index] != "" {
			errs = append(errs, readFilters(nl, l, kinds[l.Index]))
		}
		t.readPrograms(l)
	}
	return errors.Join(errs...)
}

// parseQdiscs returns, by device, the kind of qdisc that filters of received
// packets hang on.
func parseQdiscs(msgs []sys.NetlinkMessage) (map[int]string, error) {
	kinds := map[int]string{}
	for _, m := range msgs {
		if m.Type != rtmNewQdisc {
			continue
		}
		if len(m.Body) < tcMsgSize {
			return kinds, fmt.Errorf("qdisc of %d bytes", len(m.Body))
		}
		a := parseAttrs(m.Body[tcMsgSize:])
		if a.err != nil {
			return kinds, fmt.Errorf("qdisc: %w", a.err)
		}
		if k := a.text(tcaKind); k == "clsact" || k == "ingress" {
			kinds[int(int32(binary.NativeEndian.Uint32(m.Body[4:])))] = k
		}
	}
	return kinds, nil
}

func readFilters(nl *sys.Netlink, l *Link, qdisc string) error {
	if qdisc == "ingress" {
		return readFilter(nl, l, tcIngressParent, &l.TCIngress)
	}
	return errors.Join(
		readFilter(nl, l, tcClsactIngressParent, &l.TCIngress),
		readFilter(nl, l, tcClsactEgressParent, &l.TCEgress))
}

func readFilter(nl *sys.Netlink, l *Link, parent uint32, at *string) error {
	body := make([]byte, tcMsgSize)
	binary.NativeEndian.PutUint32(body[4:], uint32(int32(l.Index)))
	binary.NativeEndian.PutUint32(body[12:], parent)
	msgs, err := nl.Query(rtmGetTFilter, sys.NetlinkDump, body)
	if err != nil && !errors.Is(err, sys.ErrNetlinkInterrupted) {
		*at = tcUnknown
		return fmt.Errorf("tc filters of %s: %w", l.Name, err)
	}
	for _, m := range msgs {
		if m.Type == rtmNewTFilter {
			*at = "filter"
		}
	}
	return nil
}

// readPrograms looks for BPF programs, which no qdisc shows.
func (t *nsTable) readPrograms(l *Link) {
	t.readProgram(l, sys.BPFTCXIngress, "tcx", &l.TCIngress)
	t.readProgram(l, sys.BPFTCXEgress, "tcx", &l.TCEgress)
	if l.Kind == "netkit" {
		// The primary device holds the programs of both directions; the other
		// one refuses the question (EACCES).
		t.readProgram(l, sys.BPFNetkitPrimary, "netkit", &l.TCEgress)
		t.readProgram(l, sys.BPFNetkitPeer, "netkit", &l.TCIngress)
	}
}

func (t *nsTable) readProgram(l *Link, attach int, name string, at *string) {
	n, err := sys.CountDevicePrograms(l.Index, attach)
	switch {
	case err == nil && n > 0:
		*at = name
	case err == nil, *at != "":
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EACCES), sys.Unsupported(err):
		// None there, or no such kind of attachment in this kernel.
	case errors.Is(err, fs.ErrPermission) && !t.mayHaveTCX():
		// The kernel wants CAP_NET_ADMIN before it looks at the question, and
		// has nothing to answer.
	default:
		*at = tcUnknown
	}
}

// mayHaveTCX tells whether the kernel can attach BPF programs to devices other
// than by a qdisc: its type information then has struct tcx_entry. True if that
// cannot be read.
func (t *nsTable) mayHaveTCX() bool {
	if t.tcx == nil {
		t.tcx = new(true)
		if structs, err := readBTFStructs(t.sys, "tcx_entry", "miniq"); err == nil {
			*t.tcx = len(structs["tcx_entry"]) > 0
		}
	}
	return *t.tcx
}

// readBTFStructs looks for a structure with a member in the type information of
// the running kernel.
func readBTFStructs(sysfs fs.FS, name, member string) (map[string][]map[string]bool, error) {
	if sysfs == nil {
		return nil, fs.ErrNotExist
	}
	f, err := sysfs.Open("kernel/btf/vmlinux")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return btfMembers(at, st.Size(), []string{name}, []string{member})
}
