package transmit_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// newRing returns a ring that the test closes when its Senders are closed.
func newRing(t testing.TB, o transmit.RingOptions) *transmit.Ring {
	t.Helper()
	r, err := transmit.NewRing(o)
	if err != nil {
		t.Skipf("needs io_uring: %v", err)
	}
	if err := r.ZeroCopy(); err != nil {
		t.Skipf("needs SEND_ZC: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return r
}

// TestRingUncopied sends on a path without a copy: every notification says so, and
// all memory comes back, from a pool of which all buffers are in flight at times.
func TestRingUncopied(t *testing.T) {
	const sends, size = 200, 256 << 10
	sink := newSink(t)
	for _, c := range []struct {
		name, network string
		pool          transmit.PoolOptions
		vector        bool
	}{
		{name: "registered", network: "tcp4"},
		{name: "huge pages, not registered", network: "tcp6", pool: transmit.PoolOptions{Huge: true}},
		{name: "memfd, not registered", network: "tcp4", pool: transmit.PoolOptions{Memfd: true}},
		{name: "vector", network: "tcp4", vector: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(t, transmit.RingOptions{})
			told := 0
			s := sinkSender(t, sink, c.network, transmit.Options{Ring: r, OnDowngrade: func(d *transmit.Downgrade) { told++; t.Log(d) }})
			c.pool.BufferBytes, c.pool.MaxBytes = size, 16*size
			pool, err := transmit.NewPool(c.pool)
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
				if c.vector {
					p := b.Bytes()
					last, err = s.Sendv(t.Context(), p[:100], p[100:100000], p[100000:100001], p[100001:])
					if err == nil {
						_, err = last.Wait(t.Context())
					}
				} else {
					last, err = s.SendBuffer(t.Context(), b)
				}
				b.Release()
				if err != nil {
					t.Fatal(err)
				}
			}
			res, err := last.Wait(t.Context())
			if err != nil || res.Reported != transmit.Uncopied || res.Backend != transmit.IoUringSendZC || res.PlainBytes != 0 {
				t.Errorf("%+v, %v", res, err)
			}
			if err := s.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if st.CopiedSends != 0 || st.Notified != st.ZerocopySends || st.PlainBytes != 0 || st.Bytes != sends*size || st.Outstanding != 0 || told > 0 {
				t.Errorf("%+v", st)
			}
			rs := r.Stats()
			t.Logf("%+v", rs)
			if rs.InFlight != 0 || rs.Sends != st.ZerocopySends || rs.Notified != rs.Sends || rs.Copied != 0 {
				t.Errorf("%+v", rs)
			}
			if registered := rs.Buffers > 0; registered != (!c.pool.Memfd && !c.pool.Huge && !c.vector) {
				t.Errorf("%d pieces are registered", rs.Buffers)
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if err := pool.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if n := r.Stats().Buffers; n != 0 {
				t.Errorf("%d pieces are registered of a pool that is no more", n)
			}
		})
	}
}

// TestRingHeld closes what sends while the peer acknowledges nothing, and the ring.
func TestRingHeld(t *testing.T) {
	sink := newSink(t)
	r := newRing(t, transmit.RingOptions{})
	pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	send := func(s *transmit.Sender) transmit.Completion {
		b, err := pool.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := s.SendBuffer(ctx, b)
		if err != nil || c.Backend() != transmit.IoUringSendZC {
			t.Fatalf("%v, %v", c.Backend(), err)
		}
		return c
	}
	if err := sink.Hold(); err != nil {
		t.Fatal(err)
	}
	quiet := func(*transmit.Downgrade) {}
	dial := func(o transmit.Options) *transmit.Sender {
		c, err := sink.Dial(t.Context(), "tcp4")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		// Room for all that is sent below, though the peer takes little of it.
		if err := c.(*net.TCPConn).SetWriteBuffer(400 << 10); err != nil {
			t.Fatal(err)
		}
		s, err := transmit.NewSender(c.(*net.TCPConn), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	drained := dial(transmit.Options{Ring: r, OnDowngrade: quiet})
	abandoned := dial(transmit.Options{Ring: r, DrainTimeout: 50 * time.Millisecond})
	// Into windows of 65535 bytes.
	send(drained)
	send(abandoned)
	one, two := send(drained), send(abandoned)
	time.Sleep(100 * time.Millisecond)
	if one.Released() || two.Released() || pool.Stats().Lent < 2 {
		t.Errorf("memory came back that the peer has not acknowledged: %+v", pool.Stats())
	}
	a, err := abandoned.Close(t.Context())
	if !errors.Is(err, transmit.ErrAbandoned) || a.Transfers == 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if st := pool.Stats(); st.Abandoned != int64(a.Transfers) || st.Lent == 0 {
		t.Errorf("%+v", st)
	}
	if n := r.Stats().Buffers; n != 0 {
		t.Errorf("%d pieces are registered, of which a part is no more", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the ring was closed with sends in flight: %v", err)
	}
	// A closed ring is gone on without.
	if c, err := drained.Send(t.Context(), make([]byte, 64<<10)); err != nil || c.Backend() == transmit.IoUringSendZC {
		t.Errorf("%v, %v", c.Backend(), err)
	}
	if err := sink.Release(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if res, err := one.Wait(t.Context()); err != nil || res.Reported != transmit.Uncopied {
		t.Errorf("%+v, %v", res, err)
	}
	t.Logf("it came back after %v", time.Since(began))
	if _, err := drained.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := pool.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRingIdle waits for the notification of a send after which nobody sends.
func TestRingIdle(t *testing.T) {
	sink := newSink(t)
	r := newRing(t, transmit.RingOptions{})
	s := sinkSender(t, sink, "tcp4", transmit.Options{Ring: r})
	p := make([]byte, 256<<10)
	for range 20 {
		c, err := s.Send(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if res, err := c.Wait(ctx); err != nil || res.Reported != transmit.Uncopied {
			t.Fatalf("%+v, %v", res, err)
		}
		cancel()
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRingUDP sends datagrams, and trains of them.
func TestRingUDP(t *testing.T) {
	sink := newSink(t)
	r := newRing(t, transmit.RingOptions{})
	for _, c := range []struct {
		name          string
		size, segment int
		parts         bool
		asked, way    transmit.Backend
	}{
		{name: "datagram", size: 1472, way: transmit.IoUringSendZC},
		{name: "datagram of parts", size: 1472, parts: true, way: transmit.IoUringSendZC},
		{name: "train", size: 56000, segment: 1400, way: transmit.IoUringSendZC},
		{name: "train of parts", size: 56000, segment: 1400, parts: true, way: transmit.IoUringSendZC},
		{name: "over the MTU", size: 1473, way: transmit.Write},
		{name: "copied", size: 1472, asked: transmit.IoUringSend, way: transmit.IoUringSend},
		{name: "copied parts", size: 1472, parts: true, asked: transmit.IoUringSend, way: transmit.IoUringSend},
		{name: "copied train", size: 56000, segment: 1400, asked: transmit.IoUringSend, way: transmit.IoUringSend},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sinkSender(t, sink, "udp4", transmit.Options{Ring: r, Backend: c.asked, Threshold: 1000, SegmentBytes: c.segment, OnDowngrade: func(*transmit.Downgrade) {}})
			p := make([]byte, c.size)
			for range 20 {
				var done transmit.Completion
				var err error
				if c.parts {
					done, err = s.Sendv(t.Context(), p[:10], nil, p[10:], nil)
				} else {
					done, err = s.Send(t.Context(), p)
				}
				if err != nil || done.Bytes() != int64(c.size) {
					t.Fatalf("%d bytes, %v", done.Bytes(), err)
				}
				res, err := done.Wait(t.Context())
				if err != nil || res.Backend != c.way || c.way.Notifies() != (res.Reported == transmit.Uncopied) {
					t.Fatalf("%+v, %v", res, err)
				}
			}
			if st := s.Stats(); st.Transfers != 20 || st.Bytes != int64(20*c.size) || st.Notified != st.ZerocopySends {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestRingMapped sends a kept mapping of a file through a ring, and nothing of a range
// that the file has no longer.
func TestRingMapped(t *testing.T) {
	sink := newSink(t)
	const size = 4 << 20
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newRing(t, transmit.RingOptions{})
	maps := transmit.NewMappings(transmit.MappingsOptions{})
	o := transmit.FileOptions{Mappings: maps}
	s := sinkSender(t, sink, "tcp4", transmit.Options{Backend: transmit.MmapZerocopy, Ring: r})
	for range 3 {
		c, err := s.SendFile(t.Context(), f, 0, -1, o)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Wait(t.Context())
		if err != nil || res.Backend != transmit.MmapZerocopy || res.Bytes != size || res.Reported != transmit.Uncopied {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if st, rs := s.Stats(), r.Stats(); st.ZerocopySends == 0 || rs.Sends != int64(st.ZerocopySends) || st.PlainBytes != 0 {
		t.Errorf("%+v, by the ring %+v", st, rs)
	}
	if err := os.Truncate(name, size/2); err != nil {
		t.Fatal(err)
	}
	c, err := s.SendFile(t.Context(), f, 0, size, o)
	if e, ok := errors.AsType[*transmit.TruncatedError](err); !ok || c.Bytes() != 0 || e.ZeroBytes != 0 {
		t.Errorf("%d bytes of a file made shorter, %v", c.Bytes(), err)
	}
}
