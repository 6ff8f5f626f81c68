package probe

import (
	"github.com/zcprobe/zcprobe/internal/sys"
)

// hazardTests try on loopback whether this kernel loses data that it said it
// took. Nothing leaves the machine and nothing else can lose data by it.
func hazardTests() []functest {
	return []functest{
		{"hazard.udp-splice-csum-loss", testUDPSpliceLoss, true},
		{"hazard.udp-sendfile-loss", testUDPSendfileLoss, true},
	}
}

// testUDPSpliceLoss sends odd-sized pieces by splice. Linux 6.12 and 6.18 sum
// every piece as if it began at an even offset (skb_splice_csum_page), so the
// receiver drops the datagram. Seen, each 0 or 1: "received_even", a control
// with even pieces; "received_corked", pieces of 101 and 103 bytes under
// UDP_CORK; "received_odd", sendfile of 8192 bytes from offset 1 while corked.
// A "dropped_*" beside each says that the receiver dropped a datagram, which is
// proof of the loss.
func testUDPSpliceLoss(t *trial) {
	t.corked("even", func(out int) bool { return t.splicePieces(out, 100, 104) })
	t.corked("corked", func(out int) bool { return t.splicePieces(out, 101, 103) })
	t.corked("odd", func(out int) bool {
		src, ok := t.source()
		if !ok {
			return false
		}
		// One byte more than the pattern, so that offset 1 has 8192 bytes.
		if _, err := t.k.Pwrite(src, t.fresh[:1], testSize); !t.prep("pwrite", err) {
			return false
		}
		off := int64(1)
		n, err := t.k.Sendfile(out, src, &off, testSize)
		return t.count("sendfile from offset 1", n, testSize, err)
	})
}

// corked makes one datagram of what fill sends, and notes whether it arrives.
func (t *trial) corked(name string, fill func(out int) bool) {
	out, in, ok := t.udpPair(loopback4)
	if !ok || !t.prep("setsockopt UDP_CORK", t.k.SetInt(out, sys.SolUDP, sys.UDPCork, 1)) {
		return
	}
	if !fill(out) || !t.prep("setsockopt UDP_CORK 0", t.k.SetInt(out, sys.SolUDP, sys.UDPCork, 0)) {
		return
	}
	got, err := t.datagrams(out, in)
	if !t.prep("recv", err) {
		return
	}
	value := "arrived"
	if len(got) == 0 {
		value = "lost"
	}
	t.stepValue("recv of "+name+" pieces", value, nil)
	t.seeBool("received_"+name, len(got) > 0)
	t.seeBool("dropped_"+name, t.drops(in) > 0)
}

// splicePieces splices two pieces of memory into a socket.
func (t *trial) splicePieces(out, first, second int) bool {
	r, w, ok := t.pipe()
	if !ok {
		return false
	}
	mem, ok := t.memory(2 * pageSize)
	if !ok {
		return false
	}
	n, err := t.k.Vmsplice(w, [][]byte{mem[:first], mem[pageSize : pageSize+second]}, sys.SpliceNonblock)
	if !t.prep("vmsplice", err) || n != first+second {
		return false
	}
	n, err = t.k.Splice(r, nil, out, n, sys.SpliceNonblock)
	return t.count("splice to UDP", n, first+second, err)
}

// testUDPSendfileLoss sends more than a datagram holds by one sendfile. Linux
// to 6.1 returns a count and sends nothing; later ones say EMSGSIZE. Seen:
// "returned" bytes, where the call succeeded; "received" bytes.
func testUDPSendfileLoss(t *trial) {
	const tooMuch = 64 << 10
	out, in, ok := t.udpPair(loopback4)
	if !ok {
		return
	}
	src, ok := t.source()
	if !ok || !t.prep("ftruncate", t.k.Ftruncate(src, tooMuch)) {
		return
	}
	var off int64
	n, err := t.k.Sendfile(out, src, &off, tooMuch)
	t.count("sendfile 65536 bytes to UDP", n, tooMuch, err)
	if err == nil {
		t.see("returned", int64(n))
	}
	got, err := t.datagrams(out, in)
	if t.prep("recv", err) {
		t.see("received", int64(len(got)))
	}
}
