package probe

import (
	"errors"
	"fmt"
	"slices"
)

// A way is one sequence of devices and network stacks that a packet to the
// destination passes on this machine. A path has several where a bond or bridge
// may send by any of its ports.
type way []leg

// legKind is what happens to a packet on one leg of a way.
type legKind uint8

const (
	legSend    legKind = iota // a device validates the packet and transmits it
	legReceive                // a device of this machine receives it
	legForward                // an IP stack of this machine forwards it
	legTunnel                 // it is put into another packet
	legCrypt                  // the CPU encrypts it into memory of the kernel's own

	// A way ends with one of these.
	legDeliver // a socket of this machine may get it
	legRead    // a program reads it from tun or tap
	legLeave   // it leaves this machine
	legDrop    // a device swallows it, as dummy does
	legUnknown // cannot be told; why says it
)

// leg is one part of a way.
type leg struct {
	kind  legKind
	net   string
	link  *Link  // of legSend, legReceive, legTunnel, legCrypt, legRead, legLeave, legDrop; else nil
	dst   string // of legSend: the outermost IP destination
	v6    bool   // the outermost IP header is IPv6
	encap string // of legSend: the kind of tunnel the packet is in, or ""
	cause string // of legCrypt: the catalogue id
	why   string // of legUnknown: one sentence; else a remark or ""
}

// flight is a packet on its way.
type flight struct {
	net   string
	dst   string // outermost IP destination
	src   string // outermost IP source, "" if not known
	v6    bool
	encap string // kind of the tunnel it is in

	// The neighbour it is sent to: its address, and where to ask for its MAC.
	hop    string
	hopNet string
	hopDev int
}

// Bounds on what is followed. Facts may come from strangers and form circles
// or trees without end; a real path has a dozen legs.
const (
	maxLegs  = 48   // of one way
	maxWays  = 256  // ports of a bridge, multiplied where bridges follow each other
	maxTotal = 2048 // legs of all ways together, dead ends included
)

// walker follows packets through the devices of a machine.
type walker struct {
	r     pathReader
	ways  []way
	total int
	full  bool
	notes []string // where the view ends or an assumption was made
	links map[string]map[int]*Link
}

func newWalker(r pathReader) *walker {
	return &walker{r: r, links: map[string]map[int]*Link{}}
}

// note keeps a sentence once.
func (w *walker) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(w.notes, s) {
		w.notes = append(w.notes, s)
	}
}

// grow returns trail with one leg more, never sharing memory with another way.
func (w *walker) grow(trail way, l leg) way {
	w.total++
	return append(slices.Clip(trail), l)
}

func (w *walker) end(trail way, l leg) {
	if len(w.ways) >= maxWays {
		w.full = true
		return
	}
	w.ways = append(w.ways, w.grow(trail, l))
}

func (w *walker) unknown(trail way, format string, args ...any) {
	w.end(trail, leg{kind: legUnknown, why: fmt.Sprintf(format, args...)})
}

// exhausted ends the way if following it further would take too long.
func (w *walker) exhausted(trail way) bool {
	if len(trail) < maxLegs && w.total < maxTotal && len(w.ways) < maxWays {
		return false
	}
	w.full = true
	w.unknown(trail, "the path has more devices than can be followed")
	return true
}

// link returns a device by its index in a namespace.
func (w *walker) link(net string, index int) (*Link, error) {
	byIndex, ok := w.links[net]
	if !ok {
		n, err := w.r.network(net)
		if err != nil {
			return nil, err
		}
		byIndex = make(map[int]*Link, len(n.Links))
		for i := range n.Links {
			if l := &n.Links[i]; byIndex[l.Index] == nil {
				byIndex[l.Index] = l
			}
		}
		w.links[net] = byIndex
	}
	if l := byIndex[index]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("no device with index %d in %s", index, netName(net))
}

