package transmit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// received collects what arrives until the end of the stream.
func received(c net.Conn) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(c)
		got <- b
	}()
	return got
}

// TestSendFaults makes calls fail: every byte arrives once and in order, and what
// was refused is told once.
func TestSendFaults(t *testing.T) {
	const size = 600<<10 + 7
	type fault func(zc bool, n, call int) (short int, e syscall.Errno)
	always := func(e syscall.Errno) fault {
		return func(zc bool, n, _ int) (int, syscall.Errno) {
			if zc {
				return 0, e
			}
			return n, 0
		}
	}
	// Where no limit of locked memory binds, none can have refused a send; where one
	// may, less is tried.
	noBuffers, less := "memlock-limit", true
	if lockedMemoryFree() {
		noBuffers, less = "optmem-limit", false
	}
	for name, c := range map[string]struct {
		fault fault
		cause string
		told  error
		lent  bool // something is lent all the same
	}{
		"EOPNOTSUPP": {fault: always(syscall.EOPNOTSUPP), cause: "ulp", told: errors.ErrUnsupported},
		"ENOTSUPP":   {fault: always(524), cause: "ulp", told: errors.ErrUnsupported},
		"EFAULT":     {fault: always(syscall.EFAULT), cause: "gup-efault", told: syscall.EFAULT},
		"no buffers": {fault: always(syscall.ENOBUFS), cause: noBuffers, told: syscall.ENOBUFS},
		"no buffers for more than 57345 bytes": {fault: func(zc bool, n, _ int) (int, syscall.Errno) {
			if zc && n > 57345 {
				return 0, syscall.ENOBUFS
			}
			return n, 0
		}, cause: noBuffers, told: syscall.ENOBUFS, lent: less},
		"no buffers now and then": {fault: func(zc bool, n, call int) (int, syscall.Errno) {
			if zc && call%3 == 1 {
				return 0, syscall.ENOBUFS
			}
			return n, 0
		}, cause: "-limit", told: syscall.ENOBUFS, lent: true}, // of either, as completions are out
		"interrupted": {fault: func(_ bool, n, call int) (int, syscall.Errno) {
			if call%2 == 0 {
				return 0, syscall.EINTR
			}
			return n, 0
		}, lent: true},
		"one byte at a time at first": {fault: func(_ bool, n, call int) (int, syscall.Errno) {
			if call < 50 {
				return 1, 0
			}
			return n, 0
		}, lent: true},
		"short": {fault: func(_ bool, n, call int) (int, syscall.Errno) { return max(n-call, 1), 0 }, lent: true},
	} {
		t.Run(name, func(t *testing.T) {
			out, in := tcpPair(t)
			k := kernelSocketCalls()
			send, calls := k.Send, 0
			k.Send = func(fd int, p []byte, flags int) (int, syscall.Errno) {
				n, e := c.fault(flags&sys.MsgZerocopy != 0, len(p), calls)
				calls++
				if e != 0 {
					return 0, e
				}
				return send(fd, p[:n], flags)
			}
			var told []*Downgrade
			// Not chosen by name, or the size of a send would be free; the peer is on
			// this machine, which is not to be noticed.
			s, err := newSender(out, Options{Threshold: 4096, OnDowngrade: func(d *Downgrade) {
				if d.Err != nil { // and not that the kernel copies on loopback
					told = append(told, d)
				}
			}}, k)
			if err != nil {
				t.Fatal(err)
			}
			s.zc = lending{numbered: true}
			got := received(in)
			p := pattern(size)
			var last Completion
			for i := range 3 {
				if last, err = s.Send(t.Context(), p); err != nil || last.Bytes() != size {
					t.Fatalf("send %d: %d bytes, %v", i, last.Bytes(), err)
				}
			}
			r, err := last.Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if (st.ZerocopySends > 0) != c.lent {
				t.Errorf("%d sends lent", st.ZerocopySends)
			}
			if c.cause != "" && (len(told) == 0 || !strings.HasSuffix(told[0].Cause, c.cause) || !errors.Is(told[0], c.told)) {
				t.Errorf("told %v, want %s", told, c.cause)
			}
			if c.cause == "" && len(told) > 0 {
				t.Errorf("told %v", told)
			}
			if len(told) > 2 {
				t.Errorf("told %d times: %v", len(told), told)
			}
			_ = r
			if _, err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b := <-got; !bytes.Equal(b, bytes.Repeat(p, 3)) {
				t.Errorf("%d bytes arrived, not what was sent", len(b))
			}
			if calls > 4000 {
				t.Errorf("%d calls: it spins", calls)
			}
		})
	}
}

