package scenario

import (
	"slices"
	"time"
)

const (
	delivered = "lent pages are copied where they enter an IP stack of this machine (skb_orphan_frags_rx), before a socket gets them"
	referred  = "a socket of this machine gets references to the pages, and reading them is the receiver's copy"
)

// deviceScenarios are streams over devices of this machine.
func deviceScenarios() []Scenario {
	local := always(All, delivered, "loopback-delivery")
	var out []Scenario
	for _, f := range []struct {
		id, summary string
		setUp       []Step
		lent        []Truth
	}{
		{"loopback", "a program on this machine, at 127.0.0.1", []Step{Loopback{}}, local},
		{"own-address", "a program on this machine, at an address of a device", []Step{OwnAddress{}}, local},
		{"veth", "a program in another namespace", []Step{Veth{}}, local},
		{"bridge", "a program in another namespace, behind a bridge of the sender's", []Step{Bridge{}}, local},
		{"veth-routed", "a program in another namespace, behind a router on this machine", []Step{Routed{}}, []Truth{
			{Before: "6.13", Copied: All, Causes: []string{"veth-routed-ingress"},
				Why: "lent pages are copied where the router receives them: __netif_receive_skb_core knows not yet that they go on"},
			{Since: "6.13", Copied: All, Causes: []string{"loopback-delivery"},
				Why: "the router forwards the pages, and they are copied where they are delivered (ip_local_deliver_finish)"},
		}},
	} {
		out = append(out, family{f.id, f.summary, f.setUp, lenders(), f.lent}.scenarios()...)
		// Package transmit sends no references to a peer on this machine where it cannot
		// be told what that has read (sock_diag).
		out = append(out, raw(family{f.id, f.summary, f.setUp, references(), always(None, referred)}.scenarios())...)
		out = append(out, family{f.id, f.summary, f.setUp, []string{"write"}, always(All, apiCopies, "api-copy")}.scenarios()...)
	}
	for _, f := range []struct {
		id, summary, cause, why string
		generic                 bool
	}{
		{"xdp-native", "a native XDP program on the receiving end of a veth pair", "veth-xdp",
			"veth_convert_skb_to_xdp_buff copies what lies in fragments or is shared, before the program runs", false},
		{"xdp-generic", "a generic XDP program on the receiving end of a veth pair", "xdp-generic",
			"netif_receive_generic_xdp copies what lies in fragments or is shared, before the program runs", true},
	} {
		setUp := []Step{Veth{}, XDP{At: AtPeer, Device: "v1", Generic: f.generic}}
		out = append(out, family{f.id, f.summary, setUp, slices.Concat(lenders(), references()), always(All, f.why, f.cause)}.scenarios()...)
		out = append(out, family{f.id, f.summary, setUp, []string{"write"}, always(All, f.why+"; and the call copies", "api-copy", f.cause)}.scenarios()...)
	}
	const queued = "a queueing discipline keeps packets, or cuts them by moving references (skb_gso_segment with scatter-gather)"
	for _, f := range []family{
		{id: "netem", summary: "a delay of a millisecond on the device", setUp: []Step{Wire{}, Netem{Device: "lab0", Delay: time.Millisecond}}},
		{id: "tbf", summary: "a token bucket on the device that is smaller than a large packet", setUp: []Step{Wire{}, TokenBucket{Device: "lab0", Rate: 50e6, Burst: 10_000}}},
	} {
		f.apis, f.truths = slices.Concat(lenders(), references()), always(None, queued)
		out = append(out, f.scenarios()...)
	}
	return out
}
