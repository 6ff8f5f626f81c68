package scenario

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// feedTo is where the sender listens for a feeder.
const feedTo = "198.18.4.1:0"

func feedEnd() end   { return end{"198.18.4.1/24", "2001:2:0:4::1/64"} } // of the sender
func feederEnd() end { return end{"198.18.4.2/24", "2001:2:0:4::2/64"} }

// Indices of the devices of a feeder.
const (
	indexFeeder = 30
	indexFed    = 31
)

func (Multipath) do(p *place) error {
	r, err := p.room(AtSender)
	if err != nil {
		return err
	}
	p.doors[AtPeer], p.multipath = r, true
	return p.read(r, selfEnd())
}

func (m Memlock) do(p *place) error {
	p.memlock = new(m.Bytes)
	return nil
}

func (Feeder) do(p *place) error {
	near, err := p.door(AtSender)
	if err != nil {
		return err
	}
	feeder, err := p.room(AtFeeder)
	if err != nil {
		return err
	}
	return first(
		func() error {
			return netlinkIn(near, func(n *sys.Netlink) error {
				return sys.NewVeth(n,
					sys.VethEnd{Name: "f1", Index: indexFed, MAC: mac(indexFed), MTU: mtu},
					sys.VethEnd{Name: "f0", Index: indexFeeder, MAC: mac(indexFeeder), MTU: mtu}, feeder.File())
			})
		},
		func() error { return feeder.up(indexFeeder, feederEnd()) },
		func() error { return netlinkIn(near, func(n *sys.Netlink) error { return up(n, indexFed, feedEnd()) }) },
		func() error { return feeder.runs(indexFeeder) },
	)
}

func (s Narrow) do(p *place) error {
	d, err := p.door(s.At)
	if err != nil {
		return err
	}
	return netlinkIn(d, func(n *sys.Netlink) error {
		index, err := indexOf(s.Device)
		if err != nil {
			return err
		}
		return sys.SetLinkMTU(n, index, s.MTU)
	})
}

const hugeReserve = "/proc/sys/vm/nr_hugepages"

func (h HugePages) do(p *place) error {
	had, err := hugePages()
	if err != nil {
		return err
	}
	if err := setHugePages(had + h.Pages); err != nil {
		return err
	}
	p.later(func() error { return setHugePages(had) })
	now, err := hugePages()
	if err == nil && now < had+h.Pages {
		err = fmt.Errorf("the kernel finds memory for %d huge pages: %w", now, errors.ErrUnsupported)
	}
	return err
}

func hugePages() (int, error) {
	b, err := os.ReadFile(hugeReserve)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func setHugePages(n int) error { return os.WriteFile(hugeReserve, []byte(strconv.Itoa(n)), 0) }
