package scenario

import "slices"

// sourceScenarios are streams over a device that can do everything, from where
// payload can lie.
func sourceScenarios() []Scenario {
	wire := []Step{Wire{}}
	files := []string{"sendfile", "splice"}
	from := func(id, summary string, source Source, apis []string, truths []Truth) []Scenario {
		return with(family{id, summary, wire, apis, truths}.scenarios(), func(s *Scenario) { s.Traffic.Source = source })
	}
	const (
		cached    = "the packets refer to pages of the page cache"
		cacheless = "a path's report is about files that have a page cache"
	)
	return slices.Concat(
		from("mapped", "a file in memory that is mapped", "", []string{"mmap_zerocopy"},
			always(None, "MSG_ZEROCOPY refers to the pages that are mapped, and they are those of the file")),
		from("tmpfs", "a file of tmpfs", InTmpfs, files, always(None, cached)),
		from("disk", "a file of a disk", OnDisk, append(files, "mmap_zerocopy"), always(None, cached)),
		with(from("zero", "/dev/zero", Zero, files, []Truth{{Since: "6.5", Copied: All, Causes: []string{"copy-splice-read"},
			Why: "the file has no page cache, and copy_splice_read lets it write to pages of its own"}}), func(s *Scenario) { s.Unpredicted = cacheless }),
		with(from("procfs", "a file of procfs", Procfs, files, always(All,
			"the file has no page cache, and writes to pages of its own (copy_splice_read, and generic_file_splice_read before 6.5)", "copy-splice-read")),
			func(s *Scenario) {
				s.Traffic.Size = 64
				s.Unpredicted = cacheless
			}),
		with(from("pipe-written", "a pipe that a program writes to", Written, []string{"splice"},
			always(All, "write copies into the pipe, and splice sends the pages of the pipe", "api-copy")),
			func(s *Scenario) {
				s.Unpredicted = "a path's report is about what becomes of a pipe's pages, not how they were filled"
			}),
		with(from("direct", "a file of a disk that is open with O_DIRECT", Direct, files, always(None,
			"the device writes to pages of the kernel's (copy_splice_read), and the processor copies nothing")),
			func(s *Scenario) {
				s.Unpredicted = cacheless
				s.Unobserved = "pages that were read past the page cache look the same whether the processor or a device has written to them: it is told as unknown"
			}),
		with(family{"huge", "memory in huge pages of the reserve", []Step{Wire{}, HugePages{1}}, []string{"msg_zerocopy", "io_uring_send_zc"},
			always(None, "the packets refer to the huge page, of which one fragment holds all (zerocopy_fill_skb_from_iter)")}.scenarios(),
			func(s *Scenario) { s.Traffic.Source = Huge }),
		relayed(),
	)
}

// relayed are streams that are passed on from another connection.
func relayed() []Scenario {
	relay := func(id, summary string, setUp []Step, truths []Truth, change func(*Scenario)) []Scenario {
		return with(family{id, summary, setUp, []string{"splice"}, truths}.scenarios(), func(s *Scenario) {
			s.Traffic.Source = Connected
			change(s)
		})
	}
	return slices.Concat(
		relay("relay", "a connection that is passed on", []Step{Wire{}, Feeder{}},
			always(None, "what comes lies in fragments, and splice passes references to them"), func(*Scenario) {}),
		relay("relay-linear", "a connection that is passed on, of which packets lie in their heads",
			[]Step{Wire{}, Feeder{}, Off{At: AtFeeder, Device: "f0", Feature: "tx-scatter-gather"}},
			always(All, "the head of a packet is memory that cannot be referred to, and is copied into a page (linear_to_page)", "socket-linear-splice"),
			func(s *Scenario) {
				s.Unpredicted = "how packets lie that will be received is up to the device that receives them"
				s.Unobserved = "payload is followed from the socket that sends it on, and linear_to_page, which has no symbol, copies where it is received"
			}),
	)
}

// unixScenarios are streams to a program of this machine that need no network. They
// fit into the buffers of the sockets, as the peer reads at the end.
func unixScenarios() []Scenario {
	const summary = "a unix socket"
	pair := []Step{UnixPair{}}
	return with(slices.Concat(
		family{"unix", summary, pair, []string{"write"}, always(All, "unix_stream_sendmsg copies into packets of its own", "api-copy")}.scenarios(),
		family{"unix", summary, pair, references(), always(None,
			"the packets refer to the pages (unix_stream_sendpage, and skb_splice_from_iter since 6.5)")}.scenarios(),
		family{"unix", summary, pair, []string{"msg_zerocopy"}, []Truth{{Copied: All, Causes: []string{"non-zc-proto"}, Refused: "non-zc-proto",
			Why: "unix sockets have no SO_ZEROCOPY, and the call copies"}}}.scenarios(),
	), func(s *Scenario) {
		s.Traffic.Protocol, s.Traffic.Size, s.Traffic.Count = "unix", 2*page, 4
		s.Unpredicted = "a path's report is about devices of the network"
		s.Unobserved = "TCP and UDP sockets are looked at, and no others; what the peer reads after the source was changed shows it instead"
	})
}
