package ebpf

import "errors"

// A Tier is a way to look into the kernel. Each sees what its hooks can.
type Tier string

// The tiers, the one that sees most first.
const (
	TierFentry     Tier = "fentry"     // entry and exit of kernel functions
	TierKprobe     Tier = "kprobe"     // the same by breakpoints
	TierTracepoint Tier = "tracepoint" // places that the kernel marks for it
	TierNone       Tier = "none"       // no BPF
)

// Tiers returns all tiers in the order in which they are tried.
func Tiers() []Tier { return []Tier{TierFentry, TierKprobe, TierTracepoint, TierNone} }

// A Hook is a place in the kernel that the tracer looks at.
type Hook struct {
	Name     string // "tcp_sendmsg_locked"
	Tier     Tier
	Purpose  string // what is learnt there
	Runs     string // how often it runs, which is what it costs
	Blind    string // what cannot be seen without it
	Since    string // the first kernel known to have it
	Attached bool
	when     phase
	takes    int    // arguments of the tracepoint that the program needs, if others exist
	instead  string // the program where it has fewer
	Err      error  // why not, if it is not; matches errors.ErrUnsupported or fs.ErrPermission where that is why
}

// A phase says when a hook is attached by a tracer that samples, and in which
// order: what looks at sends last, so that no packet is met before its send.
type phase uint8

const (
	always   phase = iota // each connection passes it few times
	arriving              // while what was seen leaving may yet arrive
	leaving               // while payload is looked at
)

// errNoTracepoint is what a hook that the kernel has not says.
var errNoTracepoint = errors.New("the kernel has no such tracepoint")

// errNotTried is what hooks of a tier say that was not tried.
var errNotTried = errors.New("not tried")

// tracepoints are the hooks of the tier of tracepoints. The name of a hook is
// that of its program, too. They are attached in the order of the table.
func tracepoints() []Hook {
	return []Hook{
		{Name: "sched_process_fork", Purpose: "children of the processes looked at",
			Runs: "each fork", Blind: "children", Since: "5.10"},
		{Name: "inet_sock_set_state", Purpose: "how much a connection sent while nobody looked",
			Runs: "each connection, a few times", Blind: "bytes of short connections between samples", Since: "5.10"},
		{Name: "tcp_destroy_sock", Purpose: "the end of a socket",
			Runs: "each connection", Blind: "that a socket is another with the same address in memory", Since: "5.10"},
		{Name: "kfree_skb", Purpose: "packets that were dropped, and where",
			Runs: "each dropped packet", Blind: "that packets under way are gone", Since: "5.10", when: arriving},
		{Name: "consume_skb", Purpose: "packets that were used up, and where",
			Runs: "each packet", Blind: "copies by drivers and for XDP programs", Since: "6.3 with the place", when: arriving,
			takes: 2, instead: "consume_skb_nowhere"},
		{Name: "skb_copy_datagram_iovec", Purpose: "payload that is read by a process of this machine",
			Runs: "each read of a packet", Blind: "copies on delivery over UDP, readers of tun devices", Since: "5.10", when: arriving},
		{Name: "tcp_probe", Purpose: "payload that reaches a TCP socket of this machine",
			Runs: "each TCP packet received", Blind: "copies on delivery over TCP", Since: "5.10", when: arriving},
		{Name: "netif_receive_skb", Purpose: "packets that enter a stack of this machine",
			Runs: "each packet received", Blind: "packet sockets on the receiving side", Since: "5.10", when: arriving},
		{Name: "net_dev_queue", Purpose: "which memory payload lies in when it comes to a device",
			Runs: "each packet and device", Blind: "everything", Since: "5.10", when: leaving},
		{Name: "net_dev_start_xmit", Purpose: "which memory it lies in at the driver's door",
			Runs: "each packet and device", Blind: "everything", Since: "5.10", when: leaving},
		{Name: "io_uring_submit_req", Purpose: "which operation io_uring works on",
			Runs: "each io_uring request", Blind: "MSG_ZEROCOPY told from plain sends over UDP by io_uring", Since: "6.4", when: leaving},
		{Name: "sock_send_length", Purpose: "how much the kernel accepted, by which API, from whom",
			Runs: "each send", Blind: "datagrams that come to no device, and which call sent what where a socket mixes calls", Since: "6.7", when: leaving},
		{Name: "tcp_sendmsg_locked", Purpose: "by which API each part of a TCP stream is sent",
			Runs: "each send, once for each packet it fills", Blind: "what TCP sockets send by which API", Since: "6.16", when: leaving},
	}
}

// blind says what the tier of tracepoints cannot see with all its hooks.
func blind(t Tier) []string {
	switch t {
	case TierFentry, TierKprobe:
		return blindFunctions()
	case TierNone:
		return blindWithoutBPF()
	}
	return []string{
		"copies that drivers make of packets they free without a trace, and by the IOMMU's bounce buffers",
		"the source of what was spliced into a pipe by an earlier call, beyond its kind",
		"whether a disk or the processor has written what was read past the page cache (O_DIRECT): that is unknown",
		"copies that come back with timestamps after a packet is acknowledged, or of io_uring's sends: those are unknown",
		"payload of sockets other than TCP and UDP",
	}
}
