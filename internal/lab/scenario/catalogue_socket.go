package scenario

import "slices"

const (
	// tiny is a send of which most is headers, in bytes.
	tiny = 100
	// page is the size of a page of the machines that the lab runs on, at least.
	page = 4 << 10
)

// with makes scenarios differ from those of a family.
func with(all []Scenario, change func(*Scenario)) []Scenario {
	for i := range all {
		change(&all[i])
	}
	return all
}

// socketScenarios are about how much is sent at once, and options of the socket.
func socketScenarios() []Scenario {
	wire := []Step{Wire{}}
	const asked = "a path does not tell what options a program sets"
	return slices.Concat(
		with(slices.Concat(
			family{"small", "sends of 100 bytes", wire, slices.Concat(lenders(), references()),
				always(None, "the kernel has no size below which it copies: tcp_sendmsg_locked refers to the page that holds the bytes")}.scenarios(),
			family{"small", "sends of 100 bytes", wire, copiers(), always(All, apiCopies, "api-copy")}.scenarios(),
		), func(s *Scenario) { s.Traffic.Size = tiny }),

		with(family{"no-option", "MSG_ZEROCOPY on a socket without SO_ZEROCOPY", wire, []string{"msg_zerocopy"},
			always(All, "tcp_sendmsg_locked ignores the flag, and no completion comes", "no-so-zerocopy")}.scenarios(),
			func(s *Scenario) {
				s.Traffic.Socket.NoOption, s.Traffic.Raw, s.Unpredicted = true, true, asked
			}),

		stamped(wire, asked),
		ringScenarios(wire),

		with(family{"mptcp", "a socket of MPTCP", []Step{Multipath{}}, []string{"msg_zerocopy", "write"},
			always(All, "mptcp_sendmsg copies into pages of its own, and takes no MSG_ZEROCOPY", "mptcp")}.scenarios(),
			func(s *Scenario) {
				s.Traffic.Socket.Multipath = true
				s.Unpredicted = "a path's report has no rows for MPTCP"
				s.Unobserved, s.Blind = "the sockets of the subflows send, and no program has called them", []string{"fentry", "kprobe", "none"}
				if s.Traffic.API == "msg_zerocopy" {
					s.Unobserved, s.Blind = "what is refused is written instead, and the copy is the call's own", nil
				}
				switch s.Traffic.API {
				case "write":
					s.Truths = always(All, "mptcp_sendmsg copies into pages of its own", "api-copy")
				default:
					s.Truths[0].Refused = "mptcp"
				}
			}),

		fragmented(),
	)
}

// stamped are sends of which a timestamp is asked for. They are datagrams, since of a
// stream the packet with the last byte of a send is stamped alone.
func stamped(wire []Step, asked string) []Scenario {
	var out []Scenario
	for _, f := range []struct {
		id, summary string
		socket      Socket
		copied      bool
	}{
		{"tx-timestamp", "a timestamp of each send, with the packet", Socket{Timestamps: true}, true},
		{"tx-timestamp-headers", "a timestamp of each send, without the packet (OPT_TSONLY)", Socket{HeadersAlone: true}, false},
	} {
		b := burst{f.id, f.summary, wire, small, lenders(), lentDatagrams()}
		if f.copied {
			b.truths = []Truth{{Since: "5.11", Copied: All, Causes: []string{"tx-timestamp"},
				Why: "__skb_tstamp_tx gives a clone to the error queue, and skb_orphan_frags_rx copies lent pages for it (skb_copy_ubufs)"}}
		}
		out = append(out, with(b.scenarios(), func(s *Scenario) {
			s.Traffic.Socket = f.socket
			if f.copied {
				s.Unpredicted = asked
				s.Unobserved, s.Blind = "what becomes of packets is not followed without BPF", []string{"none"}
				if s.Traffic.API == "io_uring_send_zc" {
					s.Unobserved, s.Blind = "the tier of tracepoints sees the clones made for timestamps in the notices of MSG_ZEROCOPY alone, and calls this unknown", []string{"tracepoint", "none"}
				}
			}
		})...)
	}
	return out
}

