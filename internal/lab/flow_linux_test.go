package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// TestWhenAnswersAreSent says when one is, and when none.
func TestWhenAnswersAreSent(t *testing.T) {
	b := newBench(t)
	b.open()
	b.segment(0, 0, 0)
	b.wantSilence()
	b.segment(-1, 0, 0) // keepalive, or a probe of the window
	b.wantAnswer(0, 0)
	b.segment(0, 100, 0)
	b.segment(100, 100, 0)
	b.wantAnswer(200, 0) // one for both
	b.segment(0, 100, 0) // again: the ACK may be lost
	b.wantAnswer(200, 0)
	// Holes are told of with patience.
	const patience = 32 // PATIENCE of the program
	for i := range patience {
		b.segment(300+10*i, 10, 0)
		b.wantSilence()
	}
	b.segment(1000, 10, 0)
	b.wantAnswer(200, 0)
	b.segment(1010, 10, 0)
	b.wantAnswer(200, 0)
	b.segment(200, 100, 0)
	b.wantAnswer(300+10*patience, 0)
	b.segment(2000, 10, 0) // patient again
	b.wantSilence()
}

func TestCloseBySender(t *testing.T) {
	b := newBench(t)
	b.open()
	b.segment(100, 50, fin)
	b.wantSilence() // there is a hole before
	b.segment(0, 100, 0)
	if a := b.wantAnswer(151, fin); a.seq != sinkISN+1 {
		t.Errorf("FIN of %+v", a)
	}
	if f := tcpFlow(b.key, b.flow()); f.State != Open || !f.FinReceived || f.Bytes != 150 {
		t.Errorf("%+v", f)
	}
	b.segment(100, 50, fin) // again: the answer was lost
	b.wantAnswer(151, fin)
	b.feed(frame{protocol: 6, seq: benchISN + 1 + 151, ack: sinkISN + 2, flags: ack})
	b.wantSilence()
	if f := tcpFlow(b.key, b.flow()); f.State != Closed || f.Bytes != 150 {
		t.Errorf("%+v", f)
	}
	b.segment(150, 0, fin)
	if a := b.wantAnswer(151, 0); a.seq != sinkISN+2 {
		t.Errorf("after the close: %+v", a)
	}
	// The same ports are used again.
	b.feed(frame{protocol: 6, seq: 5000, flags: syn})
	if a, ok := b.answer(); !ok || a.flags != syn|ack || a.ack != 5001 {
		t.Errorf("SYN: answered %t %+v", ok, a)
	}
	if f := b.flow(); f.Open != 2 || f.Bytes != 0 || f.Next != 5001 {
		t.Errorf("%+v", f)
	}
}

func TestCloseBySink(t *testing.T) {
	b := newBench(t)
	b.open()
	if ok, err := control(b.programs.Control, b.key, sinkFlowFlagFLOW_SEND_FIN); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b.wantAnswer(0, fin)
	b.feed(frame{protocol: 6, seq: benchISN + 1, ack: sinkISN + 2, flags: ack, payload: 10})
	if a := b.wantAnswer(10, 0); a.seq != sinkISN+2 {
		t.Errorf("after the FIN was heard: %+v", a)
	}
	b.feed(frame{protocol: 6, seq: benchISN + 11, ack: sinkISN + 2, flags: ack | fin})
	b.wantAnswer(11, 0)
	if f := tcpFlow(b.key, b.flow()); f.State != Closed || f.Bytes != 10 {
		t.Errorf("%+v", f)
	}
	if ok, err := control(b.programs.Control, b.key, sinkFlowFlagFLOW_SEND_RST); ok || err != nil {
		t.Errorf("a command for a closed flow: %t, %v", ok, err)
	}
}

func TestResets(t *testing.T) {
	b := newBench(t)
	b.open()
	if ok, err := control(b.programs.Control, b.key, sinkFlowFlagFLOW_SEND_RST); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if a := b.wantAnswer(0, rst); a.seq != sinkISN+1 {
		t.Errorf("RST of %+v", a)
	}
	b.segment(0, 100, 0) // on its way when the RST was sent
	b.wantAnswer(0, rst)
	b.segment(0, 0, 0)
	b.wantSilence()
	if f := tcpFlow(b.key, b.flow()); f.State != ResetBySink || f.Bytes != 0 {
		t.Errorf("%+v", f)
	}

	b.use("198.18.0.77:4001", "198.18.0.2:9")
	b.open()
	b.segment(0, 100, 0)
	b.segment(100, 0, rst)
	b.wantSilence() // an answer was due
	b.segment(100, 100, 0)
	b.wantSilence()
	if f := tcpFlow(b.key, b.flow()); f.State != ResetBySender || f.Bytes != 100 {
		t.Errorf("%+v", f)
	}
	total, err := readTotals(b.programs)
	if err != nil || total.Opened != 2 || total.Closed != 2 || total.ResetBySink != 1 || total.ResetBySender != 1 || total.Strays != 0 {
		t.Errorf("%+v, %v", total, err)
	}
}

