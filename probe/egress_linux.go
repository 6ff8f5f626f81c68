package probe

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// readEgress counts the unicast routes out of every device of the thread's
// network namespace.
func readEgress() (Egress, error) {
	e := Egress{Devices: []EgressDevice{}}
	nl, err := sys.OpenNetlink(sys.NetlinkRoute)
	if err != nil {
		return e, fmt.Errorf("list of routes: %w", err)
	}
	defer nl.Close()
	counts := map[int]*EgressDevice{}
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		if err := countRoutes(nl, family, counts); err != nil {
			return e, fmt.Errorf("list of routes: %w", err)
		}
	}
	for _, c := range counts {
		e.Devices = append(e.Devices, *c)
	}
	slices.SortFunc(e.Devices, func(a, b EgressDevice) int { return cmp.Compare(a.Index, b.Index) })
	return e, nil
}

func countRoutes(nl *sys.Netlink, family byte, counts map[int]*EgressDevice) error {
	body := make([]byte, syscall.SizeofRtMsg)
	body[0] = family
	msgs, err := nl.Query(syscall.RTM_GETROUTE, sys.NetlinkDump, body)
	// A list that changed while it was read still names the devices.
	if err != nil && !errors.Is(err, sys.ErrNetlinkInterrupted) {
		return err
	}
	for _, m := range msgs {
		if m.Type != syscall.RTM_NEWROUTE {
			continue
		}
		devs, err := routeDevices(m.Body)
		if err != nil {
			return err
		}
		for _, i := range devs {
			if counts[i] == nil {
				counts[i] = &EgressDevice{Index: i}
			}
			// A kernel without IPv6 answers a dump of its routes with those
			// of every family it has.
			switch m.Body[0] {
			case syscall.AF_INET:
				if family == syscall.AF_INET {
					counts[i].IPv4++
				}
			case syscall.AF_INET6:
				counts[i].IPv6++
			}
		}
	}
	return nil
}

// routeDevices returns the devices that the route in an RTM_NEWROUTE sends
// packets out of, none unless it is a unicast route that leaves the link.
func routeDevices(b []byte) ([]int, error) {
	if len(b) < syscall.SizeofRtMsg {
		return nil, fmt.Errorf("route of %d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
	family, typ, flags := b[0], b[7], binary.NativeEndian.Uint32(b[8:])
	if typ != syscall.RTN_UNICAST || flags&syscall.RTM_F_CLONED != 0 {
		return nil, nil
	}
	var devs []int
	linkLocal := false
	err := sys.EachNetlinkAttr(b[syscall.SizeofRtMsg:], func(typ uint16, v []byte) error {
		switch typ {
		case syscall.RTA_DST:
			// fe80::/10, and ff00::/8, which kernels before 5.6 list as
			// unicast: every device that is up has them.
			linkLocal = family == syscall.AF_INET6 && len(v) >= 2 &&
				(v[0] == 0xff || v[0] == 0xfe && v[1]&0xc0 == 0x80)
		case syscall.RTA_OIF:
			if len(v) < 4 {
				return fmt.Errorf("route: device index of %d bytes: %w", len(v), io.ErrUnexpectedEOF)
			}
			devs = append(devs, int(int32(binary.NativeEndian.Uint32(v))))
		case syscall.RTA_MULTIPATH:
			hops, err := nextHopDevices(v)
			devs = append(devs, hops...)
			return err
		}
		return nil
	})
	if linkLocal {
		devs = nil
	}
	return devs, err
}

// nextHopDevices reads the list of struct rtnexthop in an RTA_MULTIPATH.
func nextHopDevices(b []byte) ([]int, error) {
	var devs []int
	for len(b) > 0 {
		if len(b) < syscall.SizeofRtNexthop {
			return nil, fmt.Errorf("next hop: %d bytes left: %w", len(b), io.ErrUnexpectedEOF)
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < syscall.SizeofRtNexthop || n > len(b) {
			return nil, fmt.Errorf("next hop: length %d of %d: %w", n, len(b), io.ErrUnexpectedEOF)
		}
		devs = append(devs, int(int32(binary.NativeEndian.Uint32(b[4:]))))
		b = b[min((n+3)&^3, len(b)):]
	}
	return devs, nil
}
