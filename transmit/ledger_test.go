package transmit

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// transfer opens an entry, makes n zero-copy sends for it and closes it.
func transfer(l *ledger, n int, end uint64) int {
	i := l.open()
	for range n {
		l.sending(i)
	}
	l.close(i, Result{Bytes: int64(end)}, end, end > 0)
	return i
}

func TestLedgerRanges(t *testing.T) {
	for name, first := range map[string]uint32{"from 0": 0, "wrapping": ^uint32(0) - 2, "at the sign": 1<<31 - 2} {
		t.Run(name, func(t *testing.T) {
			l := &ledger{}
			l.ids.first = first
			a, b, c := transfer(l, 2, 0), transfer(l, 1, 0), transfer(l, 3, 0)
			out := func() [3]bool { return [3]bool{l.entries[a].out, l.entries[b].out, l.entries[c].out} }
			for _, step := range []struct {
				lo, hi  uint32
				copied  bool
				want    [3]bool
				foreign uint64
			}{
				{lo: 2, hi: 2, want: [3]bool{true, false, true}},                              // out of order
				{lo: 2, hi: 2, want: [3]bool{true, false, true}, foreign: 1},                  // twice
				{lo: ^uint32(0), hi: 0, want: [3]bool{true, false, true}, foreign: 1},         // begins before ours
				{lo: 4, hi: 9, copied: true, want: [3]bool{true, false, true}, foreign: 4},    // ends after ours
				{lo: 1, hi: 1, want: [3]bool{false, false, true}},                             // the second of two
				{lo: 100, hi: 200, want: [3]bool{false, false, true}, foreign: 101},           // none of ours
				{lo: 1 << 31, hi: 1<<31 + 1, want: [3]bool{false, false, true}, foreign: 2},   // half the circle away
				{lo: 0, hi: 3, want: [3]bool{false, false, false}, foreign: 3},                // merged over the rest
				{lo: 0, hi: ^uint32(0), want: [3]bool{false, false, false}, foreign: 1 << 32}, // the whole circle
			} {
				before := l.foreign
				l.notify(first+step.lo, first+step.hi, step.copied)
				if out() != step.want || l.foreign-before != step.foreign {
					t.Errorf("after %d-%d: out %v, foreign %d; want %v, %d", int32(step.lo), int32(step.hi), out(), l.foreign-before, step.want, step.foreign)
				}
			}
			if l.out != 0 || l.ids.n != 0 {
				t.Errorf("%d transfers and %d sends still out", l.out, l.ids.n)
			}
			if r := l.entries[c].result.Reported; r != Mixed {
				t.Errorf("three sends of which two were copied: %v", r)
			}
			if r := l.entries[a].result.Reported; r != Uncopied {
				t.Errorf("two sends, none copied: %v", r)
			}
		})
	}
}

// TestLedgerGate keeps memory although it is notified until the peer has
// acknowledged it: net.ipv4.tcp_mtu_probing makes kernels notify early.
func TestLedgerGate(t *testing.T) {
	l := &ledger{}
	a, b := transfer(l, 1, 1000), transfer(l, 1, 3000)
	l.notify(0, 1, false)
	if !l.entries[a].out || !l.entries[b].out {
		t.Fatal("released before the peer acknowledged")
	}
	l.acknowledge(999)
	if !l.entries[a].out {
		t.Fatal("released one byte too early")
	}
	l.acknowledge(1000)
	if l.entries[a].out || !l.entries[b].out {
		t.Errorf("after 1000 bytes: %v %v", l.entries[a].out, l.entries[b].out)
	}
	l.acknowledge(500) // an older answer
	dead := errors.New("dead")
	l.openGate(dead)
	if l.entries[b].out || l.entries[b].err != dead {
		t.Errorf("a dead connection keeps %+v", l.entries[b])
	}
}

type countingLoan struct{ back, abandoned int }

func (c *countingLoan) returned(abandoned bool) {
	if abandoned {
		c.abandoned++
	} else {
		c.back++
	}
}

// TestLedgerUnderWay releases nothing of a transfer that is not closed, though
// all it has sent so far is notified.
func TestLedgerUnderWay(t *testing.T) {
	l := &ledger{}
	m := &countingLoan{}
	i := l.open()
	l.entries[i].loans = append(l.entries[i].loans, m)
	l.sending(i)
	l.notify(0, 0, false)
	l.sending(i)
	l.notSent(i) // refused: the number is given to the next
	if m.back != 0 {
		t.Fatal("released while under way")
	}
	l.sending(i)
	l.close(i, Result{}, 0, false)
	if m.back != 0 {
		t.Fatal("released with a send out")
	}
	l.notify(1, 1, false)
	if m.back != 1 || l.out != 0 {
		t.Errorf("came back %d times, %d out", m.back, l.out)
	}
	j := l.open()
	l.entries[j].loans = append(l.entries[j].loans, m)
	l.sending(j)
	l.close(j, Result{Bytes: 7}, 0, false)
	if n, bytes := l.abandon(errors.New("closed")); n != 1 || bytes != 7 || m.abandoned != 1 {
		t.Errorf("abandoned %d transfers of %d bytes, %d loans", n, bytes, m.abandoned)
	}
}

// TestLedgerModel compares with a plain map over random orders.
func TestLedgerModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		l := &ledger{}
		l.ids.first = rng.Uint32()
		next := l.ids.first
		left := map[uint32]int{} // number: entry
		pending := map[int]int{} // entry: sends out
		gens := map[int]uint32{}
		for range 300 {
			if rng.IntN(2) == 0 {
				n := 1 + rng.IntN(4)
				i := transfer(l, n, 0)
				for range n {
					left[next] = i
					next++
				}
				pending[i], gens[i] = n, l.entries[i].gen
				continue
			}
			lo := next - uint32(rng.IntN(40))
			hi := lo + uint32(rng.IntN(6))
			l.notify(lo, hi, rng.IntN(2) == 0)
			for id := lo; id != hi+1; id++ {
				if i, ok := left[id]; ok {
					delete(left, id)
					pending[i]--
				}
			}
			for i, n := range pending {
				if e := l.entries[i]; e.gen == gens[i] && e.out != (n > 0) {
					t.Fatalf("round %d: entry %d out %v, %d sends left", round, i, e.out, n)
				}
			}
		}
	}
}

func TestLedgerAllocatesNothing(t *testing.T) {
	l := &ledger{}
	for range 4 * keepEntries {
		transfer(l, 1, 0)
		l.notify(l.ids.first, l.ids.first, false)
	}
	if n := testing.AllocsPerRun(1000, func() {
		transfer(l, 2, 0)
		l.notify(l.ids.first, l.ids.first+1, false)
	}); n != 0 {
		t.Errorf("%v allocations per transfer", n)
	}
}

func FuzzLedger(f *testing.F) {
	f.Add(uint32(0), uint32(0), uint32(0), uint8(3))
	f.Add(^uint32(0), ^uint32(0), uint32(5), uint8(9))
	f.Add(uint32(6), uint32(19), uint32(10), uint8(140)) // nearly the whole circle, from within ours
	f.Fuzz(func(t *testing.T, first, lo, hi uint32, n uint8) {
		l := &ledger{}
		l.ids.first = first
		for range n {
			transfer(l, 1, 0)
		}
		want := 0
		for k := range uint32(n) {
			if first+k-lo <= hi-lo && hi-lo < 1<<31 {
				want++
			}
		}
		l.notify(lo, hi, false)
		if got := int(n) - l.out; got != want {
			t.Errorf("%d-%d over %d+%d released %d, want %d", lo, hi, first, n, got, want)
		}
	})
}
