package ebpf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// skips is how often hooks were skipped, by the function that is hooked. Nothing
// tells for which sockets.
type skips map[string]uint64

func (n skips) add(function string, times uint64) {
	if times > 0 {
		n[function] += times
	}
}

// total is how often any was.
func (n skips) total() uint64 {
	var sum uint64
	for _, times := range n {
		sum += times
	}
	return sum
}

// split tells hooks that see copies from those that see which API sends, and from
// those that see datagrams asked for. Of the rest, fewer datagrams are counted, and
// ends of sockets go unseen.
func (n skips) split() hidden {
	var h hidden
	for function, times := range n {
		switch {
		case copiers[function]:
			h.copies += times
		case function == "tcp_sendmsg_locked", function == "do_tcp_sendpages":
			h.sends += times
		case function == "udp_sendmsg", function == "udpv6_sendmsg":
			h.asks += times
		}
	}
	return h
}

// hidden is how much skipped hooks did not see.
type hidden struct{ copies, sends, asks uint64 }

func (h hidden) since(before hidden) hidden {
	return hidden{h.copies - before.copies, h.sends - before.sends, h.asks - before.asks}
}

// String names the hooks, and how often each was skipped.
func (n skips) String() string {
	var parts []string
	for _, function := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s %d", function, n[function]))
	}
	return strings.Join(parts, ", ")
}

// The most that a packet can hold (BIG TCP), and a datagram, in bytes.
const (
	largest         = 8 * 65535
	largestDatagram = 65535
)

// copiers are the hooked functions that copy.
var copiers = map[string]bool{
	"skb_segment": true, "__pskb_pull_tail": true, "skb_copy_ubufs": true, "skb_checksum_help": true,
	"skb_pp_cow_data": true, "skb_copy_header": true, "tun_net_xmit": true, "skb_copy": true, "skb_copy_expand": true,
}

// A doubt is how many bytes of a flow may be other than they seem.
type doubt struct {
	copied uint64 // packets that may have been copied unseen
	asked  uint64 // sends that may have been by another API: that of the one before is told
}

// doubts keeps what skipped hooks leave open. A hook that was skipped between two
// looks at the kernel has hidden something of a flow that sent in that time, or had
// sent shortly before, and of no other.
type doubts struct {
	skipped hidden // until the last look began
	flows   map[flowKey]doubtful
}

type doubtful struct {
	doubt
	sent  uint64 // up to the last look
	early uint64 // of that, what may not have met all that copies then
	last  time.Time
}

// underWay is for how long datagrams may be on their way through this machine: they
// wait in queues of devices, and nothing tells when they leave.
const underWay = 2 * time.Second

// look takes in what a look at the kernel has shown, and how often hooks had been
// skipped before it began, and returns what all looks leave open. A hook that was
// skipped while it looked may have hidden something before it and after it.
func (d *doubts) look(all observations, before skips, at time.Time) map[flowKey]doubt {
	now := all.skipped.split().since(d.skipped)
	d.skipped = before.split()
	if d.flows == nil {
		d.flows = map[flowKey]doubtful{}
	}
	sent, unsent, datagrams := map[flowKey]uint64{}, map[flowKey]uint64{}, map[flowKey]bool{}
	for _, f := range all.facts {
		switch key := (flowKey{f.socket, f.api}); f.kind {
		case factSent, factDatagram:
			sent[key] += f.bytes
			datagrams[key] = f.kind == factDatagram
		case factUnsent:
			unsent[key] += f.bytes
		}
	}
	out := map[flowKey]doubt{}
	for key, n := range sent {
		f := d.flows[key]
		fresh := n - f.sent
		if fresh > 0 {
			f.last = at
		}
		if datagrams[key] {
			f.asked += min(fresh, now.asks*largestDatagram)
			f.copied += min(fresh+f.early, now.copies*largest)
		} else { // none of the sends was of more than the most that was found at once
			f.asked += min(fresh, now.sends*all.most[key.socket])
			f.copied += min(fresh+f.early, now.copies*largest+now.sends*all.most[key.socket])
		}
		switch {
		case !datagrams[key]:
			f.early = fresh + unsent[key]
		case at.Sub(f.last) < underWay:
			f.early += fresh
		default:
			f.early = 0
		}
		f.sent = n
		d.flows[key] = f
		if f.doubt != (doubt{}) {
			out[key] = f.doubt
		}
	}
	return out
}
