package ebpf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSummarizeFacts balances accounts of facts, and judges stacks that no test
// can make the kernel have.
func TestSummarizeFacts(t *testing.T) {
	nic := Device{Index: 2, Name: "nic0"}
	sent := func(api API, e evidence) fact {
		return fact{socket: 1, device: nic, kind: factSent, api: api, evidence: e, bytes: 1000, times: 1}
	}
	lent := sent(APIZeroCopy, seenLent)
	file := sent(APISendfile, seenLent|sourceCache)
	met := func(kind factKind, api API, e evidence, bytes uint64, callers ...string) fact {
		return fact{socket: 1, device: nic, kind: kind, api: api, evidence: e, bytes: bytes, times: 1, callers: callers}
	}
	for _, c := range []struct {
		name string
		in   []fact
		want string // zero-copied copied unknown, causes
	}{
		{"written", []fact{sent(APIWrite, 0)}, "0 1000 0 [api-copy/send]"},
		{"lent", []fact{lent}, "1000 0 0 []"},
		{"refused", []fact{sent(APIZeroCopy, seenNoSOZeroCopy)}, "0 1000 0 [no-so-zerocopy/send]"},
		{"by nobody known", []fact{sent(APIUnknown, seenLent)}, "1000 0 0 []"},
		{"of unknown memory", []fact{sent(APIUnknown, 0)}, "0 0 1000 []"},
		{"under way", []fact{lent, met(factUnsent, APIZeroCopy, seenLent, 300)}, "700 0 300 []"},
		{"under way, but copied", []fact{sent(APIWrite, 0), met(factUnsent, APIWrite, 0, 300)}, "0 1000 0 [api-copy/send]"},
		{"file that is read for it", []fact{sent(APISendfile, seenLent|sourceRead)}, "0 1000 0 [copy-splice-read/splice-read]"},
		{"file that is read past the cache", []fact{sent(APISendfile, seenLent|sourceDirect)}, "0 0 1000 []"},
		{"such a file in memory", []fact{sent(APISendfile, seenLent|sourceMemory)}, "0 1000 0 [odirect-source/splice-read]"},
		{"encrypted", []fact{sent(APISendfile, seenLent|sourceCache|seenULP)}, "0 0 1000 []"},
		{"cut up", []fact{file, met(factSegment, APISendfile, seenLent|sourceCache|seenNoSG, 1000, "tcp_gso_segment", "validate_xmit_skb")},
			"0 1000 0 [no-scatter-gather/segment]"},
		{"cut up and made linear", []fact{lent,
			met(factSegment, APIZeroCopy, seenLent|seenNoSG, 900, "tcp_gso_segment", "validate_xmit_skb"),
			met(factLinearize, APIZeroCopy, seenLent|seenNoSG, 100, "validate_xmit_skb")},
			"0 1000 0 [no-scatter-gather/segment no-scatter-gather/linearize]"},
		{"summed", []fact{lent, met(factSummed, APIZeroCopy, seenLent|seenNoChecksum, 1000, "tcp_gso_segment", "validate_xmit_skb"),
			met(factPass, APIZeroCopy, seenLent|seenNoChecksum, 1000, "tcp_gso_segment", "validate_xmit_skb")},
			"0 1000 0 [checksum-pass/linearize no-tx-csum/linearize]"},
		{"summed alone", []fact{sent(APIWrite, 0), met(factPass, APIWrite, seenNoChecksum, 1000, "validate_xmit_skb")},
			"0 1000 0 [api-copy/send checksum-pass/linearize]"},
		{"queued for a program", []fact{lent, met(factSegment, APIZeroCopy, seenLent, 1000, "tcp_gso_segment", "nfqnl_enqueue_packet")},
			"0 1000 0 [nfqueue/linearize]"},
		{"driver", []fact{lent, met(factLinearize, APIZeroCopy, seenLent, 1000, "ena_start_xmit", "dev_hard_start_xmit")},
			"0 1000 0 [driver-linearize/driver]"},
		{"driver that sums", []fact{lent, met(factLinearize, APIZeroCopy, seenLent, 1000, "skb_checksum_help", "x_start_xmit", "dev_hard_start_xmit")},
			"0 1000 0 [driver-linearize/driver]"},
		{"nobody knows why", []fact{lent, met(factLinearize, APIZeroCopy, seenLent, 1000)}, "0 1000 0 []"},
		{"half of it", []fact{lent, met(factPrivate, APIZeroCopy, seenLent, 500, "ip_local_deliver_finish")}, "500 500 0 [loopback-delivery/ingress]"},
		{"tapped, then delivered", []fact{lent, met(factTapped, APIZeroCopy, seenLent, 1000, "dev_queue_xmit_nit"),
			met(factPrivate, APIZeroCopy, seenLent, 1000, "__netif_receive_skb_core")}, "0 1000 0 [loopback-delivery/ingress packet-tap/clone]"},
		{"tapped, or delivered", []fact{lent, met(factTapped, APIZeroCopy, seenLent, 400, "dev_queue_xmit_nit"),
			met(factPrivate, APIZeroCopy, seenLent, 300, "__netif_receive_skb_core")}, "300 400 300 [packet-tap/clone loopback-delivery/ingress]"},
		{"routed", []fact{lent, met(factPrivate, APIZeroCopy, seenLent|seenForwarding, 1000, "__netif_receive_skb_core")},
			"0 1000 0 [veth-routed-ingress/ingress]"},
		{"taken by a packet socket where it came in", []fact{lent, met(factPrivate, APIZeroCopy, seenLent|seenTapIn, 1000, "__netif_receive_skb_core")},
			"0 1000 0 [packet-tap/ingress]"},
		{"taken, and delivered", []fact{lent, met(factPrivate, APIZeroCopy, seenLent|seenTapIn|seenLocal, 1000, "__netif_receive_skb_core")},
			"0 1000 0 [loopback-delivery/ingress]"},
		{"copied for an XDP program", []fact{lent, met(factHeader, APIZeroCopy, seenLent, 1000, "veth_xdp_rcv_skb", "veth_xdp_rcv")},
			"0 1000 0 [veth-xdp/ingress]"},
		{"the header of a copy that has a hook", []fact{lent, met(factHeader, APIZeroCopy, seenLent, 1000, "skb_copy", "veth_xmit")},
			"1000 0 0 []"},
		{"more than was sent", []fact{lent, met(factPrivate, APIZeroCopy, seenLent, 1500, "ip_local_deliver_finish")}, "0 1000 0 [loopback-delivery/ingress]"},
		{"copied again", []fact{sent(APIWrite, 0), met(factSegment, APIWrite, seenNoSG, 1000, "validate_xmit_skb")},
			"0 1000 0 [api-copy/send no-scatter-gather/segment]"},
	} {
		flows := summarizeFacts(&observations{sockets: []Socket{tcpSocket(1)}, facts: c.in})
		if len(flows) != 1 {
			t.Errorf("%s: %d flows", c.name, len(flows))
			continue
		}
		f := flows[0]
		var causes []string
		for _, cause := range f.Causes {
			causes = append(causes, cause.ID+"/"+string(cause.Mechanism))
		}
		if got := fmt.Sprint(f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes, " ", causes); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
		if f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
			t.Errorf("%s: %+v does not add up", c.name, f)
		}
	}
}

