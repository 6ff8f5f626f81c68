package transmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestVmsplice sends memory by reference: it arrives, and is not released before the
// peer has it.
func TestVmsplice(t *testing.T) {
	p := pattern(5<<20 + 3)
	for _, target := range fileTargets()[:3] {
		t.Run(target.name, func(t *testing.T) {
			out, in := target.make(t)
			s, err := NewSender(out, Options{Backend: Vmsplice, OnDowngrade: func(d *Downgrade) { t.Error(d) }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			c, err := s.Send(ctx, p)
			if !errors.Is(err, context.DeadlineExceeded) || c.Bytes() == 0 || c.Released() {
				t.Fatalf("to a peer that does not read: %d bytes, %v, released %v", c.Bytes(), err, c.Released())
			}
			want := sha256.New()
			want.Write(p[:c.Bytes()])
			got := arrived(in)
			var parts [][]byte
			for i := range 2000 {
				parts = append(parts, p[i*100:i*100+i%100])
				want.Write(parts[i])
			}
			if c, err = s.Sendv(t.Context(), parts...); err != nil || c.Backend() != Vmsplice {
				t.Fatalf("by %s, %v", c.Backend(), err)
			}
			for _, size := range sizes {
				if c, err = s.Send(t.Context(), p[1:1+size]); err != nil || c.Backend() != Vmsplice && size > 0 {
					t.Fatalf("%d bytes by %s, %v", size, c.Backend(), err)
				}
				want.Write(p[1 : 1+size])
			}
			if r, err := c.Wait(t.Context()); err != nil || r.PlainBytes != 0 || r.Reported != NotReported {
				t.Errorf("%+v, %v", r, err)
			}
			closeWrite(t, s)
			if <-got != [32]byte(want.Sum(nil)) {
				t.Error("something else arrived")
			}
		})
	}
}

// TestVmspliceReleases overwrites each buffer as soon as it is released.
func TestVmspliceReleases(t *testing.T) {
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{Backend: Vmsplice})
	if err != nil {
		t.Fatal(err)
	}
	const size, rounds = 200 << 10, 40
	got := arrived(slow{in})
	want := sha256.New()
	p := make([]byte, size)
	for i := range rounds {
		for k := range p {
			p[k] = byte(i + k>>12)
		}
		want.Write(p)
		c, err := s.Send(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	closeWrite(t, s)
	if <-got != [32]byte(want.Sum(nil)) {
		t.Error("something else arrived: a buffer was released too early")
	}
}

// slow reads with pauses.
type slow struct{ io.Reader }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return s.Reader.Read(p[:min(len(p), 20000)])
}

// TestVmspliceFaults makes the calls fail: every byte arrives once and in order.
func TestVmspliceFaults(t *testing.T) {
	p := pattern(3 << 20)
	for name, c := range map[string]struct {
		vmsplice, splice fileFault
		cause            string
	}{
		"no vmsplice":             {failFrom(0, syscall.ENOSYS), nil, "fast-path-refused"},
		"no splice":               {nil, failFrom(0, syscall.EPERM), "fast-path-refused"},
		"no splice in between":    {nil, failFrom(3, syscall.EINVAL), "fast-path-refused"},
		"not pinned":              {failFrom(1, syscall.EFAULT), nil, "gup-efault"},
		"not sent":                {nil, failFrom(1, syscall.EIO), "page-not-sendable"},
		"not taken":               {failFrom(1, syscall.EAGAIN), nil, "fast-path-refused"},
		"interrupted":             {failEach(2, syscall.EINTR), failEach(2, syscall.EINTR), ""},
		"short":                   {func(call, n int) (int, error) { return max(n-5001*call, min(n, 7001)), nil }, func(call, n int) (int, error) { return max(n-3001*call, min(n, 6001)), nil }, ""},
		"nothing out of the pipe": {nil, func(call, n int) (int, error) { return n * max(2-call, 0) / 2, nil }, "fast-path-refused"},
	} {
		t.Run(name, func(t *testing.T) {
			out, in := tcpPair(t)
			got := received(in)
			var told []*Downgrade
			s, err := NewSender(out, Options{Backend: Vmsplice, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
			if err != nil {
				t.Fatal(err)
			}
			k, calls := *kernelCalls(), [2]int{}
			meet := func(i int, f fileFault, n int) (int, error) {
				calls[i]++
				if f == nil {
					return n, nil
				}
				return f(calls[i]-1, n)
			}
			k.Vmsplice = func(fd int, v []sys.Iovec, flags int) (int, error) {
				n, err := meet(0, c.vmsplice, int(v[0].Len))
				if err != nil {
					return 0, wrapped("vmsplice", err)
				}
				v[0].SetLen(n)
				return kernel.Vmsplice(fd, v[:1], flags)
			}
			k.Splice = func(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error) {
				n, err := meet(1, c.splice, min(n, 200<<10))
				if err != nil {
					return 0, wrapped("splice", err)
				}
				return kernel.Splice(in, inOff, out, outOff, n, flags)
			}
			s.calls = &k
			s.pipes = &pipePool{calls: &k}
			for range 2 {
				done, err := s.Sendv(t.Context(), p[:100], p[100:])
				if err != nil {
					t.Fatal(err)
				}
				if r, err := done.Wait(t.Context()); err != nil || r.Bytes != int64(len(p)) || r.Cause != "" && r.Cause != c.cause {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if c.cause == "" && len(told) > 0 || c.cause != "" && (len(told) == 0 || told[0].From != Vmsplice || told[0].Cause != c.cause) {
				t.Errorf("told %v", told)
			}
			closeWrite(t, s)
			if b := <-got; !bytes.Equal(b, append(p[:len(p):len(p)], p...)) {
				t.Errorf("%d bytes arrived", len(b))
			}
			for _, p := range s.pipes.free {
				if p.held > 0 {
					t.Error("a pipe with bytes was kept")
				}
			}
		})
	}
}
