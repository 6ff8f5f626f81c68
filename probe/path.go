package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// pathJudge is one path while it is judged.
type pathJudge struct {
	env      pathEnv
	r        pathReader
	q        *PathQuery
	dst      string // address without its zone
	features map[string]Feature
	ways     []way // those of the protocol that is being predicted
	mtu      int   // of the socket
	route    RouteAnswer
	blocked  string // why nothing can be sent at all, or ""
}

// judgePath predicts what becomes of payload sent to the destination o.To. It
// reads the facts alone; what they do not hold is unknown.
func judgePath(f *Facts, o Options) *PathReport {
	r := &PathReport{
		Schema: PathSchema, Destination: o.To,
		Hops: []Hop{}, APIs: []APIReport{}, Evidence: []Evidence{}, Limits: []string{}, Blockers: []PathBlocker{},
	}
	q := findPathQuery(f, o)
	switch {
	case q == nil:
		r.Error = fmt.Sprintf("the record holds no path to %s", o.To)
	case q.Error != "":
		r.Error = q.Error
	case q.Addr == "":
		r.Error = fmt.Sprintf("%s has no address", q.Host)
	}
	if r.Error != "" {
		r.Verdict = Verdict{Status: Unknown, Summary: r.Error}
		return r
	}
	p := newPathJudge(f, q)
	p.report(r)
	return r
}

// findPathQuery returns the query that o asks for. In a record made without
// addresses they are pseudonyms, and so must be what the user asks for.
func findPathQuery(f *Facts, o Options) *PathQuery {
	for i := range f.Paths {
		q := &f.Paths[i]
		if q.From == o.From && (q.Asked == o.To || q.Host == o.To || q.Addr == o.To) {
			return q
		}
	}
	return nil
}

func newPathJudge(f *Facts, q *PathQuery) *pathJudge {
	p := &pathJudge{
		env: pathEnv{
			f: f, v6: isV6(q.Addr),
			forwardCopies: judgeForwardCopies(f),
			headBytes:     judgeUDPHead(f),
		},
		r: newRecordedPath(f), q: q, features: map[string]Feature{},
	}
	p.dst, _, _ = strings.Cut(q.Addr, "%")
	for _, ft := range judgeKernel(f) {
		p.features[ft.ID] = ft
	}
	return p
}

// report follows the path once for each protocol, since rules may route by it,
// and fills in r.
func (p *pathJudge) report(r *PathReport) {
	r.Destination = describeDestination(p.q)
	tcp, udp := newWalker(p.r), newWalker(p.r)
	route := tcp.follow(p.q, protoTCP)
	udpRoute := udp.follow(p.q, protoUDP)
	r.Local = cmp.Or(route.PrefSrc, p.q.From)
	r.Evidence = append(r.Evidence, Evidence{Source: "RTM_GETROUTE " + p.dst, Value: describeRoute(route, tcp)})
	p.blocked = p.unsendable(route)
	tcp.conclude(r)
	udp.conclude(r)
	if !slices.EqualFunc(tcp.ways, udp.ways, func(a, b way) bool { return slices.Equal(a, b) }) {
		r.Limits = append(r.Limits, "UDP takes another way than TCP; the devices shown are those of TCP.")
	}
	r.Hops = p.hops(tcp.ways)
	p.summarize(r, tcp.ways)

	p.take(tcp.ways, route)
	r.MTU = p.mtu
	for _, t := range tcpTransfers(p.env.v6) {
		r.APIs = append(r.APIs, predict(&p.env, t, p))
	}
	p.take(udp.ways, udpRoute)
	for _, t := range udpTransfers(p.env.v6, p.mtu) {
		r.APIs = append(r.APIs, predict(&p.env, t, p))
	}
	p.take(tcp.ways, route)
	r.Evidence = append(r.Evidence, p.evidence(tcp.ways)...)
	r.Limits = append(r.Limits, p.limits(tcp.ways)...)
	r.Blockers = p.blockers(r)
	r.Verdict = p.verdict(r)
}

// take makes the ways of one protocol those that are judged.
func (p *pathJudge) take(ways []way, a RouteAnswer) {
	p.ways, p.route, p.mtu = ways, a, pathMTU(socketMTU(a, ways), ways)
}

