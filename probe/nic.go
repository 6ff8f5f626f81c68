package probe

import (
	"maps"
	"slices"
)

// judgeNICs describes the devices of the probed namespace and says what each
// feature's state means. With dev it is that device and what is below it, or
// nothing if there is no such device.
func judgeNICs(f *Facts, dev string) ([]NIC, []Feature) {
	nics, features := []NIC{}, []Feature{}
	if len(f.Networks) == 0 {
		return nics, features
	}
	links := f.Networks[0].Links
	st := stackOf(links)
	wanted := map[int]bool{}
	if i := slices.IndexFunc(links, func(l Link) bool { return l.Name == dev }); i >= 0 {
		st.mark(&links[i], wanted)
	}
	for i := range links {
		l := &links[i]
		if dev != "" && !wanted[l.Index] {
			continue
		}
		nics = append(nics, st.describe(l))
		for _, nf := range nicFeatures {
			features = append(features, st.judge(l, nf))
		}
	}
	return nics, features
}

// deviceStack tells what is below each device of a namespace.
type deviceStack struct {
	lower map[int][]*Link // by index
	depth int             // how many devices are above the one looked at
}

// maxDepth is how many devices the kernel stacks at most (MAX_NEST_DEV). The
// record of a stranger may have more, or loops.
const maxDepth = 8

// stackOf finds the devices that carry each one's traffic, as far as they are
// in the same namespace, in order of index. A veth peer is not below, but
// across.
func stackOf(links []Link) deviceStack {
	st := deviceStack{lower: map[int][]*Link{}}
	above := map[int][]int{}
	for i := range links {
		l := &links[i]
		if l.Parent != 0 && l.ParentN == "" && l.Kind != "veth" && l.Kind != "netkit" {
			above[l.Parent] = append(above[l.Parent], l.Index)
		}
		if l.Master != 0 {
			above[l.Index] = append(above[l.Index], l.Master)
		}
	}
	for i := range links {
		l := &links[i]
		for _, up := range above[l.Index] {
			if up != l.Index && !slices.Contains(st.lower[up], l) {
				st.lower[up] = append(st.lower[up], l)
			}
		}
	}
	return st
}

// mark marks a device and all below it.
func (st deviceStack) mark(l *Link, marked map[int]bool) {
	if marked[l.Index] {
		return
	}
	marked[l.Index] = true
	for _, lower := range st.lower[l.Index] {
		st.mark(lower, marked)
	}
}

func (st deviceStack) describe(l *Link) NIC {
	n := NIC{
		Name:     l.Name,
		Index:    l.Index,
		Driver:   l.Driver,
		Kind:     nicKind(l),
		MTU:      l.MTU,
		Up:       l.Flags&iffUp != 0,
		Qdisc:    l.Qdisc,
		XDP:      l.XDP,
		Lower:    []string{},
		Features: map[string]FeatureState{},
	}
	for _, lower := range st.lower[l.Index] {
		n.Lower = append(n.Lower, lower.Name)
	}
	maps.Copy(n.Features, l.Features)
	if l.Features == nil {
		_, n.Error = unreadable(l)
	}
	return n
}

func nicKind(l *Link) string {
	switch {
	case l.Kind != "":
		return l.Kind
	case l.ARPHRD == arphrdLoopback:
		return "loopback"
	case l.HasDev:
		return "physical"
	}
	return "virtual"
}

// stackedKinds are kinds whose own features are set without regard to what
// carries their traffic. A vlan is not among them: its features are those that
// the device below has for tagged packets.
var stackedKinds = []string{
	"bond", "team", "bridge", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "openvswitch", "hsr",
	"vxlan", "geneve", "bareudp", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan", "gtp",
	"ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm", "wireguard", "macsec", "amt", "batadv",
}

// standsOnOthers reports whether l's flags tell nothing about the devices that
// carry its traffic: those kinds, and whatever else has ports (a netvsc device
// with its virtual function, a failover device).
func (st deviceStack) standsOnOthers(l *Link) bool {
	if slices.Contains(stackedKinds, l.Kind) {
		return true
	}
	return slices.ContainsFunc(st.lower[l.Index], func(o *Link) bool { return o.Master == l.Index })
}
