package lab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// bench feeds frames to the programs, which are attached to nothing: the acker
// runs when the test says, and what it sends is read from its packet.
type bench struct {
	t        *testing.T
	programs sinkObjects
	key      sinkKey
	from, to netip.AddrPort
}

const (
	benchWindow = 1000 << 4
	benchISN    = 0xfffffc00 // sequence numbers wrap after a kilobyte
	sinkISN     = 0x10000000 // SINK_ISN of the program
)

func newBench(t *testing.T) *bench {
	testenv.Root(t)
	settings := Options{MTU: 1500, Window: benchWindow}.settings()
	settings.Device = 1 << 30 // there is none, so that nothing is sent
	settings.Window, settings.Scale = benchWindow, 4
	return benchWith(t, 256, settings)
}

func benchWith(t *testing.T, maxFlows int, settings sinkSettings) *bench {
	t.Helper()
	programs, err := loadPrograms(maxFlows, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { programs.Close() })
	b := &bench{t: t, programs: programs}
	b.use("198.18.0.77:4000", "198.18.0.2:9")
	return b
}

// of returns the same programs for another test, and another connection.
func (b *bench) of(t *testing.T, from string) *bench {
	another := *b
	another.t = t
	another.use(from, b.to.String())
	return &another
}

// use makes the frames that follow those of one connection.
func (b *bench) use(from, to string) {
	b.from, b.to = netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	b.key = flowKey(b.from, b.to)
}

func (b *bench) feed(f frame) {
	b.t.Helper()
	f.from, f.to = b.from, b.to
	b.feedBytes(f.bytes())
}

func (b *bench) feedBytes(frame []byte) {
	b.t.Helper()
	const stolen = 4 // TC_ACT_STOLEN
	code, err := b.programs.Take.Run(&ebpf.RunOptions{Data: frame})
	if err != nil || code != stolen {
		b.t.Fatalf("take: %d, %v", code, err)
	}
}

// segment feeds payload at an offset in the stream, whose first byte is 0.
func (b *bench) segment(offset, size int, flags byte) {
	b.t.Helper()
	b.feed(frame{protocol: 6, seq: benchISN + 1 + uint32(offset), ack: sinkISN + 1, flags: ack | flags, payload: size})
}

// open makes the connection: SYN, SYN-ACK, ACK.
func (b *bench) open() {
	b.t.Helper()
	b.feed(frame{protocol: 6, seq: benchISN, flags: syn})
	if a, ok := b.answer(); !ok || a.flags != syn|ack {
		b.t.Fatalf("SYN: answered %t %+v", ok, a)
	}
	b.segment(0, 0, 0)
}

func (b *bench) flow() sinkFlow {
	b.t.Helper()
	var f sinkFlow
	if err := b.programs.Flows.LookupWithFlags(b.key, &f, ebpf.LookupLock); err != nil {
		b.t.Fatal(err)
	}
	return f
}

// next is how many bytes of the stream have arrived in order.
func (b *bench) next() int {
	b.t.Helper()
	return int(b.flow().Next - benchISN - 1)
}

// queued reports whether the flow waits to be answered.
func (b *bench) queued() bool {
	b.t.Helper()
	return b.flow().Flags&sinkFlowFlagFLOW_QUEUED != 0
}

// answer runs the acker until it rests, and returns what it sent, at most one
// segment. Its packet is empty before.
func (b *bench) answer() (f frame, ok bool) {
	b.t.Helper()
	out := make([]byte, ackerFrame+256)
	in := make([]byte, ackerFrame)
	for range 1_000_000 {
		o := ebpf.RunOptions{Data: in, DataOut: out, Repeat: 1}
		code, err := b.programs.Acker.Run(&o)
		if err != nil {
			b.t.Fatal(err)
		}
		if o.DataOut[12] != 0 {
			if ok {
				b.t.Fatal("the acker sends two segments")
			}
			var right bool
			if f, right = parseAnswer(o.DataOut); !right {
				b.t.Errorf("a checksum is wrong in %x", o.DataOut)
			}
			if f.from != b.to || f.to != b.from || f.payload != 0 {
				b.t.Errorf("an answer from %v to %v with %d bytes", f.from, f.to, f.payload)
			}
			ok = true
		}
		if code == 1 {
			return f, ok
		}
	}
	b.t.Fatal("the acker does not rest")
	return f, ok
}

