package scenario

import "slices"

// The traffic of most scenarios: few sends, as a sender that is told of copies again
// and again begins to copy by itself.
const (
	large = 64 << 10 // bytes, 45 packets
	few   = 8        // sends
)

// stream is TCP traffic.
func stream(api string) Traffic { return Traffic{API: api, Protocol: "tcp", Size: large, Count: few} }

// lenders send memory that the kernel keeps until it says so.
func lenders() []string { return []string{"msg_zerocopy", "io_uring_send_zc"} }

// references send references to pages, and nobody is told when they are let go.
func references() []string { return []string{"sendfile", "splice", "vmsplice"} }

// copiers are APIs that are made of a copy.
func copiers() []string { return []string{"write", "writev", "io_uring_send"} }

const apiCopies = "the call is made of a copy into pages of the socket (tcp_sendmsg_locked)"

// A family makes scenarios of one set-up, one for each API.
type family struct {
	id, summary string
	setUp       []Step
	apis        []string
	truths      []Truth
}

func (f family) scenarios() []Scenario {
	var out []Scenario
	for _, api := range f.apis {
		out = append(out, Scenario{ID: f.id + "/" + api, Summary: f.summary, SetUp: f.setUp, Traffic: stream(api), Truths: f.truths})
	}
	return out
}

// always is a truth of all kernels.
func always(copied float64, why string, causes ...string) []Truth {
	slices.Sort(causes)
	return []Truth{{Copied: copied, Causes: causes, Why: why}}
}

// pathScenarios are streams over one device and what it can do.
func pathScenarios() []Scenario {
	var out []Scenario
	plain := []Step{Wire{}}
	out = append(out, family{"plain", "a device that can do everything", plain, lenders(), always(None,
		"the pages go to the device as they are; the peer frees them without an IP stack, and completions of a card say the same")}.scenarios()...)
	out = append(out, family{"plain", "a device that can do everything", plain, references(), always(None,
		"the packets refer to pages of the file or of the process, at net_dev_start_xmit too")}.scenarios()...)
	out = append(out, family{"plain", "a device that can do everything", plain, copiers(), always(All, apiCopies, "api-copy")}.scenarios()...)

	noSG := []Step{Wire{}, Off{Device: "lab0", Feature: "tx-scatter-gather"}}
	linear := "TCP builds packets as if every device had scatter-gather (sk_setup_caps); skb_segment and __skb_linearize copy all of it"
	out = append(out, family{"no-sg", "a device without scatter-gather", noSG, slices.Concat(lenders(), references()),
		always(All, linear, "no-scatter-gather")}.scenarios()...)
	out = append(out, family{"no-sg", "a device without scatter-gather", noSG, []string{"write"},
		always(All, linear+", after the copy of the call", "api-copy", "no-scatter-gather")}.scenarios()...)

	noCsum := []Step{Wire{}, Off{Device: "lab0", Feature: "tx-checksum-ip-generic"}}
	out = append(out, family{"no-csum", "a device without checksum offload", noCsum, slices.Concat(lenders(), references()),
		always(All, "pages that may change are linearized before they are summed (__pskb_pull_tail of skb_segment and skb_checksum_help), all 1024K of 1024K were",
			"checksum-pass", "no-tx-csum")}.scenarios()...)
	out = append(out, family{"no-csum", "a device without checksum offload", noCsum, []string{"write"},
		always(All, "the call copies, and nobody else has the pages: they are summed where they are", "api-copy", "checksum-pass")}.scenarios()...)

	why := "skb_segment moves references to pages, and copies headers alone: 0 bytes copied by five drivers on five kernels"
	out = append(out, family{"no-tso", "a device without TCP segmentation", []Step{Wire{}, Off{Device: "lab0", Feature: "tx-tcp-segmentation"}},
		slices.Concat(lenders(), references()), always(None, why)}.scenarios()...)
	out = append(out, family{"no-gso", "a device for which TCP sends no large packets", []Step{Wire{},
		Off{Device: "lab0", Feature: "tx-tcp-segmentation"}, Off{Device: "lab0", Feature: "tx-generic-segmentation"}},
		slices.Concat(lenders(), references()), always(None, why)}.scenarios()...)
	return out
}

// raw makes scenarios send by system calls of the lab's own.
func raw(all []Scenario) []Scenario {
	for i := range all {
		all[i].Traffic.Raw = true
	}
	return all
}
