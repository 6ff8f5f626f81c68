package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
)

// An end is an address of each family, with the length of its network. They are of
// 198.18.0.0/15 and 2001:2::/48, which are set aside for benchmarks (RFC 2544, RFC
// 5180). The sink has 198.18.0.0/24 and 2001:2::/64.
type end struct{ v4, v6 string }

// nearEnd is of the sender.
func nearEnd() end { return end{"198.18.1.1/24", "2001:2:0:1::1/64"} }

// farEnd is of the peer, or of the router.
func farEnd() end { return end{"198.18.1.2/24", "2001:2:0:1::2/64"} }

// routerEnd is of the router, toward the peer.
func routerEnd() end { return end{"198.18.2.1/24", "2001:2:0:2::1/64"} }

// routedEnd is of the peer behind the router.
func routedEnd() end { return end{"198.18.2.2/24", "2001:2:0:2::2/64"} }

// macvlanEnd is of a macvlan, and macvlanPeer of whom it sends to.
func macvlanEnd() end  { return end{"198.18.3.1/24", "2001:2:0:3::1/64"} }
func macvlanPeer() end { return end{"198.18.3.2/24", "2001:2:0:3::2/64"} }

func selfEnd() end { return end{"127.0.0.1/8", "::1/128"} }

// addrs are the addresses alone.
func (e end) addrs() target {
	return target{netip.MustParsePrefix(e.v4).Addr(), netip.MustParsePrefix(e.v6).Addr()}
}

// Indices of devices. Those of a pair differ, and are not those that the kernel
// would give; see lab's wire.
const (
	indexNear = 20
	indexFar  = 21
	indexMore = 22
	indexEnd  = 23
	indexTop  = 24
)

const mtu = 1500

func mac(index int) [6]byte { return [6]byte{0x02, 0, 0, 0, 1, byte(index)} }

// indexOf is of the namespace of the thread.
func indexOf(device string) (int, error) {
	d, err := net.InterfaceByName(device)
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", device, err)
	}
	return d.Index, nil
}

func (Wire) do(p *place) error {
	s, err := lab.NewSink(lab.Options{})
	if err != nil {
		return err
	}
	p.later(s.Close)
	p.sink, p.count = s, sinkCount{s}
	p.to = target{s.Addr4(), s.Addr6()}
	p.doors[AtSender] = s
	return nil
}

func (Loopback) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.doors[AtPeer] = r
	return p.read(r, selfEnd())
}

func (OwnAddress) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.doors[AtPeer] = r
	if err := r.swallower(nearEnd()); err != nil {
		return err
	}
	return p.read(r, nearEnd())
}

// swallower makes a device that frees what it is given.
func (r *room) swallower(e end) error {
	return first(
		func() error {
			return r.netlink(func(n *sys.Netlink) error {
				return sys.NewDevice(n, sys.Device{Name: "ifb0", Kind: "ifb", Index: indexNear, MTU: mtu, MAC: mac(indexNear)}, nil)
			})
		},
		func() error { return r.up(indexNear, e) },
		r.settled,
	)
}

// up brings a device up that sends nothing of its own, and gives it addresses, of IPv6
// where the machine has that. The zero end is none.
func up(n *sys.Netlink, index int, e end) error {
	if err := sys.SetNoLinkLocal(n, index); err != nil && !sys.Unsupported(err) {
		return err
	}
	if err := sys.SetLinkUp(n, index); err != nil || e == (end{}) {
		return err
	}
	if err := sys.AddAddress(n, index, netip.MustParsePrefix(e.v4)); err != nil {
		return err
	}
	return newer(sys.AddAddress(n, index, netip.MustParsePrefix(e.v6)))
}

// has reports whether the thread's namespace has an address.
func has(a netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr() == a
	}), err
}

