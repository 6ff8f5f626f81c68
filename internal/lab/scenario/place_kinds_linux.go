package scenario

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
)

// The addresses are of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544).
// The sink has 198.18.0.0/24.
const (
	nearNet    = "198.18.1.1/24" // of the sender
	farNet     = "198.18.1.2/24" // of the peer, or of the router
	routerNet  = "198.18.2.1/24" // of the router, toward the peer
	routedNet  = "198.18.2.2/24" // of the peer behind the router
	macvlanNet = "198.18.3.1/24"
	macvlanTo  = "198.18.3.2"
)

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
	p.sink, p.to, p.count = s, s.Addr4(), sinkCount{s}
	p.doors[AtSender] = s
	return nil
}

func (Loopback) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.doors[AtPeer] = r
	return p.read(r, netip.MustParseAddr("127.0.0.1"))
}

func (OwnAddress) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.doors[AtPeer] = r
	if err := r.swallower(nearNet); err != nil {
		return err
	}
	return p.read(r, netip.MustParsePrefix(nearNet).Addr())
}

// swallower makes a device that frees what it is given.
func (r *room) swallower(address string) error {
	return r.netlink(func(n *sys.Netlink) error {
		err := sys.NewDevice(n, sys.Device{Name: "ifb0", Kind: "ifb", Index: indexNear, MTU: mtu, MAC: mac(indexNear)}, nil)
		if err == nil {
			err = up(n, indexNear, address)
		}
		return err
	})
}

// up brings a device up that sends nothing of its own, and gives it an address.
func up(n *sys.Netlink, index int, address string) error {
	if err := sys.SetNoLinkLocal(n, index); err != nil && !sys.Unsupported(err) {
		return err
	}
	if err := sys.SetLinkUp(n, index); err != nil {
		return err
	}
	if address == "" {
		return nil
	}
	return sys.AddAddress(n, index, netip.MustParsePrefix(address))
}

// cable joins two rooms by a veth pair.
func cable(a, b *room, near, far string, nearIndex, farIndex int) error {
	return a.netlink(func(n *sys.Netlink) error {
		return sys.NewVeth(n,
			sys.VethEnd{Name: near, Index: nearIndex, MAC: mac(nearIndex), MTU: mtu},
			sys.VethEnd{Name: far, Index: farIndex, MAC: mac(farIndex), MTU: mtu}, b.File())
	})
}

func (r *room) up(index int, address string) error {
	return r.netlink(func(n *sys.Netlink) error { return up(n, index, address) })
}

// runs waits until a device sends what it is given.
func (r *room) runs(index int) error {
	const step, most = time.Millisecond, 5000
	for range most {
		var ok bool
		err := r.netlink(func(n *sys.Netlink) (err error) { ok, err = sys.LinkRuns(n, index); return err })
		if ok || err != nil {
			return err
		}
		time.Sleep(step)
	}
	return fmt.Errorf("device %d has no carrier after %v", index, most*step)
}

func (Veth) do(p *place) error {
	near, err := p.room(AtSender)
	if err != nil {
		return err
	}
	far, err := p.room(AtPeer)
	if err != nil {
		return err
	}
	err = first(
		func() error { return cable(near, far, "v0", "v1", indexNear, indexFar) },
		func() error { return far.up(indexFar, farNet) },
		func() error { return near.up(indexNear, nearNet) },
		func() error { return near.runs(indexNear) },
		func() error { return far.runs(indexFar) },
	)
	if err != nil {
		return err
	}
	return p.read(far, netip.MustParsePrefix(farNet).Addr())
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

func (Routed) do(p *place) error {
	var rooms [3]*room
	for i, at := range []Where{AtSender, AtRouter, AtPeer} {
		var err error
		if rooms[i], err = p.room(at); err != nil {
			return err
		}
	}
	near, router, far := rooms[0], rooms[1], rooms[2]
	gateway := func(r *room, by string) error {
		return r.netlink(func(n *sys.Netlink) error {
			return sys.AddGateway(n, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix(by).Addr())
		})
	}
	err := first(
		func() error { return cable(near, router, "v0", "r0", indexNear, indexFar) },
		func() error { return cable(router, far, "r1", "v1", indexMore, indexEnd) },
		func() error { return router.up(indexFar, farNet) },
		func() error { return router.up(indexMore, routerNet) },
		func() error { return far.up(indexEnd, routedNet) },
		func() error { return near.up(indexNear, nearNet) },
		func() error { return Sysctl{At: AtRouter, Name: "net.ipv4.ip_forward", Value: "1"}.do(p) },
		func() error { return gateway(near, farNet) },
		func() error { return gateway(far, routerNet) },
		func() error { return near.runs(indexNear) },
		func() error { return router.runs(indexFar) },
		func() error { return router.runs(indexMore) },
		func() error { return far.runs(indexEnd) },
	)
	if err != nil {
		return err
	}
	return p.read(far, netip.MustParsePrefix(routedNet).Addr())
}

func (Bridge) do(p *place) error {
	near, err := p.room(AtSender)
	if err != nil {
		return err
	}
	far, err := p.room(AtPeer)
	if err != nil {
		return err
	}
	err = first(
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
		func() error { return far.up(indexFar, farNet) },
		func() error { return near.up(indexNear, "") },
		func() error { return near.up(indexTop, nearNet) },
		func() error { return near.runs(indexNear) },
		func() error { return far.runs(indexFar) },
		func() error { return near.runs(indexTop) },
	)
	if err != nil {
		return err
	}
	return p.read(far, netip.MustParsePrefix(farNet).Addr())
}

func (Macvlan) do(p *place) error {
	if err := (Wire{}).do(p); err != nil {
		return err
	}
	p.to = netip.MustParseAddr(macvlanTo)
	return netlinkIn(p.sink, func(n *sys.Netlink) error {
		var parent int
		return first(
			func() (err error) { parent, err = indexOf(lab.Device); return err },
			func() error {
				return sys.NewDevice(n, sys.Device{Name: "mv0", Kind: "macvlan", Index: indexTop, MAC: mac(indexTop), Parent: parent, Data: sys.MacvlanBridge()}, nil)
			},
			func() error { return up(n, indexTop, macvlanNet) },
			func() error { return sys.AddNeighbour(n, indexTop, p.to, mac(indexFar)) },
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
	if err := r.up(index, nearNet); err != nil {
		return err
	}
	p.to = netip.MustParsePrefix(farNet).Addr()
	return nil
}

func (Swallow) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.to = netip.MustParsePrefix(farNet).Addr()
	return errors.Join(r.swallower(nearNet), r.netlink(func(n *sys.Netlink) error {
		return sys.AddNeighbour(n, indexNear, p.to, mac(indexFar))
	}))
}
