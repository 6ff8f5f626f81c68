package scenario

import "slices"

// mixedScenarios have more than one thing on the way: what comes first copies, and
// often there is nothing left to copy for the second.
func mixedScenarios() []Scenario {
	noSG, noCsum := Off{Device: "lab0", Feature: "tx-scatter-gather"}, Off{Device: "lab0", Feature: "tx-checksum-ip-generic"}
	tap, bucket := Tap{Device: "lab0"}, TokenBucket{Device: "lab0", Rate: 50e6, Burst: 10_000}
	two := []string{"msg_zerocopy", "sendfile"}
	const (
		before = "a packet socket gets a clone after the device's lacks were made up for (xmit_one), when nothing is lent any more"
		clone  = "dev_queue_xmit_nit gives a clone to the packet socket, and skb_orphan_frags_rx copies lent pages for it (skb_copy_ubufs)"
		both   = "without scatter-gather skb_segment sums what it copies, and the sum is no cause of the copy"
		again  = "; what is delivered is the packet itself, which is copied again"
	)
	lent := func(id, summary string, setUp []Step, why string, causes ...string) []Scenario {
		return family{id, summary, setUp, []string{"msg_zerocopy"}, always(All, why, causes...)}.scenarios()
	}
	return slices.Concat(
		family{"no-sg-tap", "a packet socket on a device without scatter-gather", []Step{Wire{}, noSG, tap}, two, always(All, before, "no-scatter-gather")}.scenarios(),
		family{"no-csum-tap", "a packet socket on a device without checksum offload", []Step{Wire{}, noCsum, tap}, two, always(All, before, "checksum-pass", "no-tx-csum")}.scenarios(),
		family{"no-sg-no-csum", "a device without scatter-gather and checksum offload", []Step{Wire{}, noSG, noCsum}, two, always(All, both, "checksum-pass", "no-scatter-gather")}.scenarios(),
		lent("two-taps", "two packet sockets, of which one ignores what is sent", []Step{Wire{}, Tap{Device: "lab0", IgnoreOutgoing: true}, tap}, clone, "packet-tap"),
		lent("tbf-tap", "a packet socket behind a token bucket", []Step{Wire{}, bucket, tap}, clone, "packet-tap"),
		family{"tbf-no-sg", "a token bucket on a device without scatter-gather", []Step{Wire{}, bucket, noSG}, two, always(All, "what the bucket has cut by references is linearized behind it", "no-scatter-gather")}.scenarios(),
		lent("loopback-tap", "a packet socket on lo", []Step{Loopback{}, Tap{Device: "lo"}}, clone+again, "loopback-delivery", "packet-tap"),
		lent("bridge-tap", "a packet socket on the port of a bridge", []Step{Bridge{}, Tap{Device: "v0"}}, clone+again, "loopback-delivery", "packet-tap"),
		raw(family{"bridge-no-csum", "a bridge whose port has no checksum offload", []Step{Bridge{}, Off{Device: "v0", Feature: "tx-checksum-ip-generic"}}, two,
			always(All, "the bridge has what its port has, and pages are linearized before they are summed", "checksum-pass", "no-tx-csum")}.scenarios()),
		raw(family{"xdp-no-sg", "a native XDP program at the end of a device without scatter-gather",
			[]Step{Veth{}, XDP{At: AtPeer, Device: "v1"}, Off{Device: "v0", Feature: "tx-scatter-gather"}}, []string{"sendfile"},
			always(All, "skb_segment copies, and veth_convert_skb_to_xdp_buff copies again, as the head has no room for the program", "no-scatter-gather", "veth-xdp")}.scenarios()),
		lent("xdp-sender", "a native XDP program on the sender's device, which receives nothing lent", []Step{Veth{}, XDP{Device: "v0"}}, delivered, "loopback-delivery"),
		mixedRoutes(two), mixedDatagrams(tap), mixedSources(noSG, noCsum),
	)
}

