package probe

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
)

// validate refuses facts that no host can have and that judgement relies on
// never to see. Facts that are odd but possible pass.
func validate(f *Facts) error {
	if err := checkStrings(f); err != nil {
		return err
	}
	if len(f.Networks) == 0 {
		return fmt.Errorf("networks.json: no network namespace")
	}
	ids := map[string]bool{}
	for i, n := range f.Networks {
		if (n.ID == "") != (i == 0) || ids[n.ID] {
			return fmt.Errorf("networks.json: network %d has id %q; the first has none, the others one each", i, shorten(n.ID))
		}
		ids[n.ID] = true
		if err := n.validate(); err != nil {
			return fmt.Errorf("networks.json: network %q: %w", shorten(n.ID), err)
		}
	}
	for i, a := range f.Routes {
		if err := a.validate(); err != nil {
			return fmt.Errorf("routes.json: answer %d: %w", i, err)
		}
	}
	for i, a := range f.Neighbours {
		if !within(0, math.MaxInt32, a.Query.Dev, a.Port) {
			return fmt.Errorf("neighbours.json: answer %d: a negative or enormous interface index", i)
		}
		if err := checkAddrs(a.Query.Addr, a.Dst); err != nil {
			return fmt.Errorf("neighbours.json: answer %d: %w", i, err)
		}
	}
	for i, q := range f.Paths {
		if err := checkAddrs(append([]string{q.Addr, q.From}, q.Addrs...)...); err != nil {
			return fmt.Errorf("paths.json: path %d: %w", i, err)
		}
	}
	return checkCounts(f)
}

func (n *Network) validate() error {
	seen := map[int]bool{}
	for _, l := range n.Links {
		name := shorten(l.Name)
		switch {
		case l.Index <= 0 || l.Index > math.MaxInt32 || seen[l.Index]:
			return fmt.Errorf("link %q has index %d, which is not a positive number of its own", name, l.Index)
		case l.Name == "":
			return fmt.Errorf("link %d has no name", l.Index)
		case !within(0, math.MaxInt32, l.MTU, l.Master, l.Parent, l.BondActive, l.TeamActive):
			return fmt.Errorf("link %q has a negative or enormous MTU, master, parent or active port", name)
		case !within(-1, 255, l.BondMode) || !within(0, 4095, l.VlanID) || !within(0, math.MaxUint16, l.TunPort):
			return fmt.Errorf("link %q has a bond mode, VLAN id or tunnel port out of range", name)
		}
		if err := checkAddrs(l.TunLocal, l.TunRemote); err != nil {
			return fmt.Errorf("link %q: %w", name, err)
		}
		seen[l.Index] = true
	}
	return nil
}

func (a *RouteAnswer) validate() error {
	if !within(0, math.MaxInt32, a.OIF, a.MTU, a.Query.OIF, a.Query.IIF) {
		return fmt.Errorf("a negative or enormous interface index or MTU")
	}
	for _, h := range a.NextHops {
		if !within(0, math.MaxInt32, h.OIF) {
			return fmt.Errorf("a next hop with a negative or enormous interface index")
		}
		if err := checkAddrs(h.Gateway); err != nil {
			return err
		}
	}
	return checkAddrs(a.Query.Dst, a.Query.Src, a.Gateway, a.PrefSrc)
}

func checkCounts(f *Facts) error {
	if !within(0, math.MaxInt32, f.Limits.PID) {
		return fmt.Errorf("limits.json: process id %d", f.Limits.PID)
	}
	for _, t := range f.Taps.Taps {
		// A packet socket whose device is gone is bound to index -1.
		if !within(0, math.MaxInt32, t.PID) || !within(-1, math.MaxInt32, t.Ifindex) {
			return fmt.Errorf("taps.json: a tap has process id %d and interface index %d", t.PID, t.Ifindex)
		}
	}
	if !within(0, math.MaxInt32, f.Taps.NamespacesSeen, f.Taps.NamespacesHidden) {
		return fmt.Errorf("taps.json: a negative or enormous number of namespaces")
	}
	for _, d := range f.Dirs {
		if !within(0, math.MaxInt32, d.FilesTried, d.FilesSeen, d.Immutable) {
			return fmt.Errorf("dirs.json: a negative or enormous number of files")
		}
	}
	return nil
}

func within(low, high int, values ...int) bool {
	for _, v := range values {
		if v < low || v > high {
			return false
		}
	}
	return true
}

func checkAddrs(addrs ...string) error {
	for _, a := range addrs {
		if _, err := netip.ParseAddr(a); a != "" && err != nil {
			return fmt.Errorf("%q is no address", shorten(a))
		}
	}
	return nil
}

func checkStrings(f *Facts) error {
	var bad error
	mapStrings(reflect.ValueOf(f), holdsText, func(_, s string) string {
		if len(s) > maxRecordText {
			bad = fmt.Errorf("a text of %d bytes: %q", len(s), shorten(s))
		}
		return s
	})
	return bad
}