// follow asks for the route as a socket would and follows the packet.
func (w *walker) follow(q *PathQuery, proto uint8) RouteAnswer {
	dst, zone, _ := strings.Cut(q.Addr, "%")
	rq := RouteQuery{Dst: dst, Src: q.From, UID: q.UID, HasID: true, Proto: proto, Port: q.Port}
	if zone != "" {
		oif, err := w.zone(zone)
		if err != nil {
			w.unknown(nil, "%v", err)
			return RouteAnswer{Query: rq}
		}
		rq.OIF = oif
	}
	a, err := w.r.route(rq)
	switch {
	case err != nil:
		w.unknown(nil, "%v", err)
		return RouteAnswer{Query: rq}
	case a.Errno != "" || !sendable(a.Type):
		return a
	}
	fl := flight{dst: dst, src: cmp.Or(a.PrefSrc, q.From), v6: isV6(dst)}
	w.out(a, fl, nil)
	if a.Type == routeUnicast {
		w.otherHops(a, fl)
	}
	return a
}

// otherHops follows the packets of other connections to the same destination,
// where the route has several next hops.
func (w *walker) otherHops(a RouteAnswer, fl flight) {
	q := a.Query
	q.Match = true
	m, err := w.r.route(q)
	if err != nil || m.Errno != "" || len(m.NextHops) < 2 {
		return
	}
	w.note("the route has %d next hops and each connection takes one of them: all are judged", len(m.NextHops))
	for _, h := range m.NextHops {
		if h.OIF == a.OIF && h.Gateway == a.Gateway {
			continue
		}
		b := a
		b.OIF, b.Gateway, b.Encap = h.OIF, h.Gateway, h.Encap
		w.out(b, fl, nil)
	}
}

// zone returns the device that the zone of a link-local address names, by its
// name or index.
func (w *walker) zone(zone string) (int, error) {
	links := w.all("")
	for i := range links {
		if links[i].Name == zone || fmt.Sprint(links[i].Index) == zone {
			return links[i].Index, nil
		}
	}
	return 0, fmt.Errorf("there is no device %s", zone)
}

func sendable(routeType string) bool {
	return slices.Contains([]string{routeUnicast, routeLocal, routeBroadcast, routeAnycast, routeMulticast}, routeType)
}

// unsendable says why nothing can be sent to the destination, or "".
func (p *pathJudge) unsendable(a RouteAnswer) string {
	switch {
	case a.Errno != "":
		return fmt.Sprintf("no route to %s (%s)", p.dst, a.Errno)
	case p.q.IPsecTCP == ipsecBlock && p.q.IPsecUDP == ipsecBlock:
		return fmt.Sprintf("no way to %s: an IPsec policy throws packets away", p.dst)
	case a.Type != "" && !sendable(a.Type):
		return fmt.Sprintf("no route to %s (%s)", p.dst, a.Type)
	}
	return ""
}

// noWay explains the row of a transfer that has no way to go.
func (p *pathJudge) noWay() string {
	if p.blocked != "" {
		return "There is " + p.blocked + "."
	}
	return "The way of the packets is not known."
}

// conclude moves what a walk could not see into the report.
func (w *walker) conclude(r *PathReport) {
	for _, n := range w.notes {
		if s := sentence(n); !slices.Contains(r.Limits, s) {
			r.Limits = append(r.Limits, s)
		}
	}
	if w.full {
		if s := "The path branches too often to follow all of it."; !slices.Contains(r.Limits, s) {
			r.Limits = append(r.Limits, s)
		}
	}
}

// sentence makes a sentence of a clause.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	switch first, _, _ := strings.Cut(s, " "); first {
	case "a", "an", "no", "the", "there", "this", "what", "whether":
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s + "." // anything else may be the name of a device, and stays as it is
}

func describeDestination(q *PathQuery) string {
	s := q.Asked
	if q.Addr != q.Host {
		s += " (" + q.Addr + ")"
	}
	if n := len(q.Addrs); n > 1 {
		s += fmt.Sprintf(", one of %d addresses", n)
	}
	return s
}

func describeRoute(a RouteAnswer, w *walker) string {
	if a.Errno != "" {
		return a.Errno
	}
	if a.Type == "" {
		return "no answer"
	}
	s := a.Type
	if a.Gateway != "" {
		s += " via " + a.Gateway
	}
	if l, err := w.link(a.Query.Net, a.OIF); err == nil {
		s += " dev " + l.Name
	}
	if a.PrefSrc != "" {
		s += " src " + a.PrefSrc
	}
	if a.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", a.MTU)
	}
	if a.Encap != "" {
		s += " encap " + a.Encap
	}
	return s
}

