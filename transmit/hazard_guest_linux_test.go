package transmit

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// slowPath is a connection whose acknowledgements take 20 ms and whose sender
// looks for a larger MTU than there is (net.ipv4.tcp_mtu_probing=2).
type slowPath struct{ near, far *testenv.NetNS }

func newSlowPath(t *testing.T) *slowPath {
	t.Helper()
	p := &slowPath{near: testenv.NewNetNS(t), far: testenv.NewNetNS(t)}
	p.run(t, p.far, "ip", "link", "add", "a0", "type", "veth", "peer", "name", "r0")
	done := make(chan int)
	hold := make(chan struct{})
	defer close(hold)
	go p.near.Do(func() { done <- syscall.Gettid(); <-hold })
	p.run(t, p.far, "ip", "link", "set", "a0", "netns", fmt.Sprint(<-done))
	for _, args := range [][]string{
		{"ip", "addr", "add", "10.91.1.2/24", "dev", "r0"},
		{"ip", "link", "set", "r0", "mtu", "16000", "up"},
		{"ip", "route", "replace", "10.91.1.0/24", "dev", "r0", "src", "10.91.1.2", "advmss", "65000"},
		{"tc", "qdisc", "add", "dev", "r0", "root", "netem", "delay", "20ms", "limit", "10000"},
	} {
		p.run(t, p.far, args...)
	}
	return p
}

func (p *slowPath) run(t *testing.T, ns *testenv.NetNS, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, args[0]), args[1:]...)
	var out []byte
	var err error
	ns.Do(func() { out, err = cmd.CombinedOutput() })
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// here runs a command in the namespace of the test.
func (p *slowPath) here(t *testing.T, tool string, args ...string) {
	t.Helper()
	if out, err := exec.Command(testenv.Tool(t, tool), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
}

func (p *slowPath) connect(t *testing.T) (out, in *net.TCPConn) {
	t.Helper()
	at := &net.TCPAddr{IP: net.IPv4(10, 91, 1, 2), Port: 7009}
	var l *net.TCPListener
	var err error
	p.far.Do(func() { l, err = net.ListenTCP("tcp4", at) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.near.Do(func() { out, err = net.DialTCP("tcp4", nil, at) })
	if err != nil {
		t.Fatal(err)
	}
	if in, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return out, in
}

// TestGuestEarlyCompletion overwrites every buffer as soon as it is released,
// where the kernel completes sends before they are acknowledged (from 6.12 on
// with references to the pages still on their way): nothing of that may arrive.
func TestGuestEarlyCompletion(t *testing.T) {
	series := testenv.Guest(t)
	p := newSlowPath(t)
	p.run(t, p.near, "ip", "addr", "add", "10.91.1.1/24", "dev", "a0")
	p.run(t, p.near, "ip", "link", "set", "a0", "mtu", "65535", "up")
	set := func(ns *testenv.NetNS, name, value string) {
		var err error
		ns.Do(func() { err = os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644) })
		if err != nil {
			t.Fatal(err)
		}
	}
	set(p.near, "tcp_wmem", "4096 4194304 16777216")
	set(p.far, "tcp_rmem", "4096 8388608 33554432")
	set(p.near, "tcp_mtu_probing", "2")
	if n, _ := p.overwrite(t, true); n != 0 {
		t.Errorf("%d bytes were overwritten after their release and before they were sent", n)
	}
	// The test is worth something only if the defect is there.
	for range 3 {
		n, early := p.overwrite(t, false)
		t.Logf("Linux %s without waiting for the peer: %d of the releases early, %d wrong bytes", series, early, n)
		if early > 0 && (series == "5.10" || n > 0) {
			return
		}
	}
	t.Error("the path does not show the defect")
}

// overwrite sends messages, overwrites each when it is released, and counts the
// overwritten bytes that arrive, and the releases before the peer acknowledged.
func (p *slowPath) overwrite(t *testing.T, gated bool) (wrong, early int) {
	out, in := p.connect(t)
	defer in.Close()
	k := kernelSocketCalls()
	acked := k.OutQueue
	if !gated {
		k.OutQueue = func(int) (int, syscall.Errno) { return 0, 0 }
	}
	s, err := newSender(out, Options{Backend: MsgZerocopy}, k)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() {
		n, b := 0, make([]byte, 1<<20)
		for {
			m, err := in.Read(b)
			for _, c := range b[:m] {
				if c != 'a' {
					n++
				}
			}
			if err != nil {
				if err != io.EOF {
					n = -1
				}
				got <- n
				return
			}
		}
	}()
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var releases sync.WaitGroup
	sent := 0
	for i := range 30 {
		size := 1000 + rand.IntN(24000)
		if i%2 == 0 {
			size = 512<<10 - rand.IntN(20000)
		}
		m := make([]byte, size)
		for j := range m {
			m[j] = 'a'
		}
		c, err := s.Send(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		sent += size
		end := sent
		mu.Unlock()
		releases.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := c.Wait(ctx); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			_ = raw.Control(func(fd uintptr) {
				if q, e := acked(int(fd)); e == 0 && sent-q < end {
					early++
				}
			})
			for j := range m {
				m[j] = 'X'
			}
		})
	}
	releases.Wait()
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return <-got, early
}