// TestForgotten: what was copied of a call that is forgotten may be of each that lent.
func TestForgotten(t *testing.T) {
	all := observations{sockets: []Socket{tcpSocket(1)}, facts: []fact{
		{socket: 1, kind: factSent, api: APISendfile, evidence: seenLent | sourceCache, bytes: 1000, times: 1},
		{socket: 1, kind: factSent, api: APIWrite, bytes: 50, times: 1},
		{socket: 1, kind: factSegment, api: APIUnknown, evidence: seenNoSG, bytes: 300, times: 1, callers: []string{"validate_xmit_skb"}},
	}}
	var got []string
	for _, f := range summarizeFacts(&all) {
		got = append(got, fmt.Sprint(f.API, f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes))
	}
	slices.Sort(got)
	if want := []string{"sendfile700 0 300", "write0 50 0"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestBlindXDP: what may have been copied unseen is not said to be uncopied.
func TestBlindXDP(t *testing.T) {
	for _, c := range []struct {
		device Device
		want   string
	}{{Device{Name: "nic0"}, "1000 0 0"}, {Device{Name: "v0", Type: "veth"}, "0 400 600"}} {
		all := observations{sockets: []Socket{tcpSocket(1)}, blindXDP: true, facts: []fact{
			{socket: 1, device: c.device, kind: factSent, api: APIZeroCopy, evidence: seenLent, bytes: 1000, times: 1},
		}}
		if c.device.Type != "" {
			all.facts = append(all.facts, fact{socket: 1, device: c.device, kind: factPrivate, api: APIZeroCopy, evidence: seenLent,
				bytes: 400, times: 1, callers: []string{"ip_local_deliver_finish"}})
		}
		f := summarizeFacts(&all)[0]
		if got := fmt.Sprint(f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes); got != c.want {
			t.Errorf("%s: %s, not %s", c.device.Name, got, c.want)
		}
	}
}

// TestTranslated: what was copied after addresses were translated may be of each flow
// that has one of them, and that a virtual device took.
func TestTranslated(t *testing.T) {
	strange := func(from, to string) uint64 {
		return strangeSocket | uint64(folded(netip.MustParseAddr(from)))<<32 | uint64(folded(netip.MustParseAddr(to)))
	}
	nic, veth := Device{Name: "nic0"}, Device{Name: "v0", Type: "veth"}
	for _, c := range []struct {
		name   string
		device Device
		met    fact
		want   string
		gaps   int
	}{
		{"its destination", veth, fact{socket: strange("192.0.2.1", "10.0.0.2"), kind: factSegment, evidence: seenNoSG, callers: []string{"validate_xmit_skb"}},
			"600 0 400", 1},
		{"its source", veth, fact{socket: strange("10.0.0.1", "192.0.2.1"), kind: factLinearize, evidence: seenNoSG, callers: []string{"validate_xmit_skb"}},
			"600 0 400", 1},
		{"another's", veth, fact{socket: strange("192.0.2.1", "192.0.2.2"), kind: factSegment, evidence: seenNoSG, callers: []string{"validate_xmit_skb"}},
			"1000 0 0", 0},
		{"on its way in", veth, fact{socket: strange("192.0.2.1", "10.0.0.2"), kind: factLinearize, callers: []string{"skb_condense", "tcp_add_backlog"}},
			"1000 0 0", 0},
		{"sent by a card", nic, fact{socket: strange("192.0.2.1", "10.0.0.2"), kind: factSegment, evidence: seenNoSG, callers: []string{"validate_xmit_skb"}},
			"1000 0 0", 0},
	} {
		c.met.bytes, c.met.times = 400, 1
		all := observations{sockets: []Socket{tcpSocket(1)}, facts: []fact{c.met,
			{socket: 1, device: c.device, kind: factSent, api: APISendfile, evidence: seenLent | sourceCache, bytes: 1000, times: 1}}}
		f := summarizeFacts(&all)[0]
		if got := fmt.Sprint(f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes); got != c.want || len(all.gaps) != c.gaps {
			t.Errorf("%s: %s, not %s, and %q", c.name, got, c.want, all.gaps)
		}
	}
	if a, b := folded(netip.MustParseAddr("2001:db8::1:0:1")), folded(netip.MustParseAddr("2001:db8::")); a != b {
		t.Errorf("the words of an address are not joined by exclusive or: %x and %x", a, b)
	}
}

// TestSkipped: what a hook that was skipped may have seen is unknown, of what was
// sent since the look before, and shortly before that.
func TestSkipped(t *testing.T) {
	const most = 100_000
	type look struct {
		sent, unsent uint64 // so far
		skipped      skips  // so far
		before       skips  // and before the look
		want         string
	}
	for _, c := range []struct {
		name  string
		api   API
		looks []look
	}{
		{"nothing", APIZeroCopy, []look{{3_000_000, 0, nil, nil, "3000000 0 0"}}},
		{"ends of sockets", APIZeroCopy, []look{{3_000_000, 0, skips{"tcp_close": 9}, nil, "3000000 0 0"}}},
		{"a copy", APIZeroCopy, []look{{3_000_000, 0, skips{"skb_copy_ubufs": 1}, nil, "2475720 0 524280"}}},
		{"sends", APIZeroCopy, []look{{3_000_000, 0, skips{"tcp_sendmsg_locked": 3}, nil, "2700000 0 300000"}}},
		{"copies", APIZeroCopy, []look{{3_000_000, 0, skips{"skb_segment": 5, "skb_copy_ubufs": 4}, nil, "0 0 3000000"}}},
		{"sends of a kind that copies", APIWrite, []look{{3_000_000, 0, skips{"do_tcp_sendpages": 3}, nil, "0 2700000 300000"}}},
		{"copies of what is copied", APIWrite, []look{{3_000_000, 0, skips{"skb_segment": 3}, nil, "0 3000000 0"}}},
		{"datagrams asked for unseen", APIWritev, []look{{300_000, 0, skips{"udp_sendmsg": 1}, nil, "0 234465 65535"}}},
		{"all of them", APIWritev, []look{{300_000, 0, skips{"udpv6_sendmsg": 5}, nil, "0 0 300000"}}},
		{"lent datagrams asked for unseen", APIZeroCopy, []look{{300_000, 0, skips{"udp_sendmsg": 3}, nil, "300000 0 0"}}},
		{"datagrams in a queue", APIZeroCopy, []look{{1000, 0, nil, nil, "1000 0 0"}, {1000, 0, nil, nil, "1000 0 0"},
			{1000, 0, skips{"skb_checksum_help": 1}, nil, "0 0 1000"}}},
		{"datagrams long gone", APIZeroCopy, []look{{1000, 0, nil, nil, "1000 0 0"}, {1000, 0, nil, nil, "1000 0 0"}, {1000, 0, nil, nil, "1000 0 0"},
			{1000, 0, skips{"skb_checksum_help": 1}, nil, "1000 0 0"}}},
		{"long after", APIZeroCopy, []look{{3_000_000, 0, nil, nil, "3000000 0 0"}, {3_000_000, 0, nil, nil, "3000000 0 0"},
			{3_000_000, 0, skips{"skb_copy_ubufs": 1}, skips{"skb_copy_ubufs": 1}, "3000000 0 0"}}},
		{"shortly after", APIZeroCopy, []look{{1000, 0, nil, nil, "1000 0 0"}, {1000, 0, skips{"skb_copy_ubufs": 1}, nil, "0 0 1000"}}},
		{"more later", APIZeroCopy, []look{{3_000_000, 0, skips{"skb_copy_ubufs": 1}, skips{"skb_copy_ubufs": 1}, "2475720 0 524280"},
			{9_000_000, 0, skips{"skb_copy_ubufs": 1}, skips{"skb_copy_ubufs": 1}, "8475720 0 524280"},
			{9_000_500, 0, skips{"skb_copy_ubufs": 2}, skips{"skb_copy_ubufs": 2}, "7951940 0 1048560"}}},
		{"not acknowledged for long", APIZeroCopy, []look{{1000, 400, nil, nil, "600 0 400"}, {1000, 400, nil, nil, "600 0 400"},
			{1000, 0, skips{"skb_copy_ubufs": 1}, nil, "600 0 400"}}},
		{"while it looked", APIZeroCopy, []look{{0, 0, skips{"skb_copy_ubufs": 1}, nil, ""},
			{1000, 0, skips{"skb_copy_ubufs": 1}, skips{"skb_copy_ubufs": 1}, "0 0 1000"}}},
	} {
		var d doubts
		for i, l := range c.looks {
			sent := factSent
			if strings.Contains(c.name, "datagrams") || c.name == "all of them" {
				sent = factDatagram
			}
			kind := memoryUser
			if c.api.copies() {
				kind = memoryLinear
			}
			all := observations{sockets: []Socket{tcpSocket(1)}, skipped: l.skipped, most: map[uint64]uint64{1: most}, facts: []fact{
				{socket: 1, kind: sent, api: c.api, memory: kind, evidence: seenLent, bytes: l.sent, times: 1},
				{socket: 1, kind: factUnsent, api: c.api, evidence: seenLent, bytes: l.unsent, times: 1}}}
			all.doubts = d.look(all, l.before, time.Time{}.Add(time.Duration(i)*time.Second))
			got := ""
			for _, f := range summarizeFacts(&all) {
				got = fmt.Sprint(f.ZeroCopiedBytes, f.CopiedBytes, f.UnknownBytes)
				if causes := total([]Flow{f}); c.api.copies() && (len(causes) > 1 || len(causes) == 1 && causes[0].Bytes != f.CopiedBytes || len(causes) == 0 && f.CopiedBytes > 0) {
					t.Errorf("%s: %+v for %d copied bytes", c.name, causes, f.CopiedBytes)
				}
			}
			if got != l.want {
				t.Errorf("%s: at look %d: %s, not %s", c.name, i+1, got, l.want)
			}
		}
	}
}
