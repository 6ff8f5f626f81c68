package transmit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// testPool makes a pool of n buffers that the test closes, with nothing in use.
func testPool(t testing.TB, o PoolOptions, n int) *Pool {
	t.Helper()
	o.MaxBytes = int64(n) * int64(o.BufferBytes)
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func get(t testing.TB, p *Pool) Buffer {
	t.Helper()
	b, err := p.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// panics reports whether fn panics.
func panics(fn func()) (did bool) {
	defer func() { did = recover() != nil }()
	fn()
	return false
}

func TestPoolOptions(t *testing.T) {
	for _, o := range []PoolOptions{{}, {BufferBytes: -1}, {BufferBytes: maxInt}, {BufferBytes: 8192, MaxBytes: 4096},
		{BufferBytes: 8192, MaxBytes: -1}} {
		if p, err := NewPool(o); err == nil || p != nil {
			t.Errorf("%+v: %v, %v", o, p, err)
		}
	}
	p := testPool(t, PoolOptions{BufferBytes: 1}, 1<<20)
	b := get(t, p)
	if b.Cap() != p.BufferBytes() || b.Len() != b.Cap() || len(b.Bytes()) != b.Cap() || cap(b.Bytes()) != b.Cap() || b.Cap()%4096 != 0 {
		t.Errorf("a buffer of %d bytes has %d of %d", p.BufferBytes(), b.Len(), b.Cap())
	}
	b.SetLen(3)
	if len(b.Bytes()) != 3 || b.Cap() == 3 {
		t.Errorf("length %d of %d after SetLen(3)", len(b.Bytes()), b.Cap())
	}
	if !panics(func() { b.SetLen(b.Cap() + 1) }) || !panics(func() { b.SetLen(-1) }) {
		t.Error("a length that is none is taken")
	}
	b.Release()
	if b = get(t, p); b.Len() != b.Cap() {
		t.Errorf("a buffer comes with the last user's length %d", b.Len())
	}
	b.Release()
}

// TestBufferReleased uses a buffer after its release, while it is free and when
// someone else has the same memory.
func TestBufferReleased(t *testing.T) {
	p := testPool(t, PoolOptions{BufferBytes: 4096}, 1)
	old := get(t, p)
	old.Release()
	var again Buffer
	for _, when := range []string{"free", "given out again", "no buffer"} {
		switch when {
		case "given out again":
			if again = get(t, p); again.slot != old.slot {
				t.Fatal("a pool of one buffer gave out another")
			}
		case "no buffer":
			old = Buffer{}
		}
		for name, use := range map[string]func(){"Bytes": func() { old.Bytes() }, "Len": func() { old.Len() },
			"Cap": func() { old.Cap() }, "SetLen": func() { old.SetLen(1) }, "File": func() { old.File() }, "Release": old.Release} {
			if !panics(use) {
				t.Errorf("%s after Release, %s: no panic", name, when)
			}
		}
		if s, err := old.lend(); err == nil || s != nil {
			t.Errorf("%s: a released buffer was lent", when)
		}
		if old.Writable() {
			t.Errorf("%s: a released buffer is writable", when)
		}
	}
	if again.Len() != 4096 {
		t.Error("the stale buffer changed the new one")
	}
	again.Release()
}

// TestBufferLoans follows a buffer through all orders of release and return.
func TestBufferLoans(t *testing.T) {
	for _, c := range []struct {
		steps string // l lend, b back, a abandoned, r release; the last one frees
		fresh bool   // the memory is not given out again
	}{
		{"r", false}, {"lbr", false}, {"lrb", false}, {"llrbb", false}, {"llbrb", false}, {"lblbr", false},
		{"lar", true}, {"lra", true}, {"llrab", true}, {"llrba", true}, {"llarb", true}, {"lalbr", true},
	} {
		t.Run(c.steps, func(t *testing.T) {
			p := testPool(t, PoolOptions{BufferBytes: 4096}, 1)
			b := get(t, p)
			s := b.slot
			for i, step := range c.steps {
				if _, err := p.TryGet(); !errors.Is(err, ErrNoBuffer) {
					t.Fatalf("before step %d the buffer is free: %v", i, err)
				}
				switch step {
				case 'l':
					if _, err := b.lend(); err != nil {
						t.Fatal(err)
					}
					if b.Writable() || p.Stats().Lent != 1 {
						t.Error("a lent buffer is writable, or not counted")
					}
				case 'b':
					s.returned(false)
				case 'a':
					s.returned(true)
					if b.Writable() {
						t.Error("an abandoned buffer is writable")
					}
				case 'r':
					b.Release()
				}
			}
			st := p.Stats()
			if st.InUse != 0 || st.Lent != 0 || st.Abandoned != map[bool]int64{true: 1}[c.fresh] || st.AbandonedBytes != st.Abandoned*4096 {
				t.Errorf("at the end %+v", st)
			}
			if !panics(func() { s.returned(false) }) {
				t.Error("a buffer came back that was not lent")
			}
			n := get(t, p)
			if fresh := n.slot != s; fresh != c.fresh {
				t.Errorf("given out again: %v, want %v", !fresh, !c.fresh)
			}
			n.Release()
		})
	}
}

// TestPoolWait lets goroutines wait at the bound, some of which give up.
func TestPoolWait(t *testing.T) {
	p := testPool(t, PoolOptions{BufferBytes: 4096}, 1)
	b := get(t, p)
	cause := errors.New("had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error)
	go func() { _, err := p.Get(ctx); got <- err }()
	waiting(t, p, 1)
	second := make(chan Buffer)
	go func() { n, err := p.Get(context.Background()); second <- n; got <- err }()
	waiting(t, p, 2)
	cancel(cause)
	if err := <-got; !errors.Is(err, cause) {
		t.Errorf("a wait that was given up: %v", err)
	}
	b.Release()
	n := <-second
	if err := <-got; err != nil || n.Len() != 4096 {
		t.Errorf("the next got %v, %v", n, err)
	}
	// An abandoned buffer makes room for another as well.
	s, err := n.lend()
	if err != nil {
		t.Fatal(err)
	}
	n.Release()
	go func() { n, err := p.Get(context.Background()); second <- n; got <- err }()
	waiting(t, p, 3)
	s.returned(true)
	n = <-second
	if err := <-got; err != nil || n.slot == s {
		t.Errorf("after an abandoned loan: %v", err)
	}
	n.Release()
	// A context that ended does not matter where nobody waits.
	if n, err = p.Get(ctx); err != nil {
		t.Fatal(err)
	}
	n.Release()
}

// waiting waits until n calls of Get have waited.
func waiting(t *testing.T, p *Pool, n int64) {
	t.Helper()
	for range 5000 {
		if p.Stats().Waits == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d calls waited, not %d", p.Stats().Waits, n)
}

// TestPoolClose closes a pool with a buffer in use, with one lent, and with a
// caller that waits.
func TestPoolClose(t *testing.T) {
	p, err := NewPool(PoolOptions{BufferBytes: 4096, MaxBytes: 2 * 4096})
	if err != nil {
		t.Fatal(err)
	}
	used, lent := get(t, p), get(t, p)
	s, err := lent.lend()
	if err != nil {
		t.Fatal(err)
	}
	lent.Release()
	got := make(chan error)
	go func() { _, err := p.Get(context.Background()); got <- err }()
	waiting(t, p, 1)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	busy, ok := errors.AsType[*PoolBusyError](p.Close(ended))
	if !ok || busy.Owned != 1 || busy.Lent != 1 || busy.Bytes != 8192 || !errors.Is(busy, context.Canceled) {
		t.Errorf("closed in use: %+v", busy)
	}
	if err := <-got; !errors.Is(err, ErrPoolClosed) || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a caller that waits gets %v", err)
	}
	if _, err := p.TryGet(); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("a closed pool gives out a buffer: %v", err)
	}
	used.Bytes()[4095] = 1 // still there
	closed := make(chan error)
	go func() { closed <- p.Close(context.Background()) }()
	used.Release()
	s.returned(false)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if st := p.Stats(); st.Buffers != 0 || st.Bytes != 0 {
		t.Errorf("a closed pool has %+v", st)
	}
}

// TestPoolConcurrent lets goroutines take buffers, lend them to others that return
// them later, and checks that nobody writes into what another still holds.
func TestPoolConcurrent(t *testing.T) {
	const workers, rounds = 8, 4000
	p := testPool(t, PoolOptions{BufferBytes: 4096}, 5)
	type loan struct {
		s    *slot
		mem  []byte
		mark [8]byte
		lost bool
	}
	loans := make(chan loan, 64)
	var kernel, users sync.WaitGroup
	for range 2 {
		kernel.Go(func() {
			for l := range loans {
				if !bytes.Equal(l.mem[:8], l.mark[:]) {
					t.Error("lent memory changed")
				}
				l.s.returned(l.lost)
			}
		})
	}
	for w := range workers {
		users.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range rounds {
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if r.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(50))*time.Microsecond)
				}
				b, err := p.Get(ctx)
				cancel()
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					continue
				}
				var mark [8]byte
				binary.NativeEndian.PutUint64(mark[:], uint64(w)<<32|uint64(i))
				copy(b.Bytes(), mark[:])
				for range r.IntN(3) {
					s, err := b.lend()
					if err != nil {
						t.Error(err)
						break
					}
					loans <- loan{s, b.Bytes(), mark, r.IntN(50) == 0}
				}
				if !bytes.Equal(b.Bytes()[:8], mark[:]) {
					t.Error("another wrote into our buffer")
				}
				b.Release()
			}
		})
	}
	users.Wait()
	close(loans)
	kernel.Wait()
	if st := p.Stats(); st.InUse != 0 || st.Free != st.Buffers || st.Abandoned == 0 {
		t.Errorf("at the end %+v", st)
	}
}

func BenchmarkPool(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("buffers=%d", n), func(b *testing.B) {
			p := testPool(b, PoolOptions{BufferBytes: 4096}, n)
			b.ReportAllocs()
			for b.Loop() {
				buf, err := p.Get(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				s, err := buf.lend()
				if err != nil {
					b.Fatal(err)
				}
				buf.Release()
				s.returned(false)
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		p := testPool(b, PoolOptions{BufferBytes: 4096}, 64)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				buf, err := p.Get(context.Background())
				if err != nil {
					b.Error(err)
					return
				}
				buf.Release()
			}
		})
	})
}

// TestPoolAllocatesNothing takes buffers again and again.
func TestPoolAllocatesNothing(t *testing.T) {
	p := testPool(t, PoolOptions{BufferBytes: 4096}, 4)
	if n := testing.AllocsPerRun(200, func() {
		a, b := get(t, p), get(t, p)
		s, _ := a.lend()
		a.Release()
		s.returned(false)
		b.Release()
	}); n != 0 {
		t.Errorf("%v allocations for two buffers", n)
	}
}
