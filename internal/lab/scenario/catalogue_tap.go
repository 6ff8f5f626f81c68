package scenario

import "slices"

// tapScenarios are streams while somebody looks.
func tapScenarios() []Scenario {
	const (
		ip     = 0x0800 // ETH_P_IP
		clone  = "dev_queue_xmit_nit gives a clone to the packet socket, and skb_orphan_frags_rx copies lent pages for it (skb_copy_ubufs)"
		nobody = "nobody gets a clone of what the device sends"
		shared = "the clone for the packet socket refers to the same pages, which nobody waits for"
	)
	var out []Scenario
	for _, f := range []struct {
		id, summary string
		tap         Tap
		copies      bool
	}{
		{"tap-any", "a packet socket on any device", Tap{}, true},
		{"tap-device", "a packet socket on the device", Tap{Device: "lab0"}, true},
		{"tap-other", "a packet socket on another device", Tap{Device: "lo"}, false},
		{"tap-incoming", "a packet socket that ignores what is sent", Tap{Device: "lab0", IgnoreOutgoing: true}, false},
		{"tap-protocol", "a packet socket for one protocol, which gets what is received alone", Tap{Device: "lab0", Protocol: ip}, false},
	} {
		setUp := []Step{Wire{}, f.tap}
		if !f.copies {
			out = append(out, family{f.id, f.summary, setUp, slices.Concat(lenders(), []string{"sendfile"}), always(None, nobody)}.scenarios()...)
			continue
		}
		out = append(out, family{f.id, f.summary, setUp, lenders(), always(All, clone, "packet-tap")}.scenarios()...)
		out = append(out, family{f.id, f.summary, setUp, references(), always(None, shared)}.scenarios()...)
		out = append(out, family{f.id, f.summary, setUp, []string{"write"}, always(All, apiCopies, "api-copy")}.scenarios()...)
	}
	return out
}
