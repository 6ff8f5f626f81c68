package transmit

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestRingTogether has many goroutines send by one ring, with the collector at work
// and children started meanwhile. What is sent is not kept by who sends it, and
// nobody reads before all of the buffers are full: the kernel has it from our pages.
func TestRingTogether(t *testing.T) {
	const conns, sends = 30, 12
	r, _ := faultyRing(t, RingOptions{Requests: 4}, nil)
	goroutines := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range conns {
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(d *Downgrade) {
			if d.Cause != "memlock-limit" { // of an ordinary user
				t.Error(d)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		size := 100<<10 + 4099*i
		want := pattern(size)
		wg.Go(func() {
			for k := range sends {
				p := bytes.Clone(want)
				p[0] = byte(k)
				if _, err := s.Sendv(t.Context(), p[:100], p[100:]); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
		wg.Go(func() {
			time.Sleep(50 * time.Millisecond)
			got := <-received(in)
			if len(got) != sends*size {
				t.Errorf("connection %d: %d bytes arrived", i, len(got))
				return
			}
			want := bytes.Clone(want)
			for k := range sends {
				want[0] = byte(k)
				if !bytes.Equal(got[k*size:(k+1)*size], want) {
					t.Errorf("connection %d: send %d arrived as something else", i, k)
				}
			}
		})
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
				_ = make([]byte, 1<<20)
			}
		}
	})
	for range 5 {
		if err := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$").Run(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	close(stop)
	others.Wait()
	st := r.Stats()
	if st.InFlight != 0 || st.Notified != st.Sends || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	t.Logf("%+v", st)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for wait := 0; runtime.NumGoroutine() > goroutines && wait < 300; wait++ {
		time.Sleep(10 * time.Millisecond) // the watcher ends a second after the last
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// TestRingOverflow gives the kernel no place for its answers: it keeps them.
func TestRingOverflow(t *testing.T) {
	k := kernelRingCalls()
	setup := k.Setup
	k.Setup = func(entries uint32, p *sys.UringParams) (int, error) {
		p.CQEntries = 2
		return setup(2, p)
	}
	r, err := newRing(RingOptions{}, k)
	if err != nil {
		skipRing(t, err)
	}
	if r.noZC != nil {
		skipRing(t, r.noZC)
	}
	r.o.Requests, r.flights.most = 2, 1000
	out, in := tcpPair(t)
	s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(d *Downgrade) { t.Error(d) }})
	if err != nil {
		t.Fatal(err)
	}
	got := received(in)
	p := pattern(20000)
	for range 200 {
		if _, err := s.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if s.Stats().ZerocopySends%10 == 0 {
			// Answers for which there is no place yet.
			r.mu.Lock()
			for range 8 {
				r.u.Push(sys.UringSQE{UserData: 1<<64 - 1})
				_, _ = r.k.Enter(r.fd, 1, 0, 0)
			}
			r.mu.Unlock()
		}
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, bytes.Repeat(p, 200)) {
		t.Errorf("%d bytes arrived, not what was sent", len(b))
	}
	if st := r.Stats(); st.Overflows == 0 || st.Notified != st.Sends || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRingFull has room for one send: others are copied.
func TestRingFull(t *testing.T) {
	r, _ := faultyRing(t, RingOptions{Requests: 1}, nil)
	r.mu.Lock()
	r.flights.most = 1
	r.mu.Unlock()
	var wg sync.WaitGroup
	for range 8 {
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(d *Downgrade) {
			if d.Cause != "fast-path-refused" || d.To != Write {
				t.Error(d)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			p := pattern(70000)
			got := received(in)
			for range 50 {
				if _, err := s.Send(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
			if _, err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if b := <-got; !bytes.Equal(b, bytes.Repeat(p, 50)) {
				t.Errorf("%d bytes arrived, not what was sent", len(b))
			}
		})
	}
	wg.Wait()
}

// TestRingStolen closes the descriptor of the ring under it: all bytes arrive, all
// memory comes back, and nobody else's descriptor is closed.
func TestRingStolen(t *testing.T) {
	r, _ := faultyRing(t, RingOptions{}, nil)
	out, in := tcpPair(t)
	told := 0
	s, err := NewSender(out, Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(d *Downgrade) {
		if d.From == IoUringSendZC {
			told++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := pattern(300000)
	got := received(in)
	for k := range 10 {
		if k == 5 {
			// Another file takes its number.
			if err := syscall.Dup3(0, r.fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if b := <-got; !bytes.Equal(b, bytes.Repeat(p, 10)) {
		t.Errorf("%d bytes arrived, not what was sent", len(b))
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(r.fd, &st); err != nil {
		t.Errorf("the file that took the number was closed: %v", err)
	}
	_ = syscall.Close(r.fd)
}

// TestRingMany has a thousand connections on one ring, none with a goroutine.
func TestRingMany(t *testing.T) {
	const conns = 1000
	r, _ := faultyRing(t, RingOptions{}, nil)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var far [conns]net.Conn
	var senders [conns]*Sender
	for i := range senders {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if far[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer far[i].Close()
		if senders[i], err = NewSender(c.(*net.TCPConn), Options{Ring: r, Backend: IoUringSendZC, OnDowngrade: func(*Downgrade) {}}); err != nil {
			t.Fatal(err)
		}
	}
	goroutines := runtime.NumGoroutine()
	p := pattern(40000)
	b := r.NewBatch()
	for _, s := range senders {
		b.Send(s, p)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines more", n-goroutines)
	}
	for i, s := range senders {
		got := received(far[i])
		c, _ := b.Result(i)
		if res, err := c.Wait(t.Context()); err != nil || res.Backend != IoUringSendZC && res.Cause != "memlock-limit" {
			t.Fatalf("%+v, %v", res, err)
		}
		if _, err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b := <-got; !bytes.Equal(b, p) {
			t.Fatalf("connection %d: %d bytes arrived, not what was sent", i, len(b))
		}
	}
	st := r.Stats()
	t.Logf("%+v", st)
	if st.Calls > 2*conns/batchCall || st.Notified != st.Sends || st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}
