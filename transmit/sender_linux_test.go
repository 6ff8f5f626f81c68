package transmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

func TestSendArrives(t *testing.T) {
	for _, backend := range []Backend{"", Write, MsgZerocopy} {
		for _, size := range []int{0, 1, 4095, 4096, 4097, 16383, 16384, 65535, 65536, 65537, 1 << 20, 5<<20 + 3} {
			t.Run(fmt.Sprintf("%s/%d", backend, size), func(t *testing.T) {
				out, in := tcpPair(t)
				s, err := NewSender(out, Options{Backend: backend})
				if err != nil {
					t.Fatal(err)
				}
				p := pattern(size)
				sum := make(chan [32]byte, 1)
				go func() {
					h := sha256.New()
					_, _ = io.Copy(h, in)
					sum <- [32]byte(h.Sum(nil))
				}()
				c, err := s.Send(t.Context(), p)
				if err != nil || c.Bytes() != int64(size) {
					t.Fatalf("%d bytes, %v", c.Bytes(), err)
				}
				want := sha256.Sum256(p)
				r, err := c.Wait(t.Context())
				if err != nil || !c.Released() {
					t.Fatalf("wait: %v, released %v", err, c.Released())
				}
				clear(p) // it is ours again
				if wantWay := map[bool]Backend{true: MsgZerocopy, false: Write}[backend == MsgZerocopy && size > 0]; r.Backend != wantWay {
					t.Errorf("went by %s, want %s: %+v", r.Backend, wantWay, r)
				}
				if r.Backend == MsgZerocopy && r.Reported == NotReported {
					t.Errorf("nothing reported: %+v", r)
				}
				if _, err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := <-sum; got != want {
					t.Error("something else arrived")
				}
			})
		}
	}
}

// TestReaderSurvives sends zero-copy data to a peer that does not read, until the
// send buffer is full, while a reader waits on the same connection.
func TestReaderSurvives(t *testing.T) {
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{Backend: MsgZerocopy})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		b := make([]byte, 4)
		_, err := io.ReadFull(out, b)
		if err == nil && string(b) != "ping" {
			err = fmt.Errorf("read %q", b)
		}
		read <- err
	}()
	p := pattern(256 << 10)
	var sent int64
	// The peer reads a little every now and then, so that completions come while
	// the buffer is as good as full.
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		c, err := s.Send(ctx, p)
		cancel()
		sent += c.Bytes()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err != nil || i%2 == 1 {
			if _, err := io.ReadFull(in, make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			sent -= 100 << 10
		}
		select {
		case err := <-read:
			t.Fatalf("the reader ended: %v", err)
		default:
		}
	}
	if _, err := in.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Errorf("the reader: %v", err)
	}
	go func() { _, _ = io.CopyN(io.Discard, in, sent) }()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if st.ZerocopySends < 20 || st.Notified != st.ZerocopySends || st.Outstanding != 0 {
		t.Errorf("%+v", st)
	}
	if !bytes.Equal(p, pattern(256<<10)) {
		t.Error("the buffer changed")
	}
}
