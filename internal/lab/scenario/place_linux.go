package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// discard is the port that peers read.
const discard = lab.Port

// loopback is the index of lo in every namespace.
const loopback = 1

// A room is a network namespace that others see.
type room struct {
	lab.Namespace
	leave func()
	own   []netip.Addr // of IPv6, that it takes packets for
}

func newRoom() (*room, error) {
	ns, err := lab.NewNamespace()
	if err != nil {
		return nil, err
	}
	r := &room{Namespace: ns}
	if r.leave, err = ns.Inhabit(); err == nil {
		err = r.netlink(func(n *sys.Netlink) error { return sys.SetLinkUp(n, loopback) })
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *room) close() error {
	if r.leave != nil {
		r.leave()
	}
	return r.Close()
}

// A door is a way into a namespace.
type door interface{ Do(func() error) error }

// netlink runs fn with an rtnetlink socket of the room.
func (r *room) netlink(fn func(*sys.Netlink) error) error { return netlinkIn(r, fn) }

func netlinkIn(d door, fn func(*sys.Netlink) error) error {
	return d.Do(func() error {
		n, err := sys.OpenNetlink(sys.NetlinkRoute)
		if err != nil {
			return err
		}
		return errors.Join(fn(n), n.Close())
	})
}

// A place is where scenarios with the same set-up run.
type place struct {
	doors map[Where]door
	to    target
	sink  *lab.Sink
	count counter // nil: nobody counts what arrives

	facts map[netip.Addr]*probe.Facts // by where traffic goes

	unix      bool    // a pair of unix sockets, and no address
	files     bool    // files are copied, and there is no address
	multipath bool    // the reader listens for MPTCP
	memlock   *uint64 // the senders' limit, in bytes; nil: they have none

	undo []func() error // the last first
}

// A target is where a place's traffic goes, by either family of addresses. v6 is the
// zero Addr where there is none.
type target struct{ v4, v6 netip.Addr }

// of returns the address that traffic goes to.
func (t target) of(traffic Traffic) (netip.Addr, error) {
	if !traffic.IPv6 {
		return t.v4, nil
	}
	if !t.v6.IsValid() {
		return t.v6, fmt.Errorf("the place has no IPv6: %w", errors.ErrUnsupported)
	}
	return t.v6, nil
}

// A counter is a peer that counts payload by the port of the sender.
type counter interface {
	arrived(protocol string, from netip.AddrPort) uint64
}

// open makes the place of a set-up. What was made before an error is undone.
func open(ctx context.Context, steps []Step) (*place, error) {
	p := &place{doors: map[Where]door{}, facts: map[netip.Addr]*probe.Facts{}}
	for _, s := range steps {
		err := context.Cause(ctx)
		if err == nil {
			err = p.apply(s)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%v: %w", s, err), p.close())
		}
	}
	return p, nil
}

// A doer is a Step of Linux.
type doer interface{ do(*place) error }

func (p *place) apply(s Step) error {
	d, ok := s.(doer)
	if !ok {
		return fmt.Errorf("there is no such step: %w", errors.ErrUnsupported)
	}
	return d.do(p)
}

func (p *place) close() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	p.undo = nil
	return errors.Join(errs...)
}

// later undoes a step when the place is closed.
func (p *place) later(fn func() error) { p.undo = append(p.undo, fn) }

// room makes a namespace of the place.
func (p *place) room(at Where) (*room, error) {
	r, err := newRoom()
	if err != nil {
		return nil, err
	}
	p.later(r.close)
	p.doors[at] = r
	return r, nil
}

// door returns the way into a namespace that the place has.
func (p *place) door(at Where) (door, error) {
	if d := p.doors[at]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("the place has no %s: %w", at, errors.ErrUnsupported)
}

// index returns the index of a device that the place has.
func (p *place) index(at Where, device string) (int, error) {
	d, err := p.door(at)
	if err != nil {
		return 0, err
	}
	index := 0
	err = d.Do(func() (err error) { index, err = indexOf(device); return err })
	return index, err
}