// wantAnswer expects an ACK up to an offset in the stream.
func (b *bench) wantAnswer(offset int, flags byte) frame {
	b.t.Helper()
	a, ok := b.answer()
	if !ok || a.ack != benchISN+1+uint32(offset) || a.flags != ack|flags {
		b.t.Errorf("answered %t %+v, want an ACK of %d with flags %#x", ok, a, uint32(benchISN)+1+uint32(offset), flags)
	}
	return a
}

func (b *bench) wantSilence() {
	b.t.Helper()
	if a, ok := b.answer(); ok {
		b.t.Errorf("answered %+v", a)
	}
}

func TestHandshake(t *testing.T) {
	for name, at := range map[string][2]string{"IPv4": {"198.18.0.77:4000", "198.18.0.2:9"}, "IPv6": {"[2001:2::77]:4000", "[2001:2::2]:65535"}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.use(at[0], at[1])
			// The options of a SYN of Linux.
			options := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
			b.feed(frame{protocol: 6, seq: benchISN, flags: syn, options: options})
			a, ok := b.answer()
			mss := map[string]uint16{"IPv4": 1460, "IPv6": 1440}[name]
			want := []byte{2, 4, byte(mss >> 8), byte(mss), 1, 3, 3, 4}
			if !ok || a.flags != syn|ack || a.seq != sinkISN || a.ack != benchISN+1 || a.window != benchWindow || string(a.options) != string(want) {
				t.Errorf("SYN: answered %t %+v", ok, a)
			}
			b.feed(frame{protocol: 6, seq: benchISN, flags: syn, options: options})
			if again, ok := b.answer(); !ok || again.flags != syn|ack || again.seq != sinkISN || again.ack != benchISN+1 {
				t.Errorf("SYN again: answered %t %+v", ok, again)
			}
			b.segment(0, 0, 0)
			b.wantSilence()
			if f := b.flow(); f.Open != 1 || f.Packets != 1 {
				t.Errorf("%+v", f)
			}
			b.segment(0, 100, 0)
			if a := b.wantAnswer(100, 0); a.seq != sinkISN+1 || a.window != benchWindow>>4 || len(a.options) != 0 {
				t.Errorf("an ACK of %+v", a)
			}
		})
	}
}

