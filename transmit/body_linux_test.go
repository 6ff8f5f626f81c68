package transmit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"syscall"
	"testing"
)

func TestBufferBody(t *testing.T) {
	pool, err := NewPool(PoolOptions{BufferBytes: 64 << 10, MaxBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	buf, err := pool.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(50_000)
	copy(buf.Bytes(), want)
	buf.SetLen(len(want))
	b := BufferBody(buf)

	near, far := tcpPair(t)
	s, err := NewSender(near, Options{Backend: MsgZerocopy})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan []byte, 1)
	go func() { p, _ := io.ReadAll(far); received <- p }()
	for _, part := range []struct{ off, n int64 }{{0, 50_000}, {49_999, 1}, {50_000, 0}, {17, 40_000}} {
		if _, err := s.sendBody(t.Context(), b, part.off, part.n); err != nil {
			t.Fatal(err)
		}
		want = append(want, want[part.off:part.off+part.n]...)
	}
	for _, part := range []struct{ off, n int64 }{{-1, 1}, {0, 50_001}, {50_001, 0}, {1, 1<<63 - 1}} {
		if _, err := s.sendBody(t.Context(), b, part.off, part.n); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: %v", part, err)
		}
	}
	if err := b.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.ZerocopySends == 0 || st.Outstanding != 0 {
		t.Errorf("released with %+v", st)
	}
	again, err := pool.Get(t.Context()) // the only one there is
	if err != nil {
		t.Fatal(err)
	}
	clear(again.Bytes())
	again.Release()
	if _, err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-received; !bytes.Equal(got, want[50_000:]) {
		t.Errorf("received %d bytes that are not what was sent", len(got))
	}
	if err := pool.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBodyOfADeadConnection has connections closed under sends of a body.
func TestBodyOfADeadConnection(t *testing.T) {
	pool, err := NewPool(PoolOptions{BufferBytes: 16 << 20, MaxBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	buf, err := pool.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := BufferBody(buf)
	near, _ := tcpPair(t) // nobody reads
	s, err := NewSender(near, Options{Backend: MsgZerocopy, DrainTimeout: 1})
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { _, err := s.sendBody(t.Context(), b, 0, 16<<20); sent <- err }() // more than sockets hold
	for s.Stats().ZerocopySends == 0 {
		runtime.Gosched()
	}
	if err := b.Release(soon(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("released with the kernel reading: %v", err)
	}
	if a, err := s.Close(t.Context()); a.Transfers == 0 || !errors.Is(err, ErrAbandoned) {
		t.Fatalf("nothing was abandoned: %+v, %v", a, err)
	}
	if err := <-sent; err == nil {
		t.Error("16 megabytes went to nobody")
	}
	if err := b.Release(t.Context()); !errors.Is(err, ErrAbandoned) {
		t.Errorf("released what the kernel may read still: %v", err)
	}
	if _, err := s.sendBody(t.Context(), b, 0, 1); err == nil {
		t.Error("sent after the release")
	}
	if st := pool.Stats(); st.Abandoned != 1 {
		t.Errorf("the pool may give out what the kernel may read still: %+v", st)
	}
}
