package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// rtnetlink(7); numbers from linux/rtnetlink.h and linux/if_link.h.
const (
	rtmNewLink = 16
	rtmGetLink = 18

	ifInfoSize = 16 // struct ifinfomsg

	iflaAddress       = 1
	iflaIfName        = 3
	iflaMTU           = 4
	iflaLink          = 5
	iflaQdisc         = 6
	iflaMaster        = 10
	iflaOperState     = 16
	iflaLinkInfo      = 18
	iflaExtMask       = 29
	iflaLinkNetNSID   = 37
	iflaGSOMaxSegs    = 40
	iflaGSOMaxSize    = 41
	iflaXDP           = 43
	iflaParentDevName = 56 // Linux 5.14

	iflaInfoKind = 1
	iflaInfoData = 2

	iflaXDPAttached = 2

	rtextFilterSkipStats = 8 // leave the counters out; Linux 4.4
)

// xdpModes names the values of IFLA_XDP_ATTACHED.
var xdpModes = map[uint8]string{0: "", 1: "native", 2: "generic", 3: "offloaded", 4: "multiple"}

// readNetwork reads the devices of the namespace with the given label and what
// ethtool tells about each. What could not be read is in the result: its Error
// if the list is missing or incomplete, a link's FeaturesError otherwise.
func (t *nsTable) readNetwork(ctx context.Context, label string) Network {
	n := Network{ID: label, Links: []Link{}}
	err := t.in(label, func() error {
		nl, err := sys.OpenNetlink(sys.NetlinkRoute)
		if err != nil {
			return err
		}
		defer nl.Close()
		return t.readHere(ctx, nl, &n)
	})
	if err != nil {
		n.Error = err.Error()
	}
	return n
}

// readHere reads the namespace the thread is in.
func (t *nsTable) readHere(ctx context.Context, nl *sys.Netlink, n *Network) error {
	body := make([]byte, ifInfoSize)
	body = sys.AppendNetlinkAttr(body, iflaExtMask, binary.NativeEndian.AppendUint32(nil, rtextFilterSkipStats))
	msgs, err := nl.Query(rtmGetLink, sys.NetlinkDump, body)
	if err != nil && !errors.Is(err, sys.ErrNetlinkInterrupted) {
		return fmt.Errorf("list of devices: %w", err)
	}
	errs := []error{err} // an interrupted list is worth more than none
	raw, err := parseLinks(msgs)
	errs = append(errs, err)
	t.nameParents(nl, raw)
	errs = append(errs, readEthtool(ctx, raw), t.readTC(nl, raw))
	for i := range raw {
		t.findDevice(&raw[i])
		n.Links = append(n.Links, raw[i].Link)
	}
	return errors.Join(errs...)
}

// rawLink is a Link with what is needed to complete it.
type rawLink struct {
	Link
	abroad    bool   // Parent is in another namespace,
	netnsid   int32  // which has this id
	parentDev string // name of the bus device, where the kernel gives it
}

// parseLinks parses the messages of a dump into links in order of index, each
// once. Those that make no sense are left out and are the error.
func parseLinks(msgs []sys.NetlinkMessage) ([]rawLink, error) {
	var links []rawLink
	var errs []error
	for _, m := range msgs {
		if m.Type != rtmNewLink {
			continue
		}
		l, err := parseLink(m.Body)
		if err != nil {
			errs = append(errs, fmt.Errorf("device in RTM_NEWLINK: %w", err))
			continue
		}
		links = append(links, l)
	}
	slices.SortStableFunc(links, func(a, b rawLink) int { return cmp.Compare(a.Index, b.Index) })
	links = slices.CompactFunc(links, func(a, b rawLink) bool { return a.Index == b.Index })
	return links, errors.Join(errs...)
}

// attrs holds the attributes of one level by type. A value too short for the
// way it is read sets err.
type attrs struct {
	values [64][]byte
	err    error
}

func parseAttrs(b []byte) attrs {
	var a attrs
	a.err = sys.EachNetlinkAttr(b, func(typ uint16, v []byte) error {
		if int(typ) < len(a.values) {
			a.values[typ] = v
		}
		return nil
	})
	return a
}

// take returns n bytes of an attribute, nil if it is not there.
func (a *attrs) take(typ, n int) []byte {
	v := a.values[typ]
	if v == nil {
		return nil
	}
	if len(v) < n {
		a.err = cmp.Or(a.err, fmt.Errorf("attribute %d of %d bytes: %w", typ, len(v), io.ErrUnexpectedEOF))
		return nil
	}
	return v[:n]
}

func (a *attrs) has(typ int) bool { return a.values[typ] != nil }

func (a *attrs) u8(typ int) uint8 {
	if v := a.take(typ, 1); v != nil {
		return v[0]
	}
	return 0
}

func (a *attrs) u16(typ int) uint16 {
	if v := a.take(typ, 2); v != nil {
		return binary.NativeEndian.Uint16(v)
	}
	return 0
}

