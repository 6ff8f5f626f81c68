// Package lab makes the places in which facts about zero-copy transmission can
// be proven on one machine.
//
// # The sink
//
// On loopback, and over a veth pair to a socket, the kernel copies every
// zero-copy send when it is received: benchmarks there give the opposite of the
// answer. A [Sink] is a peer at the other end of a veth pair whose payload is
// never delivered, so nothing is copied, and MSG_ZEROCOPY completes as it does
// on a network card: SO_EE_CODE_ZEROCOPY_COPIED not set.
//
//	sender's namespace          the sink's namespace
//	socket ── lab0 ═══════════ lab1 ── take: counts and frees what arrives
//	             ╚════════════════════ acker: a thread that sends the answers
//
// Two BPF programs are the sink, and neither reads payload. One, at tc ingress of
// the far device, keeps the state of each connection and frees the packet. The
// other is run by a thread of this process, through BPF_PROG_TEST_RUN, and sends
// what the first one wants sent, with bpf_clone_redirect. It must be a packet of
// its own: what arrives is a clone that shares the sender's pages, so both
// trimming it to its headers and sending it back into an IP stack copy them, or
// make the kernel say so.
//
// The thread sleeps when there is nothing to answer. While it is awake it looks
// for work without a break, for 50 microseconds after the last, and takes a CPU.
//
// # How it speaks TCP
//
// Any port is open. The sink says nothing but SYN, ACK, FIN and RST: it closes
// its direction when the sender has closed the other, or on [Sink.Finish], and
// resets on [Sink.Reset]. Its MSS is that of the MTU; its window is large and,
// unless it holds ([Sink.Hold]), always open; it uses window scaling, and neither
// timestamps nor SACK. ACKs are cumulative and gather for 5 microseconds, as they
// would behind a network card. Segments may come in any order: up to eight ranges
// behind holes are kept, and nothing beyond a hole is acknowledged before the
// hole is filled. As the kernel sends from two CPUs at a time and so reorders,
// duplicate ACKs are sent only once 32 segments have come after a hole.
//
// In the sender's namespace tail loss probes are off, and retransmission takes a
// second instead of 200 milliseconds: a busy machine lets the acker wait for its
// CPU that long, and packets are hardly ever lost here. All else is as the kernel
// makes it in a new namespace, and may be changed there; see [Sink.Do].
//
// # What makes it lie
//
// A packet tap (tcpdump) in the sender's namespace, or on kernels to 6.12 one on
// all devices in any, makes the kernel copy, as does an XDP program on lab0. With
// scatter-gather or checksum offload off on lab0 it copies too, and with
// scatter-gather off does not say so. These are no defects of the sink: they are
// what the lab is there to show.
//
// # What is left behind
//
// Nothing. The namespaces have no names and nothing is pinned, so that the kernel
// removes it all with the process, even one that is killed.
package lab
