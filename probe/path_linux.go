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
	"time"
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
	tests := []Outcome{tryUDPHead()}
	tcp, udp := newWalker(r), newWalker(r)
	ipsec := readIPsec(s, tcp.follow(&q, protoTCP), udp.follow(&q, protoUDP))
	q.IPsecTCP, q.IPsecUDP = ipsec[0], ipsec[1]
	f.Paths = append(f.Paths, q)
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
