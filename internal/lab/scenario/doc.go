// Package scenario is the laboratory: transfers of which the truth is known, and
// the comparison of all that the project says about them.
//
// A [Scenario] is data: a set-up, one kind of traffic, and for each range of
// kernels what becomes of the payload and why that is known. A new one is a few
// lines in a catalogue file:
//
//	{
//		ID:      "no-sg/sendfile",
//		Summary: "a device without scatter-gather",
//		SetUp:   []Step{Wire{}, Off{Device: "lab0", Feature: "tx-scatter-gather"}},
//		Traffic: Traffic{API: "sendfile", Protocol: "tcp", Size: 64 << 10, Count: 8},
//		Truths: []Truth{{
//			Copied: All,
//			Causes: []string{"no-scatter-gather"},
//			Why:    "TCP builds packets as if every device had scatter-gather, and skb_segment copies them into linear ones.",
//		}},
//	}
//
// [Read] reads the same from files, which [List] prints: strictly, within bounds, and
// with errors that name the scenario and the field. The files of others can ask for
// nothing that the catalogue could not, and outside of the lab's namespaces change
// nothing without [Options].Disturb.
//
// The first step of a set-up is a place ([Wire], [Loopback], [Veth] and so on): it
// makes the network namespaces, and says where the traffic goes. The steps after
// it change the place. Scenarios with the same set-up share it, so they stand next
// to each other in the catalogue.
//
// # Four words on one transfer
//
//   - expected: the [Truth] of the running kernel, from the kernel's source or from
//     an independent measurement. It is never taken from what the project says.
//   - predicted: package probe, run inside the sender's namespace: the row of the
//     path's report for the API, protocol and size.
//   - reported: what the kernel's completions told package transmit.
//   - observed: what package ebpf saw, exactly, in the best tier there is.
//
// [Judge] compares them. Bytes are compared within one in a hundred, as a segment
// can be sent twice; causes are compared as sets of ids. Where three agree, the
// fourth is wrong, and the finding names its layer. A completion that is known to
// say less than the truth is explained, and no failure.
//
// Where neither a prediction nor the tracer can know, another witness must: completions,
// what the peer of a unix socket got after its source was changed, or whose the blocks
// of a copied file are. A scenario of which nobody says anything is skipped.
//
// # Kernels
//
// Truths have ranges of kernels, and nothing else has: whether the machine has what
// a set-up needs is found by trying, and what it lacks skips the scenario with the
// kernel's own words.
//
// # What is left behind
//
// Nothing: namespaces have no names and are held by descriptors and threads, BPF
// is attached by links and never pinned. The kernel removes it all with the process,
// however that ends. What others could notice is done only if asked for; see
// [Options].Disturb.
package scenario
