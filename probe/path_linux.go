package probe

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// lookupTimeout bounds the resolution of the destination's name: resolv.conf(5)
// allows two servers five seconds and two attempts each, which nobody waits for.
const lookupTimeout = 5 * time.Second

// collectPath finds the address of o.To and follows the path there, so that the
// facts hold every answer that judgePath will ask them for. Nothing is sent to
// the destination; a name is looked up.
func collectPath(ctx context.Context, s *sources, ns *nsTable, f *Facts, o Options) {
	q := PathQuery{Asked: o.To, From: o.From, UID: pathUID(f, o), NFQueues: countNFQueues(s)}
	r := newLivePath(ctx, ns, f)
	if err := findDestination(ctx, s.names, r, &q); err != nil {
		q.Error = err.Error()
		f.Paths = append(f.Paths, q)
		return
	}
	f.Paths = append(f.Paths, q)
	tests := []Outcome{tryUDPHead()}
	tcp, udp := newWalker(r), newWalker(r)
	tcp.follow(&q, protoTCP)
	udp.follow(&q, protoUDP)
	forwards := func(w way) bool {
		return slices.ContainsFunc(w, func(g leg) bool { return g.kind == legForward })
	}
	if slices.ContainsFunc(tcp.ways, forwards) || slices.ContainsFunc(udp.ways, forwards) {
		tests = append(tests, tryForward())
	}
	for _, t := range tests {
		f.Outcomes = slices.DeleteFunc(f.Outcomes, func(o Outcome) bool { return o.ID == t.ID })
		f.Outcomes = append(f.Outcomes, t)
	}
	slices.SortStableFunc(f.Outcomes, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject))
	})
}

// pathUID is the user whose sockets send: that of the process or service that
// was named, else our own.
func pathUID(f *Facts, o Options) uint32 {
	switch {
	case o.ServiceUID != nil:
		return *o.ServiceUID
	case f.Limits.PID != 0:
		return f.Limits.UID
	}
	return f.Host.UID
}

// countNFQueues returns how many netfilter queues a program listens on, nil if
// that cannot be read. The kernel shows the file to root alone.
func countNFQueues(s *sources) *int {
	file, err := s.proc.Open("thread-self/net/netfilter/nfnetlink_queue")
	if errors.Is(err, fs.ErrNotExist) {
		return new(0) // the module that makes queues is not there
	}
	if err != nil {
		return nil
	}
	defer file.Close()
	n := 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		n++
	}
	if lines.Err() != nil {
		return nil
	}
	return &n
}

// findDestination fills in the host, port and address of q. Of several
// addresses it takes the first that has a route, as a dialler would; the first
// of all if none has.
func findDestination(ctx context.Context, names resolver, r pathReader, q *PathQuery) error {
	d, err := parseDestination(q.Asked)
	if err != nil {
		return err
	}
	q.Host, q.Port = d.host, d.port
	var from netip.Addr
	if q.From != "" {
		if from, err = netip.ParseAddr(q.From); err != nil {
			return fmt.Errorf("source address %q: not an IP address", q.From)
		}
		from = from.Unmap()
		q.From = from.String()
	}
	addrs := []netip.Addr{d.addr.Unmap()}
	if !d.addr.IsValid() {
		if addrs, err = lookUp(ctx, names, d.host); err != nil {
			return err
		}
	}
	if from.IsValid() {
		addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.Is4() != from.Is4() })
	}
	if len(addrs) == 0 {
		return fmt.Errorf("%s has no address of the family of %s", d.host, from)
	}
	q.Addr = addrs[0].String()
	if !d.addr.IsValid() {
		for _, a := range addrs {
			q.Addrs = append(q.Addrs, a.String())
		}
	}
	if len(addrs) == 1 {
		return nil
	}
	for _, a := range addrs {
		ans, err := r.route(RouteQuery{
			Dst: a.WithZone("").String(), Src: q.From, UID: q.UID, HasID: true, Proto: protoTCP, Port: q.Port,
		})
		if err == nil && ans.Errno == "" && sendable(ans.Type) {
			q.Addr = a.String()
			break
		}
	}
	return nil
}

// lookUp resolves a host name. The resolver has the addresses in the order of
// RFC 6724.
func lookUp(ctx context.Context, names resolver, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := names.LookupNetIP(ctx, "ip", host)
	if err != nil {
		if bad, ok := errors.AsType[*net.DNSError](err); ok {
			return nil, fmt.Errorf("look up %s: %s", host, bad.Err)
		}
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return slices.Compact(addrs), nil
}

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
	b, err := readSysctl(name)
	if err != nil {
		return nil
	}
	return new(strings.TrimSpace(b) != "0")
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
