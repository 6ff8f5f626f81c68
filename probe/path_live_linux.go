package probe

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// livePath answers from the kernel and keeps every answer in the facts.
type livePath struct {
	*recordedPath
	ctx context.Context //nolint:containedctx // lives for one call of collectPath
	ns  *nsTable
}

func newLivePath(ctx context.Context, ns *nsTable, f *Facts) *livePath {
	return &livePath{recordedPath: newRecordedPath(f), ctx: ctx, ns: ns}
}

func (r *livePath) network(id string) (*Network, error) {
	if r.networks[id] == nil {
		n := r.ns.readNetwork(r.ctx, id)
		r.f.Networks = append(r.f.Networks, n)
		r.networks[id] = &n
	}
	return r.recordedPath.network(id)
}

func (r *livePath) namespaces() []string {
	var ids []string
	for _, e := range r.ns.list() {
		ids = append(ids, e.label)
	}
	return ids
}

func (r *livePath) route(q RouteQuery) (RouteAnswer, error) {
	if r.routes[q] == nil {
		a := RouteAnswer{Query: q}
		if err := r.askRoute(&a); err != nil {
			a.Errno = cmp.Or(sys.ErrnoName(err), err.Error())
		}
		r.f.Routes = append(r.f.Routes, a)
		r.routes[q] = &a
	}
	return r.recordedPath.route(q)
}

// askRoute asks the kernel for the route of a's query.
func (r *livePath) askRoute(a *RouteAnswer) error {
	q := a.Query
	req := sys.RouteRequest{OIF: q.OIF, IIF: q.IIF, Mark: q.Mark, Proto: q.Proto, Port: q.Port, Match: q.Match}
	var err error
	if req.Dst, err = netip.ParseAddr(q.Dst); err != nil {
		return err
	}
	if q.Src != "" {
		if req.Src, err = netip.ParseAddr(q.Src); err != nil {
			return err
		}
	}
	if q.HasID {
		req.UID = &q.UID
	}
	return r.ask(q.Net, func(nl *sys.Netlink) error {
		route, err := sys.GetRoute(nl, req)
		if err != nil {
			return err
		}
		a.Type, a.OIF, a.MTU = routeTypeName(route.Type), route.OIF, route.MTU
		a.Gateway, a.PrefSrc, a.Encap = addrText(route.Gateway), addrText(route.PrefSrc), encapName(route.Encap)
		for _, h := range route.NextHops {
			a.NextHops = append(a.NextHops, NextHop{OIF: h.OIF, Gateway: addrText(h.Gateway), Encap: encapName(h.Encap)})
		}
		if q.IIF != 0 {
			a.Forwarding = readForwarding(req.Dst)
		}
		return nil
	})
}

// ask runs fn with an rtnetlink socket of a namespace.
func (r *livePath) ask(net string, fn func(*sys.Netlink) error) error {
	return r.ns.in(net, func() error {
		nl, err := sys.OpenNetlink(sys.NetlinkRoute)
		if err != nil {
			return err
		}
		defer nl.Close()
		return fn(nl)
	})
}

func (r *livePath) neighbour(q NeighbourQuery) (NeighbourAnswer, error) {
	if r.neighbours[q] == nil {
		a := NeighbourAnswer{Query: q}
		if err := r.askNeighbour(&a); err != nil {
			a.Errno = cmp.Or(sys.ErrnoName(err), err.Error())
		}
		r.f.Neighbours = append(r.f.Neighbours, a)
		r.neighbours[q] = &a
	}
	return r.recordedPath.neighbour(q)
}

func (r *livePath) askNeighbour(a *NeighbourAnswer) error {
	q := a.Query
	var dev *Link
	if n, err := r.network(q.Net); err == nil {
		if i := slices.IndexFunc(n.Links, func(l Link) bool { return l.Index == q.Dev }); i >= 0 {
			dev = &n.Links[i]
		}
	}
	var get func(*sys.Netlink) (sys.Neighbour, error)
	if q.MAC != "" {
		mac, err := net.ParseMAC(q.MAC)
		if err != nil {
			return err
		}
		get = func(nl *sys.Netlink) (sys.Neighbour, error) {
			if dev != nil && dev.Kind == "vxlan" {
				return sys.GetVXLANEnd(nl, q.Dev, mac)
			}
			return sys.GetBridgePort(nl, q.Dev, mac)
		}
	} else {
		addr, err := netip.ParseAddr(q.Addr)
		if err != nil {
			return err
		}
		get = func(nl *sys.Netlink) (sys.Neighbour, error) { return sys.GetNeighbour(nl, q.Dev, addr) }
	}
	return r.ask(q.Net, func(nl *sys.Netlink) error {
		n, err := get(nl)
		if err != nil {
			return err
		}
		a.MAC, a.Dst = n.MAC.String(), addrText(n.Dst)
		if q.MAC != "" {
			a.Port = n.Port
		}
		return nil
	})
}

// readForwarding tells whether the namespace the thread is in forwards packets
// of an address family, nil if that cannot be read.
func readForwarding(dst netip.Addr) *bool {
	name := "/proc/sys/net/ipv4/ip_forward"
	if dst.Is6() {
		name = "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	b, err := os.ReadFile(name) // shows the namespace of the thread that opens it
	if err != nil {
		return nil
	}
	return new(strings.TrimSpace(string(b)) != "0")
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// routeTypeName names RTN_* of linux/rtnetlink.h.
func routeTypeName(t uint8) string {
	switch t {
	case sys.RouteUnicast:
		return routeUnicast
	case sys.RouteLocal:
		return routeLocal
	case sys.RouteBroadcast:
		return routeBroadcast
	case sys.RouteAnycast:
		return routeAnycast
	case sys.RouteMulticast:
		return routeMulticast
	case sys.RouteBlackhole:
		return "blackhole"
	case sys.RouteUnreachable:
		return "unreachable"
	case sys.RouteProhibit:
		return "prohibit"
	case sys.RouteThrow:
		return "throw"
	}
	return fmt.Sprintf("type %d", t)
}

// encapName names LWTUNNEL_ENCAP_* of linux/lwtunnel.h as ip-route(8) does.
func encapName(e uint16) string {
	names := []string{"", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("type %d", e)
}