// TestWindowCloses has the window shrink to nothing while the sink holds.
func TestWindowCloses(t *testing.T) {
	b := newBench(t)
	b.open()
	b.segment(0, 5, 0)
	b.wantAnswer(5, 0)
	settings := Options{MTU: 1500}.settings()
	settings.Device, settings.Window, settings.Scale, settings.Hold = 1<<30, benchWindow, 4, 1
	if err := b.programs.SettingsOf.Put(uint32(0), settings); err != nil {
		t.Fatal(err)
	}
	edge, at := 5+benchWindow, 5
	for at < edge {
		size := min(1460, edge-at)
		b.segment(at, size, 0)
		at += size
		told := int(b.wantAnswer(at, 0).window) << 4
		if at+told < edge || at+told >= edge+16 {
			t.Fatalf("at %d the window is %d, which is not up to %d", at, told, edge)
		}
		edge = at + told
	}
	b.segment(at, 1, 0)
	if a := b.wantAnswer(at, 0); a.window != 0 {
		t.Errorf("a window of %d", a.window)
	}
	if f := b.flow(); f.Discarded != 1 || f.Bytes != uint64(edge) {
		t.Errorf("%+v", f)
	}
	settings.Hold = 0
	if err := b.programs.SettingsOf.Put(uint32(0), settings); err != nil {
		t.Fatal(err)
	}
	if ok, err := control(b.programs.Control, b.key, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if a := b.wantAnswer(at, 0); a.window != benchWindow>>4 {
		t.Errorf("a window of %d", a.window)
	}
}

func TestOddFrames(t *testing.T) {
	b := newBench(t)
	at := frame{from: b.from, to: b.to}
	udp := func(change func(*frame)) []byte {
		f := at
		f.protocol, f.payload = 17, 10
		change(&f)
		return f.bytes()
	}
	v6 := func(f *frame) {
		f.from, f.to = netip.MustParseAddrPort("[2001:2::77]:4000"), netip.MustParseAddrPort("[2001:2::2]:9")
	}
	patch := func(b []byte, at int, with ...byte) []byte { copy(b[at:], with); return b }
	same := func(*frame) {}
	type counts struct{ bytes, packets, datagrams, fragments, other, strays uint64 }
	for _, c := range []struct {
		name  string
		bytes []byte
		want  counts
	}{
		{"datagram", udp(same), counts{bytes: 10, packets: 1, datagrams: 1}},
		{"IPv6 datagram", udp(v6), counts{bytes: 10, packets: 1, datagrams: 1}},
		{"padded", udp(func(f *frame) { f.padding = 18 }), counts{bytes: 10, packets: 1, datagrams: 1}},
		{"IPv6 padded", udp(func(f *frame) { v6(f); f.padding = 18 }), counts{bytes: 10, packets: 1, datagrams: 1}},
		{"first fragment", patch(udp(same), 20, 0x20, 0), counts{bytes: 10, packets: 1, datagrams: 1}},
		{"later fragment", patch(udp(same), 20, 0x00, 1), counts{bytes: 18, packets: 1, fragments: 1}},
		{"IPv6 first fragment", patch(udp(func(f *frame) { v6(f); f.payload = 18 }), 20, 44, 64), counts{other: 1}},
		{"shorter than it says", udp(func(f *frame) { f.cut = 1 }), counts{other: 1}},
		{"IPv6 shorter than it says", udp(func(f *frame) { v6(f); f.cut = 1 }), counts{other: 1}},
		{"IPv4 options", patch(udp(same), 14, 0x46), counts{other: 1}},
		{"another protocol", patch(udp(same), 23, 1), counts{other: 1}},
		{"IPv6 another protocol", patch(udp(v6), 20, 58), counts{other: 1}},
		{"a fragment of TCP", patch(patch(udp(same), 23, 6), 20, 0x00, 1), counts{other: 1}},
		{"ARP", patch(udp(same), 12, 8, 6), counts{other: 1}},
		{"header alone", udp(func(f *frame) { f.cut = 18 }), counts{other: 1}},
		{"TCP header too long", patch(frame{from: at.from, to: at.to, protocol: 6}.bytes(), 46, 0xf0), counts{other: 1}},
		{"TCP header too short", patch(frame{from: at.from, to: at.to, protocol: 6}.bytes(), 46, 0x40), counts{other: 1}},
		{"no connection", frame{from: at.from, to: at.to, protocol: 6, flags: ack}.bytes(), counts{strays: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := readTotals(b.programs)
			if err != nil {
				t.Fatal(err)
			}
			b.feedBytes(c.bytes)
			after, err := readTotals(b.programs)
			if err != nil {
				t.Fatal(err)
			}
			got := counts{
				after.UdpBytes - before.UdpBytes, after.UdpPackets - before.UdpPackets, after.UdpDatagrams - before.UdpDatagrams,
				after.UdpFragments - before.UdpFragments, after.Other - before.Other, after.Strays - before.Strays,
			}
			if got != c.want {
				t.Errorf("counted %+v, want %+v", got, c.want)
			}
		})
	}
	// The two halves of a fragmented IPv6 datagram: the header of a fragment
	// stands before that of UDP.
	first := patch(udp(func(f *frame) { v6(f); f.payload = 18 }), 20, 44)
	first = patch(first, 54, 17, 0, 0, 1, 0, 0, 0, 7) // offset 0, more to come
	later := patch(append([]byte(nil), first...), 56, 0, 24)
	before, _ := readTotals(b.programs)
	b.feedBytes(first)
	b.feedBytes(later)
	after, _ := readTotals(b.programs)
	if bytes, fragments := after.UdpBytes-before.UdpBytes, after.UdpFragments-before.UdpFragments; bytes != 10+18 || fragments != 1 {
		t.Errorf("IPv6 fragments: %d bytes, %d later fragments", bytes, fragments)
	}
}

// TestSYNOfAnother has a sender that has forgotten a connection use its ports.
func TestSYNOfAnother(t *testing.T) {
	b := newBench(t)
	b.open()
	b.segment(0, 100, 0)
	b.segment(300, 100, 0)
	b.feed(frame{protocol: 6, seq: 5000, flags: syn})
	if a, ok := b.answer(); !ok || a.flags != syn|ack || a.ack != 5001 {
		t.Errorf("answered %t %+v", ok, a)
	}
	if f := tcpFlow(b.key, b.flow()); f.Traffic != (Traffic{}) || f.Held != 0 || f.OutOfOrder != 0 {
		t.Errorf("it has things of the other: %+v", f)
	}
}

// TestRoom fills the table of flows, and has the sweeper make room.
func TestRoom(t *testing.T) {
	settings := Options{MTU: 1500, Window: defaultWindow}.settings()
	settings.Device = 1 << 30
	const room = 8
	b := benchWith(t, room, settings)
	syns := func(from, to int) {
		for i := from; i < to; i++ {
			b.use(fmt.Sprintf("198.18.0.77:%d", 1000+i), "198.18.0.2:9")
			b.feed(frame{protocol: 6, seq: benchISN, flags: syn})
			b.answer()
		}
	}
	syns(0, room+3)
	total, err := readTotals(b.programs)
	if err != nil || total.Created != room || total.Refused != 3 {
		t.Fatalf("%+v, %v", total, err)
	}
	for i := range room / 2 {
		b.use(fmt.Sprintf("198.18.0.77:%d", 1000+i), "198.18.0.2:9")
		b.segment(0, 0, rst)
	}
	w := sweeper{programs: b.programs, max: room}
	if err := w.look(); err != nil || w.swept != 0 {
		t.Fatalf("swept %d flows at first sight, %v", w.swept, err)
	}
	// One of them is used again in time.
	b.use("198.18.0.77:1000", "198.18.0.2:9")
	b.feed(frame{protocol: 6, seq: 7, flags: syn})
	b.answer()
	if err := w.look(); err != nil || w.swept != room/2-1 {
		t.Fatalf("swept %d flows, %v", w.swept, err)
	}
	if f := b.flow(); f.Open != 2 {
		t.Errorf("%+v", f)
	}
	if err := w.look(); err != nil || w.swept != room/2-1 {
		t.Fatalf("swept %d flows, %v", w.swept, err)
	}
	b.use("198.18.0.77:1001", "198.18.0.2:9")
	var f sinkFlow
	if err := b.programs.Flows.Lookup(b.key, &f); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("it is still there: %+v, %v", f, err)
	}
	// Between being chosen and being deleted a flow cannot be opened.
	b.use("198.18.0.77:1004", "198.18.0.2:9")
	b.segment(0, 0, rst)
	if ok, err := control(b.programs.Control, b.key, sinkFlowFlagFLOW_DOOMED); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b.feed(frame{protocol: 6, seq: 7, flags: syn})
	b.wantSilence()
	syns(room, room+3)
	if total, err = readTotals(b.programs); err != nil || total.Refused != 3 {
		t.Errorf("%+v, %v", total, err)
	}
}
