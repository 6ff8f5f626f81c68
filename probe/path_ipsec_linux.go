package probe

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// readIPsec says what the IPsec policies of the namespace do to packets of each
// route, as PathQuery.IPsecTCP has it. Policies take CAP_NET_ADMIN to read, which the thread
// has again for that one question; it asks only where the kernel already
// listens, so no module is loaded.
func readIPsec(s *sources, routes ...RouteAnswer) []string {
	listens, daemon, err := xfrmSockets(s)
	if err != nil {
		return slices.Repeat([]string{ipsecUnread}, len(routes))
	}
	if !listens {
		return slices.Repeat([]string{ipsecNone}, len(routes))
	}
	var policies []sys.XfrmPolicy
	err = withNetAdmin(func() error {
		nl, err := sys.OpenNetlink(sys.NetlinkXfrm)
		if err != nil {
			return err
		}
		defer nl.Close()
		policies, err = sys.XfrmPolicies(nl)
		return err
	})
	switch {
	case err != nil && daemon:
		return slices.Repeat([]string{ipsecLikely}, len(routes))
	case err != nil:
		return slices.Repeat([]string{ipsecUnread}, len(routes))
	}
	var out []string
	for _, a := range routes {
		out = append(out, matchPolicies(policies, a))
	}
	return out
}

// xfrmSockets looks in /proc/net/netlink for the kernel's own IPsec socket,
// whose port is 0, and for those of programs: daemons that negotiate keys.
func xfrmSockets(s *sources) (kernel, daemon bool, err error) {
	f, err := s.proc.Open("thread-self/net/netlink")
	if err != nil {
		return false, false, fmt.Errorf("netlink sockets: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		v := strings.Fields(lines.Text()) // sk Eth Pid ...
		if len(v) > 2 && v[1] == fmt.Sprint(sys.NetlinkXfrm) {
			kernel = kernel || v[2] == "0"
			daemon = daemon || v[2] != "0"
		}
	}
	return kernel, daemon, lines.Err()
}

// withNetAdmin runs fn with CAP_NET_ADMIN if the thread may have it.
func withNetAdmin(fn func() error) error {
	was, err := sys.ThreadCaps()
	if err != nil {
		return err
	}
	raised := was
	raised.Effective |= was.Permitted & (1 << sys.CapNetAdmin)
	if raised == was {
		return fn()
	}
	if err := sys.SetThreadCaps(raised); err != nil {
		return err
	}
	defer func() {
		if err := sys.SetThreadCaps(was); err != nil {
			panic(threadLost{fmt.Errorf("give up CAP_NET_ADMIN again: %w", err)})
		}
	}()
	return fn()
}

// matchPolicies finds the policy for packets of the route a, as
// xfrm_policy_lookup does: of those that match, the one with the lowest
// priority, and among these the oldest.
func matchPolicies(policies []sys.XfrmPolicy, a RouteAnswer) string {
	if a.Type == routeLocal {
		return ipsecNone // lo is exempt: its addresses have disable_xfrm set
	}
	dst, err := netip.ParseAddr(a.Query.Dst)
	if err != nil {
		return ipsecUnread
	}
	src, _ := netip.ParseAddr(cmp.Or(a.PrefSrc, a.Query.Src))
	slices.SortStableFunc(policies, func(x, y sys.XfrmPolicy) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.Index, y.Index))
	})
	for _, p := range policies {
		q := a.Query
		switch {
		case !p.Out, p.OIF != 0 && p.OIF != a.OIF, p.Proto != 0 && p.Proto != q.Proto,
			!inPrefix(p.Dst, p.Family, dst), src.IsValid() && !inPrefix(p.Src, p.Family, src):
			continue
		case p.DPortMask != 0 && q.Port == 0, p.SPortMask != 0, p.Marked, !src.IsValid() && p.Src.Bits() > 0:
			return ipsecLikely // depends on what is not known here
		case p.DPortMask != 0 && q.Port&p.DPortMask != p.DPort&p.DPortMask:
			continue
		case p.Block:
			return ipsecBlock
		case p.Templates:
			return ipsecApplies
		}
		return ipsecNone
	}
	return ipsecNone
}

// inPrefix reports whether a selector of a family takes an address; family 0
// takes both when it has no bits.
func inPrefix(p netip.Prefix, family uint16, a netip.Addr) bool {
	if family == 0 && p.Bits() == 0 {
		return true
	}
	return p.Contains(a)
}