// mixedRoutes are a router on this machine whose second device does something to the
// payload.
func mixedRoutes(apis []string) []Scenario {
	const (
		enters = "; before that netif_receive_skb copies lent pages (skb_orphan_frags_rx), to Linux 6.12"
		sg     = "skb_segment copies for the router's device"
		csum   = "what the router's device does not sum is linearized and summed"
		tap    = "dev_queue_xmit_nit gives a clone of what the router sends to the packet socket; what is delivered is the packet itself, which is copied again"
	)
	route := func(id, summary string, step Step, why string, causes ...string) []Scenario {
		lent := func(api string) bool { return api == "msg_zerocopy" }
		var all []Scenario
		for _, api := range apis {
			truth := []Truth{{Copied: All, Causes: causes, Why: why}}
			if lent(api) {
				truth = []Truth{
					{Before: "6.13", Copied: All, Causes: slices.Sorted(slices.Values(append([]string{"veth-routed-ingress"}, causes...))), Why: why + enters},
					{Since: "6.13", Copied: All, Causes: causes, Why: why},
				}
			}
			all = append(all, raw(family{id, summary, []Step{Routed{}, step}, []string{api}, truth}.scenarios())...)
		}
		return all
	}
	return slices.Concat(
		route("routed-no-sg", "a router whose device has no scatter-gather", Off{At: AtRouter, Device: "r1", Feature: "tx-scatter-gather"}, sg, "no-scatter-gather"),
		route("routed-no-csum", "a router whose device has no checksum offload", Off{At: AtRouter, Device: "r1", Feature: "tx-checksum-ip-generic"}, csum, "checksum-pass", "no-tx-csum"),
		family{"routed-tap", "a packet socket on a router's device", []Step{Routed{}, Tap{At: AtRouter, Device: "r1"}}, apis[:1], []Truth{
			{Before: "6.13", Copied: All, Causes: []string{"veth-routed-ingress"}, Why: "lent pages are copied before they are routed, and nothing is lent any more for the packet socket"},
			{Since: "6.13", Copied: All, Causes: []string{"loopback-delivery", "packet-tap"}, Why: tap}}}.scenarios(),
	)
}

// mixedDatagrams are UDP over devices on devices.
func mixedDatagrams(tap Tap) []Scenario {
	gso := segmented([]Step{Wire{}, Narrow{Device: "lab0", MTU: 576}})
	gso[0].ID, gso[0].Summary, gso[0].Traffic.Size, gso[0].Traffic.Segment = "udp-gso-mtu-576/msg_zerocopy", "datagrams that the device cuts, of 500 bytes", 20_000, 500
	const (
		shows = "a macvlan shows features that the device below has not, so pages are lent, and copied there"
		clone = "dev_queue_xmit_nit gives a clone to the packet socket on the device below"
	)
	on := func(s Step) []Step { return []Step{Macvlan{}, s} }
	sg, csum := Off{Device: "lab0", Feature: "tx-scatter-gather"}, Off{Device: "lab0", Feature: "tx-checksum-ip-generic"}
	since := func(all []Truth) []Truth {
		all[0].Since = "5.11"
		return all
	}
	return slices.Concat(
		burst{"macvlan-no-sg", "a macvlan on a device without scatter-gather", on(sg), small, lenders(), since(always(All, shows, "no-scatter-gather"))}.scenarios(),
		burst{"macvlan-no-csum", "a macvlan on a device without checksum offload", on(csum), small, lenders(), since(always(All, shows+", before they are summed", "checksum-pass", "no-tx-csum"))}.scenarios(),
		burst{"macvlan-no-csum", "a macvlan on a device without checksum offload", on(csum), small, []string{"write"}, always(All, udpCopies+"; it is summed below the macvlan", "api-copy", "checksum-pass")}.scenarios(),
		burst{"macvlan-tap", "a packet socket on the device below a macvlan", on(tap), small, lenders(), since(always(All, clone, "packet-tap"))}.scenarios(),
		gso,
	)
}

// mixedSources are payload that the kernel has written, over devices that lack
// something: it is copied again.
func mixedSources(noSG, noCsum Off) []Scenario {
	const (
		summed = "; pages that were spliced may be shared, and are linearized before they are summed"
		device = "; skb_segment copies it again"
		report = "a path's report is about what becomes of a pipe's pages, not how they were filled"
	)
	relay := func(id string, off Off, causes ...string) []Scenario {
		return with(family{id, "a connection that is passed on over a device that lacks something", []Step{Wire{}, Feeder{}, off}, []string{"splice"},
			always(All, "splice passes references on, and the device's lack is made up for by a copy", causes...)}.scenarios(), func(s *Scenario) { s.Traffic.Source = Connected })
	}
	pipe := func(id string, off Off, why string, causes ...string) []Scenario {
		return with(family{id, "a pipe that a program writes to, over a device that lacks something", []Step{Wire{}, off}, []string{"splice"},
			always(All, "write copies into the pipe"+why, causes...)}.scenarios(), func(s *Scenario) { s.Traffic.Source, s.Unpredicted = Written, report })
	}
	return slices.Concat(
		relay("relay-no-sg", noSG, "no-scatter-gather"), relay("relay-no-csum", noCsum, "checksum-pass", "no-tx-csum"),
		pipe("pipe-no-sg", noSG, device, "api-copy", "no-scatter-gather"), pipe("pipe-no-csum", noCsum, summed, "api-copy", "checksum-pass", "no-tx-csum"),
	)
}
