package ebpf

// A function is a hook of the tiers of functions. Its name is that of its
// program, too.
type function struct {
	Hook
	essential bool   // without it the tier is no use
	instead   string // the kernel has no use for the hook if it has this function
	otherwise string // the hook that sees the same where the kernel has not this function
	module    string // that has the function; nothing runs there while it is not loaded
	refused   bool   // by the kernel, when it was loaded
}

// functions are the hooks of the tiers fentry and kprobe.
func functions() []function {
	return []function{
		{Hook: Hook{Name: "tcp_sendmsg_locked", Purpose: "how much the kernel accepted over TCP, by which API, from whom",
			Runs: "each send", Blind: "TCP", Since: "5.10"}, essential: true},
		{Hook: Hook{Name: "do_tcp_sendpages", Purpose: "the same for pages that splice and sendfile hand over",
			Runs: "each page", Blind: "sendfile and splice to TCP sockets", Since: "5.10, until 6.4"}, instead: "splice_to_socket"},
		{Hook: Hook{Name: "skb_zerocopy_iter_stream", Purpose: "that pages of the application were taken, and which packets hold them",
			Runs: "each packet filled from such pages", Blind: "MSG_ZEROCOPY over TCP", Since: "5.10"}, essential: true},
		{Hook: Hook{Name: "udp_sendmsg", Purpose: "by which API datagrams are sent",
			Runs: "each send", Blind: "by which API datagrams are sent over IPv4", Since: "5.10"}},
		{Hook: Hook{Name: "udpv6_sendmsg", Purpose: "by which API datagrams are sent",
			Runs: "each send", Blind: "by which API datagrams are sent over IPv6", Since: "5.10"}},
		{Hook: Hook{Name: "udp_send_skb", Purpose: "how much is sent over UDP, from which memory, to which device",
			Runs: "each datagram", Blind: "UDP over IPv4", Since: "5.10"}},
		{Hook: Hook{Name: "udp_v6_send_skb", Purpose: "how much is sent over UDP, from which memory, to which device",
			Runs: "each datagram", Blind: "UDP over IPv6", Since: "5.10"}},
		{Hook: Hook{Name: "tcp_shutdown", Purpose: "the end of a stream",
			Runs: "each connection that is shut down", Blind: "the last bytes of streams that are shut down", Since: "5.10"}},
		{Hook: Hook{Name: "tcp_close", Purpose: "the end of a stream",
			Runs: "each connection", Blind: "the last bytes of connections", Since: "5.10"}},
		{Hook: Hook{Name: "tcp_v4_destroy_sock", Purpose: "the end of a socket",
			Runs: "each connection", Blind: "that a TCP socket is another with the same address in memory", Since: "5.10"}},
		{Hook: Hook{Name: "udp_destroy_sock", Purpose: "the end of a socket",
			Runs: "each socket", Blind: "that a UDP socket is another with the same address in memory", Since: "5.10"}},
		{Hook: Hook{Name: "udpv6_destroy_sock", Purpose: "the end of a socket",
			Runs: "each socket", Blind: "that a UDP socket is another with the same address in memory", Since: "5.10"}},
		{Hook: Hook{Name: "skb_segment", Purpose: "packets that are cut up in software, and whether that copies",
			Runs: "each packet that is cut up", Blind: "software segmentation", Since: "5.10"}, essential: true},
		{Hook: Hook{Name: "__pskb_pull_tail", Purpose: "packets that are made linear",
			Runs: "each packet whose head is extended", Blind: "packets that are made linear", Since: "5.10"}, essential: true},
		{Hook: Hook{Name: "skb_copy_ubufs", Purpose: "pages of the application that are made private",
			Runs: "each such copy", Blind: "packet sockets, delivery on this machine", Since: "5.10"}, essential: true},
		{Hook: Hook{Name: "skb_checksum_help", Purpose: "checksums in software",
			Runs: "each such checksum", Blind: "checksums in software", Since: "5.10"}},
		{Hook: Hook{Name: "skb_pp_cow_data", Purpose: "copies for XDP programs",
			Runs: "each such copy", Blind: "copies for XDP programs of veth devices", Since: "6.12"}, otherwise: "skb_copy_header"},
		{Hook: Hook{Name: "skb_copy_header", Purpose: "copies for XDP programs",
			Runs: "each such copy, and some of whole packets", Blind: "copies for XDP programs of veth devices", Since: "5.10"},
			instead: "skb_pp_cow_data"},
		{Hook: Hook{Name: "tun_net_xmit", Purpose: "packets that a program reads from a tun device",
			Runs: "each such packet", Blind: "readers of tun devices", Since: "5.10"}, module: "tun"},
		{Hook: Hook{Name: "skb_copy", Purpose: "copies of whole packets",
			Runs: "each such copy", Blind: "copies that drivers make of whole packets", Since: "5.10"}},
		{Hook: Hook{Name: "skb_copy_expand", Purpose: "copies of whole packets",
			Runs: "each such copy", Blind: "copies that drivers make of whole packets", Since: "5.10"}},
		{Hook: Hook{Name: "wake_up_new_task", Purpose: "children of the processes looked at",
			Runs: "each thread that starts", Blind: "children", Since: "5.10"}},
	}
}

// blindFunctions says what these tiers cannot see with all their hooks, and what
// they infer.
func blindFunctions() []string {
	return []string{
		"what becomes of payload that nothing was seen to copy: it is taken for uncopied",
		"copies by means of drivers' own, and by the IOMMU's bounce buffers",
		"datagrams that are dropped before they are sent",
		"where pages lie that sendfile and splice hand to a protocol on top of TCP, TLS of the kernel say: their bytes are unknown",
		"payload of sockets other than TCP and UDP",
	}
}