// TestSendErrors ends sends by errors: how far they got is said.
func TestSendErrors(t *testing.T) {
	p := pattern(8 << 20) // more than fits into the buffers
	t.Run("context", func(t *testing.T) {
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Backend: MsgZerocopy, DrainTimeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		c, err := s.Send(ctx, p)
		if !errors.Is(err, context.DeadlineExceeded) || c.Bytes() == 0 || c.Bytes() >= int64(len(p)) {
			t.Fatalf("%d bytes, %v", c.Bytes(), err)
		}
		if c.Released() {
			t.Error("the end of a context released memory")
		}
		if _, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
		// The next send goes on where this one stopped, and has no deadline.
		got := make(chan []byte, 1)
		n := c.Bytes()
		go func() {
			b := make([]byte, n+5)
			_, err := io.ReadFull(in, b)
			if err != nil {
				b = []byte(err.Error())
			}
			got <- b
		}()
		if _, err := s.Send(t.Context(), []byte("after")); err != nil {
			t.Fatal(err)
		}
		if b := <-got; !bytes.Equal(b, append(bytes.Clone(p[:n]), "after"...)) {
			t.Errorf("%d bytes arrived, not what was sent", len(b))
		}
		if r, err := c.Wait(t.Context()); err != nil || r.Bytes != n {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("deadline of the connection", func(t *testing.T) {
		out, _ := tcpPair(t)
		s, err := NewSender(out, Options{Backend: MsgZerocopy, DrainTimeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := out.SetWriteDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if c, err := s.Send(ctx, p); !errors.Is(err, os.ErrDeadlineExceeded) || c.Bytes() == 0 {
			t.Fatalf("%d bytes, %v", c.Bytes(), err)
		}
		a, err := s.Close(t.Context())
		if !errors.Is(err, ErrAbandoned) || a.Transfers != 1 || a.Bytes == 0 {
			t.Errorf("close: %+v, %v", a, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Backend: MsgZerocopy})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.ReadFull(in, make([]byte, 1<<20))
			_ = in.SetLinger(0)
			_ = in.Close()
		}()
		c, err := s.Send(t.Context(), p)
		if err == nil || c.Bytes() < 1<<20 || c.Bytes() == int64(len(p)) {
			t.Fatalf("%d bytes, %v", c.Bytes(), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := c.Wait(ctx); err != nil && !errors.Is(err, ErrUnacknowledged) {
			t.Errorf("wait: %v", err)
		}
		if !c.Released() {
			t.Error("a dead connection holds memory")
		}
		if a, err := s.Close(t.Context()); err != nil || a.Transfers != 0 {
			t.Errorf("close: %+v, %v", a, err)
		}
	})
	t.Run("closed by somebody else", func(t *testing.T) {
		out, _ := tcpPair(t)
		s, err := NewSender(out, Options{Backend: MsgZerocopy})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Send(t.Context(), pattern(64<<10))
		if err != nil {
			t.Fatal(err)
		}
		_ = out.Close()
		if _, err := c.Wait(t.Context()); err != nil && !errors.Is(err, ErrAbandoned) {
			t.Errorf("wait: %v", err)
		}
		if _, err := s.Send(t.Context(), p); !errors.Is(err, net.ErrClosed) {
			t.Errorf("send: %v", err)
		}
	})
}

// TestCloseEndsSend closes a connection under a send that waits: both end, and
// what the kernel holds is given up once.
func TestCloseEndsSend(t *testing.T) {
	for _, backend := range []Backend{Write, MsgZerocopy} {
		out, _ := tcpPair(t)
		s, err := NewSender(out, Options{Backend: backend, DrainTimeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			c   Completion
			err error
		}
		sent := make(chan result, 1)
		go func() {
			c, err := s.Send(t.Context(), pattern(8<<20))
			sent <- result{c, err}
		}()
		for s.sent.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		a, err := s.Close(t.Context())
		lent := backend == MsgZerocopy // what was copied is nothing to give up
		if !errors.Is(err, context.DeadlineExceeded) || lent && (a.Transfers != 1 || !errors.Is(err, ErrAbandoned)) {
			t.Errorf("%s: close: %+v, %v", backend, a, err)
		}
		r := <-sent
		if !errors.Is(r.err, net.ErrClosed) || r.c.Bytes() == 0 {
			t.Errorf("%s: send: %d bytes, %v", backend, r.c.Bytes(), r.err)
		}
		if _, err := r.c.Wait(t.Context()); lent && !errors.Is(err, ErrAbandoned) {
			t.Errorf("%s: wait: %v", backend, err)
		}
		if st := s.Stats(); st.Outstanding != 0 {
			t.Errorf("%s: %+v", backend, st)
		}
		if s.led.out != 0 || s.led.free.n != len(s.led.entries) {
			t.Errorf("%s: %d out, %d of %d free", backend, s.led.out, s.led.free.n, len(s.led.entries))
		}
	}
}

// TestLoopbackIsKnown does not lend to a peer on this machine, and says why.
func TestLoopbackIsKnown(t *testing.T) {
	out, in := tcpPair(t)
	var told []*Downgrade
	s, err := NewSender(out, Options{OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	for range 3 {
		c, err := s.Send(t.Context(), pattern(1<<20))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := c.Wait(t.Context()); err != nil || r.Backend != Write || r.Cause != "loopback-delivery" || r.PlainBytes != 1<<20 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// others is what somebody else sends with MSG_ZEROCOPY. The kernel may read it until
// it has arrived, so it is not on a stack.
var others = []byte("before")

// TestNumbersOfOthers takes over a connection on which somebody has sent with
// MSG_ZEROCOPY before: numbers do not start at 0.
func TestNumbersOfOthers(t *testing.T) {
	for _, drained := range []bool{true, false} {
		t.Run(fmt.Sprint(drained), func(t *testing.T) {
			out, in := tcpPair(t)
			got := received(in)
			raw, err := out.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			err = raw.Control(func(fd uintptr) {
				if err := sys.SetsockoptInt(int(fd), sys.SolSocket, sys.SoZerocopy, 1); err != nil {
					t.Error(err)
				}
				for range 3 {
					if _, e := sys.TrySend(int(fd), others, sys.MsgZerocopy|sys.MsgDontwait); e != 0 {
						t.Error(e)
					}
				}
				for end := time.Now().Add(5 * time.Second); drained && time.Now().Before(end); {
					if m, _ := sys.SocketMemory(int(fd)); m.Options == 0 {
						break
					}
					_, _ = sys.TryErrqueue(int(fd), make([]byte, 256))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewSender(out, Options{Backend: MsgZerocopy})
			if err != nil {
				t.Fatal(err)
			}
			want := []byte("beforebeforebefore")
			for i := range 50 {
				p := pattern(50_000 + i)
				want = append(want, p...)
				c, err := s.Send(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				clear(p)
			}
			st := s.Stats()
			if drained && (st.ZerocopySends < 50 || st.Notified != st.ZerocopySends) || st.Outstanding != 0 {
				t.Errorf("%+v", st)
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			arrived := <-got
			if !bytes.Equal(arrived, want) {
				at := 0
				for at < min(len(arrived), len(want)) && arrived[at] == want[at] {
					at++
				}
				t.Errorf("%d of %d bytes arrived, the first wrong one at %d: %q", len(arrived), len(want), at, arrived[:min(40, len(arrived))])
			}
		})
	}
}

// TestBackendFromEnvironment checks that the operator's word counts, and that a
// slip of the pen is told and stops nothing.
func TestBackendFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  string
		o    Options
		want Backend
		told bool
	}{
		{env: "msg_zerocopy", want: MsgZerocopy},
		{env: "write", want: Write},
		{env: "msg_zerocopy", o: Options{Backend: Write}, want: Write},
		{env: "io_uring_send", want: Write, told: true},
		{env: "io_uring_send_zc", want: MsgZerocopy, told: true},
		{env: "msg_zerocpy", want: Write, told: true},
	} {
		t.Setenv(EnvBackend, c.env)
		out, in := tcpPair(t)
		go func() { _, _ = io.Copy(io.Discard, in) }()
		var told []*Downgrade
		c.o.OnDowngrade = func(d *Downgrade) { told = append(told, d) }
		s, err := NewSender(out, c.o)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := s.Send(t.Context(), pattern(100_000))
		if err != nil || sent.Backend() != c.want {
			t.Errorf("%s, %+v: went by %s, %v", c.env, c.o, sent.Backend(), err)
		}
		if c.told != (len(told) > 0 && strings.Contains(told[0].Error(), c.env)) {
			t.Errorf("%s: told %v", c.env, told)
		}
	}
}

// TestMPTCPIsCopied sends on what net.Listen accepts, an MPTCP connection where
// the peer speaks it too.
func TestMPTCPIsCopied(t *testing.T) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d net.Dialer
	d.SetMultipathTCP(true)
	out, err := d.DialContext(t.Context(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if multi, err := out.(*net.TCPConn).MultipathTCP(); err != nil || !multi {
		t.Skip("needs a kernel with MPTCP")
	}
	got := received(in)
	s, err := NewSender(out.(*net.TCPConn), Options{Backend: MsgZerocopy, OnDowngrade: func(*Downgrade) {}})
	if err != nil {
		t.Fatal(err)
	}
	p := pattern(300_000)
	c, err := s.Send(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Wait(t.Context()); err != nil || r.Backend != Write || r.Cause != "mptcp" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(<-got, p) {
		t.Error("something else arrived")
	}
}

// TestBacksOff stops lending on a path on which the kernel copies, and tries
// again later.
func TestBacksOff(t *testing.T) {
	out, in := tcpPair(t)
	k := kernelSocketCalls()
	now := time.Now()
	k.Now = func() time.Time { return now }
	var told []*Downgrade
	s, err := newSender(out, Options{Threshold: 16 << 10, OnDowngrade: func(d *Downgrade) { told = append(told, d) }}, k)
	if err != nil {
		t.Fatal(err)
	}
	s.zc = lending{numbered: true} // as if the peer were elsewhere
	go func() { _, _ = io.Copy(io.Discard, in) }()
	send := func(n int) (lent int64) {
		before := s.Stats().ZerocopySends
		for range n {
			c, err := s.Send(t.Context(), make([]byte, 20_000))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return s.Stats().ZerocopySends - before
	}
	if n := send(30); n != copiedWindow || !s.Stats().BackedOff {
		t.Errorf("%d of 30 were lent before it backed off: %+v", n, s.Stats())
	}
	if r, err := mustSend(t, s, 20_000).Wait(t.Context()); err != nil || r.Backend != Write || len(told) != 1 {
		t.Errorf("%+v, %v, told %v", r, err, told)
	}
	now = now.Add(firstPenalty + time.Millisecond)
	if n := send(30); n != copiedWindow {
		t.Errorf("%d of 30 were lent after the penalty", n)
	}
	now = now.Add(firstPenalty + time.Millisecond)
	if n := send(5); n != 0 {
		t.Errorf("%d were lent: the second penalty is no longer than the first", n)
	}
}

func mustSend(t *testing.T, s *Sender, n int) Completion {
	t.Helper()
	c, err := s.Send(t.Context(), make([]byte, n))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
