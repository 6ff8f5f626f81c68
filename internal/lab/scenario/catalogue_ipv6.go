package scenario

import "slices"

// overIPv6 makes scenarios send over IPv6.
func overIPv6(all []Scenario) []Scenario {
	return with(all, func(s *Scenario) {
		s.ID, s.Summary, s.Traffic.IPv6 = "ipv6-"+s.ID, s.Summary+", over IPv6", true
	})
}

// newerScenarios are the main ones over IPv6, which has functions of its own for
// datagrams (__ip6_append_data), delivery (ip6_input_finish) and sums.
func newerScenarios() []Scenario {
	wire := []Step{Wire{}}
	most := append(lenders(), "sendfile")
	const (
		forwards = "the router forwards the pages, and they are copied where they are delivered (ip6_input_finish)"
		enters   = "lent pages are copied where the router receives them: __netif_receive_skb_core knows not yet that they go on"
		linear   = "TCP builds packets as if every device had scatter-gather (sk_setup_caps); skb_segment and __skb_linearize copy all of it"
		private  = "pages that may change are linearized before they are summed"
	)
	streams := slices.Concat(
		family{"plain", "a device that can do everything", wire, most, always(None, "the packets refer to the pages")}.scenarios(),
		family{"plain", "a device that can do everything", wire, []string{"write"}, always(All, apiCopies, "api-copy")}.scenarios(),
		family{"no-sg", "a device without scatter-gather", []Step{Wire{}, Off{Device: "lab0", Feature: "tx-scatter-gather"}}, most,
			always(All, linear, "no-scatter-gather")}.scenarios(),
		family{"no-csum", "a device without checksum offload", []Step{Wire{}, Off{Device: "lab0", Feature: "tx-checksum-ip-generic"}}, most,
			always(All, private, "checksum-pass", "no-tx-csum")}.scenarios(),
		family{"no-tso", "a device without TCP segmentation", []Step{Wire{}, Off{Device: "lab0", Feature: "tx-tcp6-segmentation"}}, most,
			always(None, "skb_segment moves references to pages, and copies headers alone")}.scenarios(),
		family{"loopback", "a program on this machine, at ::1", []Step{Loopback{}}, lenders(), always(All, delivered, "loopback-delivery")}.scenarios(),
		family{"veth", "a program in another namespace", []Step{Veth{}}, lenders(), always(All, delivered, "loopback-delivery")}.scenarios(),
		raw(family{"veth", "a program in another namespace", []Step{Veth{}}, []string{"sendfile"}, always(None, referred)}.scenarios()),
		family{"veth-routed", "a program in another namespace, behind a router on this machine", []Step{Routed{}}, lenders(), []Truth{
			{Before: "6.13", Copied: All, Causes: []string{"veth-routed-ingress"}, Why: enters},
			{Since: "6.13", Copied: All, Causes: []string{"loopback-delivery"}, Why: forwards},
		}}.scenarios(),
	)
	noSG := []Step{Wire{}, Off{Device: "lab0", Feature: "tx-scatter-gather"}}
	const looked = "__ip6_append_data looks at the device of the route, and lends no pages where it lacks the feature"
	datagrams := slices.Concat(
		burst{"udp", "datagrams of one packet", wire, small, lenders(), lentDatagrams()}.scenarios(),
		burst{"udp", "datagrams of one packet", wire, small, []string{"write"}, always(All, "the call is made of a copy into the packet", "api-copy")}.scenarios(),
		burst{"udp-over-mtu", "datagrams larger than the MTU", []Step{Swallow{}}, over, []string{"msg_zerocopy"},
			always(All, "what is to be fragmented is copied and summed in the call (csummode of __ip6_append_data)", "checksum-pass", "udp-over-mtu")}.scenarios(),
		burst{"udp-no-sg", "datagrams over a device without scatter-gather", noSG, small, lenders(), always(All, looked, "no-scatter-gather")}.scenarios(),
		burst{"macvlan", "a macvlan on a device that can do everything", []Step{Macvlan{}}, small, lenders(), lentDatagrams()}.scenarios(),
		burst{"tun", "a tun device that a program reads", []Step{Tun{}}, small, lenders(),
			always(All, "tun_net_xmit copies lent pages, and the device sums nothing", "checksum-pass", "no-tx-csum", "tun-tap")}.scenarios(),
		segmented(wire),
	)
	return overIPv6(slices.Concat(streams, datagrams))
}