// socketMTU is the MTU that a socket begins with: the route's, or that of its
// device. It is 0 if no device is known.
func socketMTU(a RouteAnswer, ways []way) int {
	mtu := 0
	for _, w := range ways {
		if len(w) > 0 && w[0].kind == legSend {
			mtu = max(w[0].link.MTU, 0)
			break
		}
	}
	if a.MTU > 0 && (mtu == 0 || a.MTU < mtu) {
		mtu = a.MTU
	}
	return mtu
}

// pathMTU is the size of the largest packet that goes all the way in one: that
// of the socket, or less where tunnels add headers and the devices below are no
// larger. The kernel learns it with the first packet that is too large, and
// then the socket works with it.
func pathMTU(socket int, ways []way) int {
	least := socket
	for _, w := range ways {
		added := 0
		for i, g := range w {
			switch g.kind {
			case legTunnel:
				added += tunnelKinds[g.link.Kind].inner + 20
				if i+1 < len(w) && w[i+1].v6 {
					added += 20
				}
			case legSend:
				if m := g.link.MTU - added; g.link.MTU > 0 && m < least {
					least = m
				}
			}
		}
	}
	return max(least, min(socket, minMTU))
}

// minMTU is the smallest MTU of IPv4 (RFC 791).
const minMTU = 68

// hops lists the devices that transmit, each once, in the order in which
// packets meet them.
func (p *pathJudge) hops(ways []way) []Hop {
	hops := []Hop{}
	type key struct {
		net   string
		index int
	}
	seen := map[key]bool{}
	for _, w := range ways {
		for i := range w {
			g := &w[i]
			if g.kind != legSend || seen[key{g.net, g.link.Index}] {
				continue
			}
			seen[key{g.net, g.link.Index}] = true
			hops = append(hops, p.hop(w, i))
		}
	}
	return hops
}

func (p *pathJudge) hop(w way, i int) Hop {
	g := &w[i]
	l := g.link
	h := Hop{
		Device: l.Name, NetNS: g.net, Kind: linkKind(l), Driver: l.Driver, MTU: l.MTU,
		ScatterGather: feature(l, featSG), TxChecksum: txChecksum(l, g.v6),
		TSO: feature(l, tsoName(g.v6)), USO: feature(l, featUSO),
		Detail: p.hopDetail(w, i),
	}
	if g.encap != "" {
		h.TxChecksum = encapChecksum(g)
	}
	return h
}

// summarize fills in what the path as a whole can do.
func (p *pathJudge) summarize(r *PathReport, ways []way) {
	if len(ways) == 0 {
		return
	}
	r.ScatterGather, r.TxChecksum, r.TSO, r.USO = new(true), new(true), new(true), new(true)
	for _, h := range r.Hops {
		r.ScatterGather = both(r.ScatterGather, h.ScatterGather)
		r.TxChecksum = both(r.TxChecksum, h.TxChecksum)
		r.TSO = both(r.TSO, h.TSO)
		r.USO = both(r.USO, h.USO)
	}
	for _, w := range ways {
		if len(w) > 0 && w[len(w)-1].kind == legUnknown {
			r.ScatterGather = both(r.ScatterGather, nil)
			r.TxChecksum = both(r.TxChecksum, nil)
			r.TSO = both(r.TSO, nil)
			r.USO = both(r.USO, nil)
		}
	}
}

// supported says whether the calls of a transfer work here at all, from the
// functional tests; the reason is one sentence where they do not or might not.
func (p *pathJudge) supported(t transfer, v6 bool) (*bool, string) {
	if p.blocked != "" {
		return new(false), "There is " + p.blocked + "."
	}
	if t.proto == "tcp" && (p.route.Type == routeBroadcast || p.route.Type == routeMulticast) {
		return new(false), fmt.Sprintf("TCP cannot connect to a %s address.", p.route.Type)
	}
	if policy := map[string]string{"tcp": p.q.IPsecTCP, "udp": p.q.IPsecUDP}[t.proto]; policy == ipsecBlock {
		return new(false), "An IPsec policy throws the packets away."
	} else if policy == ipsecApplies && t.segments {
		return new(false), "The kernel refuses UDP_SEGMENT where IPsec applies (EIO)."
	}
	answer, reason := new(true), ""
	for _, id := range t.features {
		ft, ok := p.features[id]
		switch {
		case !ok:
			answer, reason = nil, fmt.Sprintf("Whether %s works here was not tested.", id)
		case ft.Status == Supported:
		case ft.Status == UnknownFeature || ft.Status == SkippedFeature:
			answer, reason = nil, ft.Detail
		default:
			return new(false), ft.Detail
		}
	}
	return answer, reason
}