// newer passes over an error of IPv6 on a machine that has none, or has it switched
// off: what is to be sent over it is refused then.
func newer(err error) error {
	if sys.Unsupported(err) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// cable joins two rooms by a veth pair.
func cable(a, b *room, near, far string, nearIndex, farIndex int) error {
	return a.netlink(func(n *sys.Netlink) error {
		return sys.NewVeth(n,
			sys.VethEnd{Name: near, Index: nearIndex, MAC: mac(nearIndex), MTU: mtu},
			sys.VethEnd{Name: far, Index: farIndex, MAC: mac(farIndex), MTU: mtu}, b.File())
	})
}

func (r *room) up(index int, e end) error {
	return r.netlink(func(n *sys.Netlink) error {
		if err := up(n, index, e); err != nil || e == (end{}) {
			return err
		}
		a := e.addrs().v6
		ok, err := has(a)
		if ok {
			r.own = append(r.own, a)
		}
		return err
	})
}

// settled waits until the room takes what comes for its IPv6 addresses: a worker of the
// kernel makes their routes when the devices have a carrier.
func (r *room) settled() error {
	return r.wait("no route to an address of its own", func(n *sys.Netlink) (ok bool, err error) {
		for _, a := range r.own {
			route, err := sys.GetRoute(n, sys.RouteRequest{Dst: a})
			if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || err == nil && route.Type != sys.RouteLocal {
				return false, nil
			}
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// neighbour tells a device at which other an address of each family is. Without, a
// router that has no link-local address asks for none of IPv6 (ndisc_send_ns).
func neighbour(n *sys.Netlink, index int, to target, at int) error {
	if err := sys.AddNeighbour(n, index, to.v4, mac(at)); err != nil {
		return err
	}
	return newer(sys.AddNeighbour(n, index, to.v6, mac(at)))
}

// runs waits until devices send what they are given.
func (r *room) runs(indices ...int) error {
	err := r.wait("no carrier", func(n *sys.Netlink) (ok bool, err error) {
		for _, index := range indices {
			if ok, err = sys.LinkRuns(n, index); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return r.settled()
}

// wait asks again and again until something is done.
func (r *room) wait(otherwise string, done func(*sys.Netlink) (bool, error)) error {
	const step, most = time.Millisecond, 5000
	for range most {
		var ok bool
		err := r.netlink(func(n *sys.Netlink) (err error) { ok, err = done(n); return err })
		if ok || err != nil {
			return err
		}
		time.Sleep(step)
	}
	return fmt.Errorf("%s after %v", otherwise, most*step)
}

// rooms makes namespaces of the place.
func (p *place) rooms(at ...Where) ([]*room, error) {
	var out []*room
	for _, w := range at {
		r, err := p.room(w)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (Veth) do(p *place) error {
	rooms, err := p.rooms(AtSender, AtPeer)
	if err != nil {
		return err
	}
	near, far := rooms[0], rooms[1]
	return first(
		func() error { return cable(near, far, "v0", "v1", indexNear, indexFar) },
		func() error { return far.up(indexFar, farEnd()) },
		func() error { return near.up(indexNear, nearEnd()) },
		func() error { return near.runs(indexNear) },
		func() error { return far.runs(indexFar) },
		func() error { return p.read(far, farEnd()) },
	)
}

// first runs steps until one fails.
func first(steps ...func() error) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// gateway sends all that is not near by a router.
func (r *room) gateway(by end) error {
	return r.netlink(func(n *sys.Netlink) error {
		if err := sys.AddGateway(n, netip.MustParsePrefix("0.0.0.0/0"), by.addrs().v4); err != nil {
			return err
		}
		return newer(sys.AddGateway(n, netip.MustParsePrefix("::/0"), by.addrs().v6))
	})
}

func (Routed) do(p *place) error {
	rooms, err := p.rooms(AtSender, AtRouter, AtPeer)
	if err != nil {
		return err
	}
	near, router, far := rooms[0], rooms[1], rooms[2]
	forwarding := Sysctl{At: AtRouter, Name: "net.ipv6.conf.all.forwarding", Value: "1"}
	return first(
		func() error { return cable(near, router, "v0", "r0", indexNear, indexFar) },
		func() error { return cable(router, far, "r1", "v1", indexMore, indexEnd) },
		func() error { return Sysctl{At: AtRouter, Name: "net.ipv4.ip_forward", Value: "1"}.do(p) },
		func() error {
			if err := forwarding.do(p); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil // no IPv6
		},
		func() error { return router.up(indexFar, farEnd()) },
		func() error { return router.up(indexMore, routerEnd()) },
		func() error {
			return router.netlink(func(n *sys.Netlink) error {
				return errors.Join(neighbour(n, indexFar, nearEnd().addrs(), indexNear), neighbour(n, indexMore, routedEnd().addrs(), indexEnd))
			})
		},
		func() error { return far.up(indexEnd, routedEnd()) },
		func() error { return near.up(indexNear, nearEnd()) },
		func() error { return near.gateway(farEnd()) },
		func() error { return far.gateway(routerEnd()) },
		func() error { return near.runs(indexNear) },
		func() error { return router.runs(indexFar, indexMore) },
		func() error { return far.runs(indexEnd) },
		func() error { return p.read(far, routedEnd()) },
	)
}

func (Bridge) do(p *place) error {
	rooms, err := p.rooms(AtSender, AtPeer)
	if err != nil {
		return err
	}
	near, far := rooms[0], rooms[1]
	return first(
		func() error { return cable(near, far, "v0", "v1", indexNear, indexFar) },
		func() error {
			return near.netlink(func(n *sys.Netlink) error {
				return first(
					func() error {
						return sys.NewDevice(n, sys.Device{Name: "br0", Kind: "bridge", Index: indexTop, MAC: mac(indexTop)}, nil)
					},
					func() error { return sys.SetMaster(n, indexNear, indexTop) },
				)
			})
		},
		func() error { return far.up(indexFar, farEnd()) },
		func() error { return near.up(indexNear, end{}) },
		func() error { return near.up(indexTop, nearEnd()) },
		func() error { return near.runs(indexNear, indexTop) },
		func() error { return far.runs(indexFar) },
		func() error { return p.read(far, farEnd()) },
	)
}

func (Macvlan) do(p *place) error {
	if err := (Wire{}).do(p); err != nil {
		return err
	}
	p.to = macvlanPeer().addrs()
	return netlinkIn(p.sink, func(n *sys.Netlink) error {
		var parent int
		return first(
			func() (err error) { parent, err = indexOf(lab.Device); return err },
			func() error {
				return sys.NewDevice(n, sys.Device{Name: "mv0", Kind: "macvlan", Index: indexTop, MAC: mac(indexTop), Parent: parent, Data: sys.MacvlanBridge()}, nil)
			},
			func() error { return up(n, indexTop, macvlanEnd()) },
			func() error { return neighbour(n, indexTop, p.to, indexFar) },
		)
	})
}

func (Tun) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	var f *os.File
	if err := r.Do(func() (err error) { f, err = sys.OpenTun("tun0"); return err }); err != nil {
		return err
	}
	c := countTun(f)
	p.later(c.close)
	p.count = c
	index, err := p.index(AtSender, "tun0")
	if err != nil {
		return err
	}
	p.to = farEnd().addrs()
	return r.up(index, nearEnd())
}

func (Swallow) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.to = farEnd().addrs()
	return errors.Join(r.swallower(nearEnd()), r.netlink(func(n *sys.Netlink) error { return neighbour(n, indexNear, p.to, indexFar) }))
}