// all returns the devices of a namespace in order of their index.
func (w *walker) all(net string) []Link {
	n, err := w.r.network(net)
	if err != nil {
		return nil
	}
	return n.Links
}

// parent returns the device that l.Parent names: the device below a stacked
// one, or the peer of a veth.
func (w *walker) parent(net string, l *Link) (string, *Link, error) {
	pnet, err := parentNet(net, l)
	if err != nil {
		return "", nil, err
	}
	if l.Parent == 0 {
		return "", nil, errors.New("the kernel does not name it")
	}
	p, err := w.link(pnet, l.Parent)
	return pnet, p, err
}

// ownNamespace names the probed namespace in a Link of another one, where ""
// is the link's own.
const ownNamespace = "ns0"

// parentNet returns the Network.ID of the namespace that l.Parent is in.
func parentNet(net string, l *Link) (string, error) {
	switch l.ParentN {
	case "":
		return net, nil
	case ownNamespace:
		return "", nil
	case "?":
		return "", errors.New("it is in a network namespace that cannot be looked into")
	}
	return l.ParentN, nil
}

// ports returns the devices that have l as their master: the ports of a bond,
// team, bridge or VRF.
func (w *walker) ports(net string, l *Link) []*Link {
	var ports []*Link
	links := w.all(net)
	for i := range links {
		if p := &links[i]; p.Master == l.Index && p.Index != l.Index {
			ports = append(ports, p)
		}
	}
	return ports
}

// owns reports whether an IP stack takes packets to addr for its own.
func (w *walker) owns(net, addr string) bool {
	a, err := w.r.route(RouteQuery{Net: net, Dst: addr})
	return err == nil && a.Errno == "" && a.Type == routeLocal
}

// Route types as RouteAnswer.Type has them; rtnetlink(7).
const (
	routeUnicast   = "unicast"
	routeLocal     = "local"
	routeBroadcast = "broadcast"
	routeAnycast   = "anycast"
	routeMulticast = "multicast"
)

// out follows a packet that a namespace's IP stack sends by the route a.
func (w *walker) out(a RouteAnswer, fl flight, trail way) {
	net := a.Query.Net
	fl.net = net
	if a.Type == routeLocal || a.Type == routeAnycast {
		w.loop(a, fl, trail)
		return
	}
	l, err := w.link(net, a.OIF)
	if err != nil {
		w.unknown(trail, "the route's device cannot be looked at: %v", err)
		return
	}
	if a.Encap != "" {
		w.unknown(trail, "the route encapsulates packets (%s), which hides what the device can do for them", a.Encap)
		return
	}
	fl.hop, fl.hopNet, fl.hopDev = fl.dst, net, a.OIF
	if a.Gateway != "" {
		fl.hop = a.Gateway
	}
	w.send(fl, l, trail)
}

// loop follows a packet to an address of the namespace's own: it goes through
// lo, or the VRF device whose table the address is in.
func (w *walker) loop(a RouteAnswer, fl flight, trail way) {
	lo, err := w.link(fl.net, a.OIF)
	if err != nil || (lo.ARPHRD != arphrdLoopback && lo.Kind != "vrf") {
		lo = nil
		links := w.all(fl.net)
		for i := range links {
			if links[i].ARPHRD == arphrdLoopback {
				lo = &links[i]
				break
			}
		}
	}
	if lo == nil {
		w.unknown(trail, "the destination is an address of this machine, but no loopback device was found")
		return
	}
	trail = w.grow(trail, leg{kind: legSend, net: fl.net, link: lo, dst: fl.dst, v6: fl.v6, encap: fl.encap})
	trail = w.grow(trail, leg{kind: legReceive, net: fl.net, link: lo})
	w.end(trail, leg{kind: legDeliver, net: fl.net})
}

// arphrdLoopback is ARPHRD_LOOPBACK of linux/if_arp.h.
const arphrdLoopback = 772