func (a *attrs) be16(typ int) uint16 {
	if v := a.take(typ, 2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (a *attrs) u32(typ int) uint32 {
	if v := a.take(typ, 4); v != nil {
		return binary.NativeEndian.Uint32(v)
	}
	return 0
}

// text returns a string attribute up to its NUL.
func (a *attrs) text(typ int) string {
	s, _, _ := strings.Cut(string(a.values[typ]), "\x00")
	return s
}

func (a *attrs) nested(typ int) attrs {
	n := parseAttrs(a.values[typ])
	if n.err != nil {
		n.err = fmt.Errorf("in attribute %d: %w", typ, n.err)
	}
	return n
}

// parseLink parses an RTM_NEWLINK message.
func parseLink(b []byte) (rawLink, error) {
	if len(b) < ifInfoSize {
		return rawLink{}, fmt.Errorf("%d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	a := parseAttrs(b[ifInfoSize:])
	info := a.nested(iflaLinkInfo)
	data := info.nested(iflaInfoData)
	xdp := a.nested(iflaXDP)
	l := rawLink{Link: Link{
		Index:       int(int32(binary.NativeEndian.Uint32(b[4:]))),
		Name:        a.text(iflaIfName),
		Kind:        info.text(iflaInfoKind),
		ARPHRD:      binary.NativeEndian.Uint16(b[2:]),
		Flags:       binary.NativeEndian.Uint32(b[8:]),
		MTU:         int(a.u32(iflaMTU)),
		State:       a.u8(iflaOperState),
		Master:      int(a.u32(iflaMaster)),
		Parent:      int(a.u32(iflaLink)),
		Qdisc:       a.text(iflaQdisc),
		GSOMaxBytes: a.u32(iflaGSOMaxSize),
		GSOMaxSegs:  a.u32(iflaGSOMaxSegs),
		MAC:         hardwareAddress(a.values[iflaAddress]),
		BondMode:    -1,
	}}
	l.parentDev = a.text(iflaParentDevName)
	if l.abroad = a.has(iflaLinkNetNSID); l.abroad {
		l.netnsid = int32(a.u32(iflaLinkNetNSID))
	}
	mode, known := xdpModes[xdp.u8(iflaXDPAttached)]
	if l.XDP = mode; !known {
		l.XDP = fmt.Sprintf("mode %d", xdp.u8(iflaXDPAttached))
	}
	l.kindData(&data)
	if err := cmp.Or(a.err, info.err, data.err, xdp.err); err != nil {
		return rawLink{}, fmt.Errorf("%q: %w", l.Name, err)
	}
	if l.Name == "" || l.Index <= 0 {
		return rawLink{}, fmt.Errorf("no name or index (%q, %d)", l.Name, l.Index)
	}
	return l, nil
}

// hardwareAddress returns an address of Ethernet or InfiniBand. Tunnels put
// their outer address in its place; that is TunLocal.
func hardwareAddress(b []byte) string {
	if len(b) == net.IPv4len || len(b) == net.IPv6len {
		return ""
	}
	return net.HardwareAddr(b).String()
}

// nameParents fills in where the parents of links are that are not here.
func (t *nsTable) nameParents(nl *sys.Netlink, links []rawLink) {
	if !slices.ContainsFunc(links, func(l rawLink) bool { return l.abroad }) {
		return
	}
	labels := t.nsidLabels(nl)
	for i := range links {
		l := &links[i]
		if !l.abroad {
			continue
		}
		label, ok := labels[int(l.netnsid)]
		switch {
		case !ok:
			l.ParentN = "?"
		case label == "":
			l.ParentN = ownNamespace
		default:
			l.ParentN = label
		}
	}
}

// findDevice tells whether a bus device stands behind the link.
func (t *nsTable) findDevice(l *rawLink) {
	switch behind, known := t.sysfsDevice(l); {
	case l.parentDev != "":
		l.HasDev = true
	case l.Kind != "":
		// Made by rtnetlink. Drivers of such devices put words like "tap"
		// where others put the bus address.
	case known:
		l.HasDev = behind
	default:
		l.HasDev = l.Bus != ""
	}
}

// sysfsDevice asks /sys, which shows the devices of the namespace it was
// mounted in, not of the one the thread is in: known says that it has this
// device, as far as index and address tell.
func (t *nsTable) sysfsDevice(l *rawLink) (behind, known bool) {
	if l.parentDev != "" || l.Kind != "" || t.sys == nil {
		return false, false
	}
	dir := "class/net/" + l.Name
	index, err := fs.ReadFile(t.sys, dir+"/ifindex")
	if err != nil || strings.TrimSpace(string(index)) != strconv.Itoa(l.Index) {
		return false, false
	}
	addr, err := fs.ReadFile(t.sys, dir+"/address")
	if err != nil || strings.TrimSpace(string(addr)) != l.MAC {
		return false, false
	}
	_, err = fs.Stat(t.sys, dir+"/device")
	return err == nil, err == nil || errors.Is(err, fs.ErrNotExist)
}
