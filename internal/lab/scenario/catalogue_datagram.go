package scenario

import "slices"

// Sizes of datagrams where the MTU is 1500: one packet, and fragments. A small one
// lies in one page.
const (
	small = 1024
	over  = 8000
)

// datagrams is UDP traffic.
func datagrams(api string, size int) Traffic {
	// Package transmit splices no datagrams where odd parts are lost, and lends nothing
	// that is larger than the MTU.
	return Traffic{API: api, Protocol: "udp", Size: size, Count: few, Raw: api == "sendfile" || size == over && api == "msg_zerocopy"}
}

const udpCopies = "the call is made of a copy into the packet (ip_generic_getfrag)"

// A burst is UDP traffic of several APIs.
type burst struct {
	id, summary string
	setUp       []Step
	size        int
	apis        []string
	truths      []Truth
}

func (b burst) scenarios() []Scenario {
	var out []Scenario
	for _, api := range b.apis {
		out = append(out, Scenario{ID: b.id + "/" + api, Summary: b.summary, SetUp: b.setUp, Traffic: datagrams(api, b.size), Truths: b.truths})
	}
	return out
}

// spliced is what becomes of files that are sent by sendfile over UDP: none of it is
// copied since 6.5, all of it was before, and on 5.10 it was only summed.
func spliced(since Truth, before Truth, oldest Truth) []Truth {
	since.Since, before.Since, before.Before, oldest.Before = "6.5", "5.11", "6.5", "5.11"
	return []Truth{since, before, oldest}
}

// datagramScenarios are UDP.
func datagramScenarios() []Scenario {
	wire := []Step{Wire{}}
	gone := []Step{Swallow{}} // the wire counts no fragments, and a receiver's kernel may copy what it puts together
	noSG := []Step{Wire{}, Off{Device: "lab0", Feature: "tx-scatter-gather"}}
	noCsum := []Step{Wire{}, Off{Device: "lab0", Feature: "tx-checksum-ip-generic"}}
	write := []string{"write"}
	file := []string{"sendfile"}
	const (
		plain, lacksSG, lacksCsum = "datagrams of one packet", "datagrams over a device without scatter-gather", "datagrams over a device without checksum offload"
		looked                    = "__ip_append_data looks at the device of the route, and lends no pages where it lacks the feature"
		summed                    = "the kernel sums what it copies, as no device will"
	)
	return slices.Concat(
		burst{"udp", plain, wire, small, lenders(), lentDatagrams()}.scenarios(),
		burst{"udp", plain, wire, small, write, always(All, udpCopies, "api-copy")}.scenarios(),
		burst{"udp", plain, wire, small, file, spliced(
			Truth{Copied: None, Why: "ip_append_data takes references to the pages of the file (MSG_SPLICE_PAGES)"},
			Truth{Copied: All, Causes: []string{"udp-splice-copy"}, Why: "udp_sendpage hands the pages to udp_sendmsg, whose __ip_append_data copies them"},
			Truth{Copied: None, Causes: []string{"udp-splice-csum"}, Why: "ip_append_page refers to the pages and sums them"},
		)}.scenarios(),

		burst{"udp-over-mtu", "datagrams larger than the MTU", gone, over, []string{"msg_zerocopy"},
			always(All, "what is to be fragmented is copied and summed in the call (csummode of __ip_append_data)", "checksum-pass", "udp-over-mtu")}.scenarios(),
		burst{"udp-over-mtu", "datagrams larger than the MTU", gone, over, write, always(All, udpCopies+"; "+summed, "api-copy", "checksum-pass")}.scenarios(),
		segmented(wire), corked(wire),

		burst{"udp-no-sg", lacksSG, noSG, small, lenders(), always(All, looked, "no-scatter-gather")}.scenarios(),
		burst{"udp-no-sg", lacksSG, noSG, small, write, always(All, udpCopies, "api-copy")}.scenarios(),
		burst{"udp-no-sg", lacksSG, noSG, small, file, spliced(
			Truth{Copied: All, Causes: []string{"no-scatter-gather"}, Why: looked},
			Truth{Copied: All, Causes: []string{"udp-splice-copy"}, Why: "the pages are copied whatever the device can do"},
			Truth{Copied: All, Causes: []string{"checksum-pass", "no-scatter-gather"}, Why: looked + "; " + summed},
		)}.scenarios(),

		burst{"udp-no-csum", lacksCsum, noCsum, small, lenders(), always(All, looked+"; "+summed, "checksum-pass", "no-tx-csum")}.scenarios(),
		burst{"udp-no-csum", lacksCsum, noCsum, small, write, always(All, udpCopies+"; "+summed, "api-copy", "checksum-pass")}.scenarios(),
		burst{"udp-no-csum", lacksCsum, noCsum, small, file, spliced(
			Truth{Copied: None, Causes: []string{"udp-splice-csum"}, Why: "references to the pages of the file are kept, and summed in the call (skb_splice_csum_page)"},
			Truth{Copied: All, Causes: []string{"checksum-pass", "udp-splice-copy"}, Why: "udp_sendpage hands the pages to udp_sendmsg, whose __ip_append_data copies them; " + summed},
			Truth{Copied: None, Causes: []string{"udp-splice-csum"}, Why: "ip_append_page refers to the pages and sums them"},
		)}.scenarios(),
		virtualDatagrams(),
	)
}

// lentDatagrams is what becomes of datagrams of one packet in memory that is lent.
func lentDatagrams() []Truth {
	return []Truth{{Since: "5.11", Copied: None, Why: "__ip_append_data refers to the pages (__zerocopy_sg_from_iter), and puts headers alone into the head"}}
}

func segmented(wire []Step) []Scenario {
	t := Traffic{API: "msg_zerocopy", Protocol: "udp", Size: 42_000, Count: few, Segment: 1400}
	return []Scenario{{
		ID: "udp-gso/msg_zerocopy", Summary: "datagrams that the device cuts (UDP_SEGMENT)", SetUp: wire, Traffic: t, Truths: lentDatagrams(),
	}}
}

func corked(wire []Step) []Scenario {
	t := datagrams("msg_zerocopy", 400)
	t.Cork = 2
	return []Scenario{{
		ID: "udp-corked/msg_zerocopy", Summary: "datagrams that are put together (UDP_CORK)", SetUp: wire, Traffic: t,
		Truths:      always(All, "while more is to come no device may sum, so the pages are copied and summed in the call (csummode of __ip_append_data with MSG_MORE)", "checksum-pass", "udp-corked"),
		Unpredicted: "a path does not tell what options a program will set",
	}}
}

// virtualDatagrams go to devices that take no streams here.
func virtualDatagrams() []Scenario {
	tun := []Step{Tun{}}
	const reads = "tun_net_xmit copies lent pages, and the program that reads the device copies everything; the device sums nothing"
	return slices.Concat(
		burst{"macvlan", "a macvlan on a device that can do everything", []Step{Macvlan{}}, small, lenders(), lentDatagrams()}.scenarios(),
		burst{"swallow", "a device ifb that frees what it is given", []Step{Swallow{}}, small, lenders(), lentDatagrams()}.scenarios(),
		burst{"tun", "a tun device that a program reads", tun, small, lenders(), always(All, reads, "checksum-pass", "no-tx-csum", "tun-tap")}.scenarios(),
		burst{"tun", "a tun device that a program reads", tun, small, []string{"write"}, always(All, reads+"; and the call copies", "api-copy", "checksum-pass", "tun-tap")}.scenarios(),
	)
}