// iffUp is IFF_UP of linux/if.h.
const iffUp = 1

// receive follows a packet that device l of namespace fl.net receives.
func (w *walker) receive(fl flight, l *Link, trail way) {
	if w.exhausted(trail) {
		return
	}
	trail = w.grow(trail, leg{kind: legReceive, net: fl.net, link: l})
	if l.Flags&iffUp == 0 {
		w.unknown(trail, "%s in %s, which would receive it, is down", l.Name, netName(fl.net))
		return
	}
	if what := tcWords(l.TCIngress); what != "" && (l.TCIngress != tcUnknown || l.ARPHRD != arphrdLoopback) {
		w.unknown(trail, "%s on %s in %s decides where the packet goes, and may drop or copy it", what, l.Name, netName(fl.net))
		return
	}
	if l.Master == 0 {
		w.arrive(fl, l, trail)
		return
	}
	m, err := w.link(fl.net, l.Master)
	if err != nil {
		w.unknown(trail, "what %s belongs to cannot be looked at: %v", l.Name, err)
		return
	}
	if revisits(trail, legReceive, fl.net, m, fl.dst) {
		w.unknown(trail, "the path runs in a circle over %s", m.Name)
		return
	}
	switch m.Kind {
	case "bridge":
		w.bridge(fl, m, l, trail)
	case "bond", "team":
		w.receive(fl, m, trail)
	case "vrf":
		w.arrive(fl, l, trail)
	default:
		w.unknown(trail, "%s hands packets to %s (%s), which decides where they go", l.Name, m.Name, linkKind(m))
	}
}

// arrive follows a packet that device l hands to its namespace's IP stack, or
// to a macvlan or ipvlan on top of l in the same namespace.
func (w *walker) arrive(fl flight, l *Link, trail way) {
	links := w.all(fl.net)
	for i := range links {
		c := &links[i]
		if !isMacvlan(c) || c.Parent != l.Index || c.ParentN != "" || c.Index == l.Index {
			continue
		}
		if mac := w.mac(fl); mac != "" && mac == c.MAC && mac != l.MAC {
			w.receive(fl, c, trail)
			return
		}
	}
	a, err := w.r.route(RouteQuery{Net: fl.net, Dst: fl.dst, Src: fl.src, IIF: l.Index})
	switch {
	case err != nil:
		w.unknown(trail, "what %s does with the packet cannot be told: %v", netName(fl.net), err)
	case a.Errno != "":
		w.unknown(trail, "%s does not take packets to %s that come in on %s (%s)", netName(fl.net), fl.dst, l.Name, a.Errno)
	case a.Type == routeLocal, a.Type == routeBroadcast, a.Type == routeAnycast:
		w.end(trail, leg{kind: legDeliver, net: fl.net})
	case a.Type != routeUnicast:
		w.unknown(trail, "%s has a route of type %s to %s", netName(fl.net), a.Type, fl.dst)
	case a.Forwarding != nil && !*a.Forwarding:
		w.unknown(trail, "%s does not own %s and does not forward", netName(fl.net), fl.dst)
	default:
		w.out(a, fl, w.grow(trail, leg{kind: legForward, net: fl.net, v6: fl.v6}))
	}
}

// mac returns the link-layer address of the next hop, or "" if the kernel does
// not know it.
func (w *walker) mac(fl flight) string {
	a, err := w.r.neighbour(NeighbourQuery{Net: fl.hopNet, Dev: fl.hopDev, Addr: fl.hop})
	if err != nil || a.Errno != "" {
		return ""
	}
	return a.MAC
}

// revisits reports whether the packet already passed l on its way to dst.
func revisits(trail way, kind legKind, net string, l *Link, dst string) bool {
	return slices.ContainsFunc(trail, func(g leg) bool {
		return g.kind == kind && g.net == net && g.link != nil && g.link.Index == l.Index && (kind != legSend || g.dst == dst)
	})
}