// ringScenarios are variants of io_uring.
func ringScenarios(wire []Step) []Scenario {
	all := func(id, summary, why string, change func(*Traffic)) []Scenario {
		return with(family{id, summary, wire, []string{"io_uring_send_zc"}, always(None, why)}.scenarios(),
			func(s *Scenario) { change(&s.Traffic) })
	}
	return slices.Concat(
		all("fixed-buffers", "memory that is registered with the ring",
			"io_sg_from_iter refers to the pages that were pinned when they were registered", func(t *Traffic) { t.Registered = true }),
		all("sendmsg-zc", "several pieces of memory in one request",
			"io_sendmsg_zc refers to the pages of each piece", func(t *Traffic) { t.Parts = 4 }),
	)
}

// fragmented are datagrams that a router on this machine cuts.
func fragmented() []Scenario {
	setUp := []Step{Routed{}, Narrow{At: AtRouter, Device: "r1", MTU: 1000}}
	const (
		cut    = "ip_do_fragment of the router sums the packet first, as no device can sum fragments (skb_checksum_help), and ip_frag_next copies each fragment (skb_copy_bits)"
		blind  = "packets leave the router in others, which have no socket"
		change = "a path's report tells the MTU of each hop, and not what becomes of datagrams that may be cut"
	)
	summary := "datagrams that a router on this machine cuts"
	return with(slices.Concat(
		burst{"ip-fragment", summary, setUp, 1400, []string{"msg_zerocopy"}, []Truth{
			{Since: "5.11", Before: "6.13", Copied: All, Causes: []string{"checksum-pass", "ip-fragment", "veth-routed-ingress"},
				Why: cut + "; lent pages were copied where the router received them"},
			{Since: "6.13", Copied: All, Causes: []string{"checksum-pass", "ip-fragment"}, Why: cut},
		}}.scenarios(),
		burst{"ip-fragment", summary, setUp, 1400, []string{"write"}, always(All, udpCopies+"; "+cut, "api-copy", "checksum-pass", "ip-fragment")}.scenarios(),
	), func(s *Scenario) {
		s.Traffic.Socket.Fragments, s.Unpredicted, s.Unobserved = true, change, blind
	})
}

// limitScenarios are senders that may lock little memory, or have little memory for
// completions.
func limitScenarios() []Scenario {
	const (
		pages  = "mm_account_pinned_pages charges two pages more than a send has to the user, and "
		option = "sock_omalloc finds no room for a completion"
	)
	lent := []string{"msg_zerocopy"}
	refused := func(id, why string) []Truth {
		return []Truth{{Copied: All, Causes: []string{"api-copy"}, Refused: id, Why: why + ": the kernel answers ENOBUFS, and the sender writes"}}
	}
	return slices.Concat(
		family{"memlock-0", "a user who may lock no memory", []Step{Wire{}, Memlock{0}}, lent, refused("memlock-limit", pages+"the limit is none")}.scenarios(),
		// Package transmit lends in smaller pieces there, which is another matter.
		with(family{"memlock-64K", "a user who may lock as much memory as one send has", []Step{Wire{}, Memlock{64 << 10}}, lent,
			refused("memlock-limit", pages+"the limit is that of the send")}.scenarios(), func(s *Scenario) { s.Traffic.Raw = true }),
		with(family{"memlock-64K-small", "a user who may lock more memory than one send has", []Step{Wire{}, Memlock{64 << 10}}, lent,
			always(None, pages+"that is within the limit")}.scenarios(), func(s *Scenario) {
			s.Traffic.Size = 8 * page
			s.Unpredicted = "the check of the limit is about sends of 64 KiB, and says from which size on they fail"
		}),
		family{"memlock-1M", "a user who may lock as much memory as a dozen sends have", []Step{Wire{}, Memlock{1 << 20}}, lent,
			always(None, pages+"that is within the limit while one send waits for the next")}.scenarios(),
		family{"optmem", "no option memory for a completion", []Step{Wire{}, Sysctl{Name: "net.core.optmem_max", Value: "256"}}, lent,
			refused("optmem-limit", option)}.scenarios(),
	)
}
