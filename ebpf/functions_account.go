package ebpf

import (
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// The numbers of enum fact_kind in bpf/functions.h; a test compares.
type factKind uint8

const (
	factSent      factKind = iota // accepted from the application over TCP
	factUnsent                    // of that, not acknowledged at the end
	factDatagram                  // a datagram as it was made
	factSegment                   // a packet cut up for a device without scatter-gather
	factSummed                    // a packet made linear while it was cut up, to sum it
	factLinearize                 // a packet made linear
	factTapped                    // pages made private for a packet socket that looks at what is sent
	factPrivate                   // pages made private for others
	factPass                      // read for a checksum
	factXDP                       // copied for an XDP program
	factTun                       // handed to a program by a tun device
	factWhole                     // copied as a whole
	factHeader                    // its header copied, after all the rest of it
)

// group is a set of copies that exclude each other.
func (k factKind) group() int {
	switch k {
	case factTapped:
		return 1
	case factPrivate:
		return 2
	case factXDP, factTun, factWhole:
		return 3
	}
	return 0
}

// Evidence of facts alone.
const (
	seenForwarding evidence = 1 << 16
	seenLocal      evidence = 1 << 17
)

// A fact is what the tiers of functions have seen of one socket: a send, or a
// copy.
type fact struct {
	socket   uint64
	device   Device
	kind     factKind
	api      API
	memory   memory // of a datagram
	evidence evidence
	callers  []string // of a copy: the functions that led to it, the nearest first
	stack    uint32   // the same, if it is to be shown
	bytes    uint64
	times    uint64
}

// factAccount adds up one flow by facts.
type factAccount struct {
	*account
	blind  bool      // XDP programs may have it copied unseen
	lent   uint64    // taken from where the application had it
	stays  uint64    // of that, what virtual devices took, which may pass it on
	hidden uint64    // of that, what may have been copied unseen
	unsent uint64    // of that, not yet acknowledged
	taken  [4]uint64 // of lent payload, by groups of copies
}

// summarizeFacts judges what a trace by functions has seen.
func summarizeFacts(all *observations) []Flow {
	sockets := make(map[uint64]Socket, len(all.sockets))
	for _, s := range all.sockets {
		sockets[s.ID] = s
	}
	accounts, unknown := map[flowKey]*factAccount{}, strangers{}
	for _, f := range all.facts {
		if f.socket&strangeSocket != 0 {
			unknown.meet(f)
			continue
		}
		s, ok := sockets[f.socket]
		if !ok {
			continue
		}
		if s.Protocol == "udp" {
			f.evidence |= seenDatagram
			if all.sendpages {
				f.evidence |= seenSendpage
			}
		}
		key := flowKey{f.socket, f.api}
		if accounts[key] == nil {
			accounts[key] = &factAccount{account: newAccount(), blind: all.blindXDP}
		}
		accounts[key].add(f)
	}
	hideForgotten(accounts)
	flows := make([]Flow, 0, len(accounts))
	var most uint64 // of what was copied of strangers, and may be of one of the flows
	for key, a := range accounts {
		if a.sent > 0 {
			a.open(all.doubts[key])
			may := unknown.of(sockets[key.socket])
			a.hidden += min(a.stays, may)
			most = max(most, min(a.stays, may))
			flows = append(flows, a.balance().flow(key.api, sockets[key.socket]))
		}
	}
	sortFlows(flows)
	if most > 0 {
		all.gaps = append(all.gaps, translated(most))
	}
	return flows
}

// hideForgotten takes in copies of payload whose call is forgotten, as many others have
// sent on the socket since: it may be of any that lent.
func hideForgotten(accounts map[flowKey]*factAccount) {
	forgotten := map[uint64]uint64{}
	for key, a := range accounts {
		if key.api != APIUnknown {
			continue
		}
		for _, n := range a.taken {
			if n > a.lent {
				forgotten[key.socket] += n - a.lent
			}
		}
	}
	for key, a := range accounts {
		if key.api != APIUnknown {
			a.hidden += min(forgotten[key.socket], a.lent)
		}
	}
}

// add takes one fact into the account.
func (a *factAccount) add(f fact) {
	switch f.kind {
	case factSent:
		a.addSent(f)
	case factDatagram:
		a.sent += f.bytes
		a.devices.add(f.device.Name, f.bytes)
		switch {
		case f.memory == memoryUnknown:
		case f.memory.kernels() && f.evidence&sourceMask != sourceSocket:
			a.copied += f.bytes
		default:
			a.lend(f)
		}
		a.judgeSend(f, f.memory)
	case factUnsent:
		if f.lends() {
			a.unsent += f.bytes
		}
	default:
		if f.kind == factHeader {
			if len(f.callers) == 0 || !strings.HasPrefix(f.callers[0], "veth_") {
				return // the copies of others have hooks of their own
			}
			f.kind = factXDP
		}
		found, ok := judgeFact(f)
		if ok {
			a.find(found, observation{packets: f.times, stack: f.stack})
		}
		forgotten := f.api == APIUnknown && !f.evidence.has(seenDatagram)
		if f.kind != factPass && (f.evidence.has(seenDatagram|seenLent) || f.lends() || forgotten) {
			a.taken[f.kind.group()] += f.bytes
		}
	}
}

// lend takes in payload that is left where it is. Of what goes to a virtual device,
// nobody knows whether it comes to a veth device with an XDP program.
func (a *factAccount) lend(f fact) {
	a.lent += f.bytes
	if f.device.Type == "" {
		return
	}
	a.stays += f.bytes
	if a.blind {
		a.hidden += f.bytes
	}
}

// lends says whether the payload was left where the application, or the file,
// has it. A protocol on top of TCP makes pages of its own, of which the call does
// not tell what they hold.
func (f fact) lends() bool {
	if !f.evidence.has(seenLent) || f.evidence.has(seenULP) || f.api.copies() {
		return false
	}
	switch f.evidence & sourceMask {
	case sourceRead, sourceDirect, sourceMemory, sourceWritten:
		return false
	}
	return true
}

func (a *factAccount) addSent(f fact) {
	a.sent += f.bytes
	a.devices.add(f.device.Name, f.bytes)
	switch {
	case f.lends():
		a.lend(f)
	case f.evidence.has(seenLent|seenULP) && !f.api.copies():
		// unknown
	case f.evidence&sourceMask == sourceDirect && !f.api.copies():
		// a disk has written it, or the CPU
	case f.api == APIUnknown:
		// A kernel's own, or one that was sent before the trace was complete.
	default:
		a.copied += f.bytes
		a.judgeSend(f, memoryKernel)
	}
}

// judgeSend judges payload as it was sent, like one that came to a device.
func (a *factAccount) judgeSend(f fact, m memory) {
	refused := f.evidence & (seenFragment | seenNoSG | seenNoChecksum)
	if m == memoryLinear && f.evidence.has(seenDatagram|seenLent|seenPartial) && refused == 0 && f.evidence&sourceMask == 0 {
		// Until Linux 5.11 a part of each lent datagram is copied into its head.
		a.find(finding{id: "udp-linear-head", mechanism: probe.AtSend, bytes: f.bytes}, observation{packets: f.times})
		return
	}
	o := observation{place: placeQueued, device: f.device, api: f.api, memory: m, was: m,
		evidence: f.evidence, bytes: f.bytes, packets: f.times}
	if f.kind == factSent && f.evidence.has(seenNoSG) && o.api != APIUnknown && !o.api.copies() && !f.evidence.has(seenNoSOZeroCopy) {
		// TCP takes it that a device has scatter-gather, unless it does no
		// segmentation for the socket.
		a.find(finding{id: "no-scatter-gather", mechanism: probe.AtSend, device: f.device.Name, bytes: f.bytes}, o)
		return
	}
	for _, found := range judgeSend(o) {
		a.find(found, o)
	}
}

// open takes in what skipped hooks leave open.
func (a *factAccount) open(d doubt) {
	a.hidden += d.copied
	asked := min(d.asked, a.copied)
	a.copied -= asked
	for i := range a.causes {
		if c := &a.causes[i]; c.ID == "api-copy" {
			c.Bytes -= min(asked, c.Bytes)
		}
	}
	a.causes = slices.DeleteFunc(a.causes, func(c keyedCause) bool { return c.Bytes == 0 })
}

// balance settles what was copied of the payload that was lent. Copies of
// different groups may have met the same bytes, or others: what that leaves open
// is unknown.
func (a *factAccount) balance() *account {
	var least, most uint64
	for _, n := range a.taken {
		n = min(n, a.lent)
		least = max(least, n)
		most = min(most+n, a.lent)
	}
	for i := range a.causes {
		c := &a.causes[i]
		c.Bytes = min(c.Bytes, a.sent) // some of what was sent again may count again
	}
	a.uncopied = a.lent
	a.lost = least
	a.underWay = most - least + a.unsent + a.hidden // no more than there is
	return a.account
}

// judgeFact names the cause of a copy, or pass: by what was copied, and by the
// function that wanted it. Where that is none that is known, no cause is named.
func judgeFact(f fact) (finding, bool) {
	found := finding{device: f.device.Name, bytes: f.bytes}
	switch f.kind {
	case factPass:
		found.id, found.mechanism = "checksum-pass", probe.AtLinearize
	case factSegment, factSummed, factLinearize:
		found.id, found.mechanism = f.flattened()
	case factTapped:
		found.id, found.mechanism = "packet-tap", probe.AtClone
	case factPrivate:
		found.id, found.mechanism = f.private()
		if found.id == "loopback-delivery" {
			found.device = ""
		}
	case factXDP:
		found.mechanism = probe.AtIngress
		switch {
		case f.calledBy("veth_"):
			found.id = "veth-xdp"
		case f.calledBy("do_xdp_generic", "netif_receive_generic_xdp", "netif_skb_check_for_xdp", "skb_cow_data_for_xdp"):
			found.id = "xdp-generic"
		}
	case factTun:
		found.id, found.mechanism = "tun-tap", probe.AtDriver
	case factWhole:
		switch {
		case f.calledBy("macsec_"):
			found.id, found.mechanism = "macsec", probe.AtCrypto
		case f.calledBy("dev_hard_start_xmit"):
			found.id, found.mechanism = "driver-bounce", probe.AtDriver
		default:
			return found, false // most of these are not on the way of payload
		}
	}
	return found, true
}

// callers are functions that make packets linear for a reason of their own, by
// the beginnings of their names. The first of them that is on the stack counts.
var callers = []struct {
	name, id  string
	mechanism probe.Mechanism
}{
	{"nfqnl_", "nfqueue", probe.AtLinearize},
	{"__nfqnl_", "nfqueue", probe.AtLinearize},
	{"esp_output", "ipsec-sw", probe.AtCrypto},
	{"esp6_output", "ipsec-sw", probe.AtCrypto},
	{"xfrm_output", "ipsec-sw", probe.AtCrypto},
	{"wg_", "wireguard", probe.AtCrypto},
	{"macsec_", "macsec", probe.AtCrypto},
	{"__nf_nat_mangle", "nat-helper", probe.AtLinearize},
	{"nf_nat_mangle", "nat-helper", probe.AtLinearize},
	{"tcpmss_", "tcpmss", probe.AtLinearize},
	{"checksum_tg", "checksum-fill", probe.AtLinearize},
	{"bpf_skb_pull_data", "tc-pull", probe.AtLinearize},
	{"queue_gso_packets", "ovs-upcall", probe.AtLinearize},
	{"ip_do_fragment", "ip-fragment", probe.AtFragment},
	{"ip6_fragment", "ip-fragment", probe.AtFragment},
	{"netif_receive_generic_xdp", "xdp-generic", probe.AtIngress},
	{"do_xdp_generic", "xdp-generic", probe.AtIngress},
}

// flattened is about packets that were made linear, or cut up with a copy.
func (f fact) flattened() (string, probe.Mechanism) {
	for _, name := range f.callers {
		for _, c := range callers {
			if strings.HasPrefix(name, c.name) {
				return c.id, c.mechanism
			}
		}
		switch name {
		case "validate_xmit_skb":
			return f.validated()
		case "dev_hard_start_xmit", "__dev_direct_xmit":
			return "driver-linearize", probe.AtDriver
		}
	}
	return "", probe.AtLinearize
}

// validated is about what the kernel does to a packet before it gives it to a
// driver.
func (f fact) validated() (string, probe.Mechanism) {
	mechanism := probe.AtLinearize
	if f.kind == factSegment {
		mechanism = probe.AtSegment
	}
	sum := f.kind == factSummed || slices.Contains(f.callers, "skb_checksum_help")
	switch {
	case f.evidence.has(seenNoSG) && !sum:
		return "no-scatter-gather", mechanism
	case f.evidence.has(seenNoChecksum) && sum:
		return "no-tx-csum", probe.AtLinearize
	case f.evidence.has(seenEncap):
		return "encap-features", mechanism
	}
	return "", mechanism
}

// private is about pages of the application that were replaced.
func (f fact) private() (string, probe.Mechanism) {
	for _, name := range f.callers {
		switch {
		case name == "tun_net_xmit":
			return "tun-tap", probe.AtDriver
		case name == "__skb_tstamp_tx":
			return "tx-timestamp", probe.AtClone
		case name == "dev_queue_xmit_nit":
			return "packet-tap", probe.AtClone
		case name == "deliver_skb": // to a packet socket, on kernels that make pages private later
			if f.evidence.has(seenLocal) || f.evidence.has(seenLoopback) {
				return "loopback-delivery", probe.AtIngress
			}
			return "packet-tap", probe.AtIngress
		case strings.HasPrefix(name, "__netif_receive_skb"):
			return f.received()
		case name == "ip_local_deliver_finish", name == "ip6_input_finish",
			name == "ip_protocol_deliver_rcu", name == "ip6_protocol_deliver_rcu", name == "ip_local_deliver", name == "ip6_input":
			return "loopback-delivery", probe.AtIngress
		case name == "skb_clone", name == "pskb_expand_head", name == "__pskb_copy_fclone":
			return "packet-ring-clone", probe.AtClone
		}
	}
	return "", probe.AtClone
}

// received is about packets that came into a stack of this machine whose kernel
// makes pages private before it knows where the packet goes (until Linux 6.12),
// and for packet sockets before that.
func (f fact) received() (string, probe.Mechanism) {
	switch {
	case f.evidence.has(seenLoopback), f.evidence.has(seenLocal): // it was to be delivered in any case
	case f.evidence.has(seenTapIn):
		return "packet-tap", probe.AtIngress
	case f.evidence.has(seenForwarding):
		return "veth-routed-ingress", probe.AtIngress
	}
	return "loopback-delivery", probe.AtIngress
}

// calledBy says whether a function whose name begins like one of these led here.
func (f fact) calledBy(names ...string) bool {
	return slices.ContainsFunc(f.callers, func(caller string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(caller, n) })
	})
}
