package ebpf

// skips is how often hooks were skipped. Nothing tells for which sockets.
type skips struct{ sends, copies, others uint64 }

func (n *skips) add(function string, times uint64) {
	switch {
	case copiers[function]:
		n.copies += times
	case function == "tcp_sendmsg_locked", function == "do_tcp_sendpages":
		n.sends += times
	default: // of datagrams, of which fewer are counted, and of the ends of sockets
		n.others += times
	}
}

// largest is what a packet can hold (BIG TCP), in bytes.
const largest = 8 * 65535

// hides says how many bytes of a flow may be other than they seem: packets that
// were copied unseen, and sends that were taken for part of the one before. None of
// those was more than most, the most that was found at once.
func (n skips) hides(most uint64) uint64 {
	return n.copies*largest + n.sends*most
}

// copiers are the hooked functions that copy.
var copiers = map[string]bool{
	"skb_segment": true, "__pskb_pull_tail": true, "skb_copy_ubufs": true, "skb_checksum_help": true,
	"skb_pp_cow_data": true, "skb_copy_header": true, "tun_net_xmit": true, "skb_copy": true, "skb_copy_expand": true,
}