// TestReordering feeds segments in other orders than they were sent in.
func TestReordering(t *testing.T) {
	b := newBench(t)
	type in struct{ offset, size, next int } // a segment, and what has then arrived in order
	for i, c := range []struct {
		name                              string
		in                                []in
		duplicates, outOfOrder, discarded uint64
		held                              int
	}{
		{name: "in order", in: []in{{0, 100, 100}, {100, 100, 200}, {200, 1300, 1500}}},
		{name: "hole", in: []in{{100, 100, 0}, {0, 100, 200}}, outOfOrder: 1},
		{name: "hole stays", in: []in{{0, 100, 100}, {200, 100, 100}, {300, 100, 100}}, outOfOrder: 2, held: 200},
		{name: "backwards", in: []in{{400, 100, 0}, {300, 100, 0}, {200, 100, 0}, {100, 100, 0}, {0, 100, 500}}, outOfOrder: 4},
		{name: "two holes", in: []in{{100, 100, 0}, {300, 100, 0}, {0, 100, 200}, {200, 100, 400}}, outOfOrder: 2},
		{name: "second hole first", in: []in{{100, 100, 0}, {300, 100, 0}, {200, 100, 0}, {0, 100, 400}}, outOfOrder: 3},
		{name: "fill part of a hole", in: []in{{100, 100, 0}, {0, 50, 50}, {50, 49, 99}, {99, 1, 200}}, outOfOrder: 1},
		{name: "one byte missing", in: []in{{1, 1000, 0}}, outOfOrder: 1, held: 1000},
		{name: "again", in: []in{{0, 100, 100}, {0, 100, 100}}, duplicates: 1},
		{name: "again within", in: []in{{0, 100, 100}, {20, 30, 100}}, duplicates: 1},
		{name: "again and more", in: []in{{0, 100, 100}, {50, 100, 150}}},
		{name: "again behind a hole", in: []in{{100, 100, 0}, {100, 100, 0}, {0, 100, 200}}, outOfOrder: 2},
		{name: "overlap behind a hole", in: []in{{100, 100, 0}, {150, 100, 0}, {50, 100, 0}, {0, 50, 250}}, outOfOrder: 3},
		{name: "overlap of two ranges", in: []in{{100, 100, 0}, {300, 100, 0}, {150, 200, 0}, {0, 101, 400}}, outOfOrder: 3},
		{name: "one over all", in: []in{{100, 100, 0}, {300, 100, 0}, {0, 1000, 1000}}, outOfOrder: 2},
		{name: "eight holes", in: []in{{100, 10, 0}, {200, 10, 0}, {300, 10, 0}, {400, 10, 0}, {500, 10, 0}, {600, 10, 0}, {700, 10, 0}, {800, 10, 0}, {0, 810, 810}}, outOfOrder: 8},
		{name: "nine holes", in: []in{{100, 10, 0}, {200, 10, 0}, {300, 10, 0}, {400, 10, 0}, {500, 10, 0}, {600, 10, 0}, {700, 10, 0}, {800, 10, 0}, {900, 10, 0}, {0, 900, 900}, {910, 10, 900}, {900, 10, 920}}, outOfOrder: 10, discarded: 1},
		{name: "a ninth that joins two", in: []in{{100, 10, 0}, {200, 10, 0}, {300, 10, 0}, {400, 10, 0}, {500, 10, 0}, {600, 10, 0}, {700, 10, 0}, {800, 10, 0}, {110, 90, 0}, {900, 10, 0}}, outOfOrder: 10, held: 180},
		{name: "beyond the window", in: []in{{benchWindow - 100, 101, 0}, {benchWindow - 100, 100, 0}}, outOfOrder: 1, discarded: 1, held: 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := b.of(t, fmt.Sprintf("198.18.0.77:%d", 1000+i))
			b.open()
			for _, s := range c.in {
				b.segment(s.offset, s.size, 0)
				if got := b.next(); got != s.next {
					t.Errorf("after %d bytes at %d: %d arrived in order, want %d", s.size, s.offset, got, s.next)
				}
			}
			f := b.flow()
			held := 0
			for _, r := range f.Ranges {
				held += int(r.End - r.Start)
			}
			last := c.in[len(c.in)-1].next
			if f.Duplicates != c.duplicates || f.OutOfOrder != c.outOfOrder || f.Discarded != c.discarded || held != c.held || f.Bytes != uint64(last) {
				t.Errorf("%+v, %d bytes held", f, held)
			}
			if b.queued() {
				b.wantAnswer(last, 0)
			}
		})
	}
}

// TestNoFalseAck feeds streams in random orders, with repetitions, and compares
// with a table of the bytes that were fed.
func TestNoFalseAck(t *testing.T) {
	b := newBench(t)
	for round := range 200 {
		b.use(fmt.Sprintf("198.18.0.%d:%d", round%8, 1000+round/8), "198.18.0.2:9")
		b.open()
		r := rand.New(rand.NewPCG(1, uint64(round)))
		const stream = 4000
		var fed [stream]bool
		inOrder := func() int {
			n := 0
			for n < stream && fed[n] {
				n++
			}
			return n
		}
		for range 60 {
			size := 1 + r.IntN(400)
			// Mostly near what is waited for, and never more ranges than fit.
			offset := max(0, inOrder()-100+r.IntN(1200))
			if offset+size > stream {
				continue
			}
			for i := range size {
				fed[offset+i] = true
			}
			before := b.flow().Discarded
			b.segment(offset, size, 0)
			f := b.flow()
			if f.Discarded != before { // the ninth hole: not taken
				for i := range size {
					fed[offset+i] = false
				}
				break
			}
			if got, want := b.next(), inOrder(); got != want || f.Bytes != uint64(want) {
				t.Fatalf("round %d: %d arrived in order, %d counted, want %d", round, got, f.Bytes, want)
			}
		}
		if b.queued() {
			b.wantAnswer(b.next(), 0)
		}
	}
}
