package transmit_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

// newSink returns a peer on a path on which the kernel has no reason to copy.
func newSink(t testing.TB) *lab.Sink {
	t.Helper()
	testenv.Root(t)
	s, err := lab.NewSink(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sinkSender(t testing.TB, sink *lab.Sink, network string, o transmit.Options) *transmit.Sender {
	t.Helper()
	c, err := sink.Dial(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var s *transmit.Sender
	switch c := c.(type) {
	case *net.TCPConn:
		s, err = transmit.NewSender(c, o)
	case *net.UDPConn:
		s, err = transmit.NewSender(c, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestUncopied sends on a path without a copy: the kernel reports none, and all
// memory comes back, from a pool of which all buffers are in flight at times.
func TestUncopied(t *testing.T) {
	const sends, size = 200, 256 << 10
	sink := newSink(t)
	for _, c := range []struct {
		network string
		o       transmit.Options
		// Bytes that may be copied to make the send buffer grow, on kernels before
		// 5.14: an eighth was seen on a busy machine.
		plain int64
	}{
		{"tcp4", transmit.Options{}, sends * size / 3},
		{"tcp6", transmit.Options{}, sends * size / 3},
		{"tcp4", transmit.Options{NoReader: true}, 0},
	} {
		t.Run(fmt.Sprintf("%s/reader=%v", c.network, !c.o.NoReader), func(t *testing.T) {
			s := sinkSender(t, sink, c.network, c.o)
			pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: size, MaxBytes: 16 * size})
			if err != nil {
				t.Fatal(err)
			}
			var last transmit.Completion
			for i := range sends {
				b, err := pool.Get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				b.Bytes()[0] = byte(i)
				last, err = s.SendBuffer(t.Context(), b)
				b.Release()
				if err != nil {
					t.Fatal(err)
				}
			}
			r, err := last.Wait(t.Context())
			if err != nil || r.Reported != transmit.Uncopied || r.Backend != transmit.MsgZerocopy {
				t.Errorf("%+v, %v", r, err)
			}
			if err := s.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if st.CopiedSends != 0 || st.Notified != st.ZerocopySends || st.PlainBytes > c.plain || st.Bytes != sends*size || st.Outstanding != 0 {
				t.Errorf("%+v", st)
			}
			t.Logf("%d bytes copied", st.PlainBytes)
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if err := pool.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSendUDP checks which datagrams are lent: those that fit the MTU, and trains
// of them.
func TestSendUDP(t *testing.T) {
	sink := newSink(t)
	for _, c := range []struct {
		name    string
		size    int
		segment int
		zc      bool
		cause   string
	}{
		{name: "fits", size: 1472, zc: true},
		{name: "one byte over the MTU", size: 1473, cause: "udp-over-mtu"},
		{name: "train", size: 56000, segment: 1400, zc: true},
		{name: "not a train", size: 1400, segment: 1400, zc: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sinkSender(t, sink, "udp4", transmit.Options{Threshold: 1000, SegmentBytes: c.segment, OnDowngrade: func(*transmit.Downgrade) {}})
			done, err := s.Send(t.Context(), make([]byte, c.size))
			if err != nil || done.Bytes() != int64(c.size) {
				t.Fatalf("%d bytes, %v", done.Bytes(), err)
			}
			r, err := done.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.zc != (r.Backend == transmit.MsgZerocopy) || c.zc != (r.Reported == transmit.Uncopied) || r.Cause != c.cause {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestSendAllocatesNothing checks the steady state, with and without a context
// that can end.
func TestSendAllocatesNothing(t *testing.T) {
	sink := newSink(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": ctx} {
		for _, size := range []int{100, 64 << 10} {
			s := sinkSender(t, sink, "tcp4", transmit.Options{})
			p := make([]byte, size)
			send := func() {
				if _, err := s.Send(ctx, p); err != nil {
					t.Fatal(err)
				}
			}
			for range 500 {
				send()
			}
			// The watcher's look now and then may allocate.
			if n := testing.AllocsPerRun(2000, send); n >= 1 {
				t.Errorf("%s, %d bytes: %v allocations", name, size, n)
			}
		}
	}
}

// TestIdleSendersAreSmall looks at two thousand that sent once.
func TestIdleSendersAreSmall(t *testing.T) {
	sink := newSink(t)
	const n = 2000
	conns := make([]net.Conn, n)
	for i := range conns {
		var err error
		if conns[i], err = sink.Dial(t.Context(), "tcp4"); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	senders := make([]*transmit.Sender, n)
	p := make([]byte, 32<<10)
	for i := range senders {
		var err error
		if senders[i], err = transmit.NewSender(conns[i].(*net.TCPConn), transmit.Options{}); err != nil {
			t.Fatal(err)
		}
		c, err := senders[i].Send(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	each := int64(heap()-before) / n
	t.Logf("%d bytes each", each)
	if each > 4096 {
		t.Errorf("%d bytes of Go memory for each idle sender", each)
	}
	if more := runtime.NumGoroutine() - goroutines; more > 2 {
		t.Errorf("%d more goroutines for %d idle senders", more, n)
	}
	runtime.KeepAlive(senders)
}
