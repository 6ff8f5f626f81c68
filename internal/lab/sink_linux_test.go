package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// newSink makes a sink for one test, which fails if the sink had any trouble.
func newSink(t testing.TB, o Options) *Sink {
	t.Helper()
	testenv.Root(t)
	s, err := NewSink(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		got := stats(t, s)
		if got.Refused != 0 || got.Strays != 0 || got.Lost != 0 {
			t.Errorf("refused %d connections, saw %d stray segments, lost %d answers", got.Refused, got.Strays, got.Lost)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func stats(t testing.TB, s *Sink) Stats {
	t.Helper()
	got, err := s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func dial(t testing.TB, s *Sink, network string) net.Conn {
	t.Helper()
	if network[len(network)-1] == '6' && !s.Addr6().IsValid() {
		t.Skip("needs IPv6")
	}
	c, err := s.Dial(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits up to ten seconds until the flow of c is as it should be.
func eventually(t testing.TB, s *Sink, c net.Conn, what string, is func(Flow) bool) Flow {
	t.Helper()
	var f Flow
	for range 1000 {
		var err error
		if f, err = s.Flow(c); err != nil {
			t.Fatal(err)
		}
		if is(f) {
			return f
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not %s: %+v", what, f)
	return f
}

func hasState(want State) func(Flow) bool { return func(f Flow) bool { return f.State == want } }

// TestZeroCopy is what the sink is for: pages are sent without being copied,
// and the kernel says so.
func TestZeroCopy(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			s := newSink(t, Options{})
			c := dial(t, s, network)
			const size, sends = 64 << 10, 2000
			got := zeroCopySends(t, c, make([]byte, size), sends)
			if got.copied != 0 {
				t.Errorf("%d of %d sends were copied", got.copied, got.done)
			}
			info := tcpInfo(t, c)
			if info.Total_retrans != 0 || info.Bytes_acked != size*sends+1 { // and the SYN
				t.Errorf("%d retransmissions, %d bytes acknowledged", info.Total_retrans, info.Bytes_acked)
			}
			f, err := s.Flow(c)
			if err != nil {
				t.Fatal(err)
			}
			if f.Bytes != size*sends || f.Duplicates != 0 || f.Discarded != 0 || f.Held != 0 {
				t.Errorf("the sink has %+v", f)
			}
			// The sender makes packets of up to 64 KiB, less where it is slow.
			if f.Segments < size*sends/1500 || f.Packets > f.Segments/4 {
				t.Errorf("%d packets for %d segments", f.Packets, f.Segments)
			}
			if total := stats(t, s); total.TCP != f.Traffic || total.Acks != f.Acks {
				t.Errorf("totals %+v of the flow %+v", total, f)
			}
		})
	}
}

// TestLargeSends sends more at a time than fits in one packet, and in the
// largest MTU.
func TestLargeSends(t *testing.T) {
	for _, mtu := range []int{1280, 9000, 65535} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			s := newSink(t, Options{MTU: mtu})
			for _, network := range []string{"tcp4", "tcp6"} {
				c := dial(t, s, network)
				got := zeroCopySends(t, c, make([]byte, 1<<20), 20)
				if got.copied != 0 {
					t.Errorf("%s: %d of %d sends were copied", network, got.copied, got.done)
				}
				headers := map[string]uint32{"tcp4": 40, "tcp6": 60}[network]
				if mss := tcpInfo(t, c).Snd_mss; mss != uint32(mtu)-headers {
					t.Errorf("%s: segments of %d bytes in an MTU of %d", network, mss, mtu)
				}
			}
		})
	}
}

// TestWithoutScatterGather shows why the word of the kernel is not enough. A
// device without scatter-gather makes it cut every packet into linear ones, and
// so copy it: those of more than one segment in skb_segment, of which no
// completion tells, those of one in __pskb_pull_tail, of which they do.
func TestWithoutScatterGather(t *testing.T) {
	ethtool := testenv.Tool(t, "ethtool")
	s := newSink(t, Options{})
	if err := runIn(s, ethtool, "-K", Device, "sg", "off"); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s, "tcp4")
	const mss, sends = 1460, 100
	var one, two completions
	for range sends { // each on its own, so that the kernel cuts it nowhere else
		got := zeroCopySends(t, c, make([]byte, mss), 1)
		one.done, one.copied = one.done+got.done, one.copied+got.copied
		got = zeroCopySends(t, c, make([]byte, 2*mss), 1)
		two.done, two.copied = two.done+got.done, two.copied+got.copied
	}
	if one.copied != sends || two.copied != 0 {
		t.Errorf("said to be copied: %d of %d sends of one segment, %d of %d sends of two", one.copied, one.done, two.copied, two.done)
	}
	f := eventually(t, s, c, "complete", func(f Flow) bool { return f.Bytes == 3*mss*sends })
	if f.Packets != f.Segments {
		t.Errorf("%d packets of %d segments", f.Packets, f.Segments)
	}
}

// runIn runs a program in the sender's namespace.
func runIn(s *Sink, name string, args ...string) error {
	return s.Do(func() error {
		out, err := command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	})
}

// TestManyConnections has each of many connections send another amount at the
// same time.
func TestManyConnections(t *testing.T) {
	s := newSink(t, Options{})
	networks := []string{"tcp4", "tcp6"}
	if !s.Addr6().IsValid() {
		networks = networks[:1]
	}
	connections := 200
	if os.Getenv(testenv.GuestEnv) != "" {
		connections = 40 // its processors are emulated
	}
	size := func(i int) int { return 100_000 + 1_000*i }
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			c, err := s.Dial(t.Context(), networks[i%len(networks)])
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write(make([]byte, size(i))); err != nil {
				t.Error(err)
			}
			if err := closeBoth(c.(*net.TCPConn)); err != nil {
				f, _ := s.Flow(c)
				t.Errorf("%v: %+v", err, f)
			}
			f := eventually(t, s, c, "closed", hasState(Closed))
			if f.Bytes != uint64(size(i)) || !f.FinReceived {
				t.Errorf("sent %d bytes: %+v", size(i), f)
			}
		})
	}
	all.Wait()
	flows, err := s.Flows()
	if err != nil {
		t.Fatal(err)
	}
	var bytes uint64
	for _, f := range flows {
		bytes += f.Bytes
	}
	got := stats(t, s)
	if n := uint64(connections); len(flows) != connections || got.Opened != n || got.Closed != n || got.TCP.Bytes != bytes {
		t.Errorf("%d flows of %d bytes, %+v", len(flows), bytes, got)
	}
}

// closeBoth closes the sending direction and reads the end of the other.
func closeBoth(c *net.TCPConn) error {
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err == nil && len(b) > 0 {
		err = fmt.Errorf("the sink said %q", b)
	}
	return err
}

func TestSinkFinishesFirst(t *testing.T) {
	s := newSink(t, Options{})
	c := dial(t, s, "tcp6").(*net.TCPConn)
	if err := s.Finish(c); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("read %q, %v", b, err)
	}
	const size = 1 << 20
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatalf("write to a peer that only listens: %v", err)
	}
	f := eventually(t, s, c, "complete", func(f Flow) bool { return f.Bytes == size })
	if f.State != Open || f.FinReceived {
		t.Errorf("the sender has not closed its direction: %+v", f)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, c, "closed", hasState(Closed))
	if got := stats(t, s); got.ResetBySender != 0 || got.ResetBySink != 0 || got.Closed != 1 {
		t.Errorf("%+v", got)
	}
}

// TestCloseLeavesNoSocket looks at the sender's sockets after both orders of
// closing: those that closed first wait, the others are gone.
func TestCloseLeavesNoSocket(t *testing.T) {
	s := newSink(t, Options{})
	first, second := dial(t, s, "tcp4").(*net.TCPConn), dial(t, s, "tcp4").(*net.TCPConn)
	if err := closeBoth(first); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(second); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(second); err != nil {
		t.Fatal(err)
	}
	second.CloseWrite()
	eventually(t, s, second, "closed", hasState(Closed))
	first.Close()
	second.Close()
	const timeWait = "06" // of include/net/tcp_states.h
	states := sockets(t, s)
	if len(states) != 1 || states[0] != timeWait {
		t.Errorf("states of sockets left: %v", states)
	}
}

// sockets returns the states of the sender's TCP sockets over IPv4.
func sockets(t *testing.T, s *Sink) []string {
	t.Helper()
	var table []byte
	err := s.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for i, line := range strings.Split(strings.TrimSpace(string(table)), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) > 3 {
			states = append(states, fields[3])
		}
	}
	return states
}

func TestReset(t *testing.T) {
	s := newSink(t, Options{})
	t.Run("by sink", func(t *testing.T) {
		c := dial(t, s, "tcp4")
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := s.Reset(c); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		eventually(t, s, c, "reset", hasState(ResetBySink))
		if err := s.Reset(c); !errors.Is(err, ErrNoFlow) {
			t.Errorf("a second reset: %v", err)
		}
	})
	t.Run("by sender", func(t *testing.T) {
		c := dial(t, s, "tcp6").(*net.TCPConn)
		if err := c.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		key := namesOf(c)
		c.Close()
		eventually(t, s, key, "reset", hasState(ResetBySender))
	})
	if got := stats(t, s); got.Opened != 2 || got.Closed != 2 || got.ResetBySink != 1 || got.ResetBySender != 1 {
		t.Errorf("%+v", got)
	}
}

// names has the addresses of a connection and nothing else.
type names struct {
	net.Conn
	local, remote net.Addr
}

func namesOf(c net.Conn) names       { return names{nil, c.LocalAddr(), c.RemoteAddr()} }
func (n names) LocalAddr() net.Addr  { return n.local }
func (n names) RemoteAddr() net.Addr { return n.remote }

// TestHold has a peer that stops to read, and then reads on.
func TestHold(t *testing.T) {
	const window = 100_000
	s := newSink(t, Options{Window: window})
	idle := dial(t, s, "tcp4")
	for _, network := range []string{"tcp4", "tcp6"} {
		c := dial(t, s, network)
		const first = 10 * window
		if _, err := c.Write(make([]byte, first)); err != nil {
			t.Fatal(err)
		}
		eventually(t, s, c, "acknowledged", func(f Flow) bool { return tcpInfo(t, c).Unacked == 0 })
		if err := s.Hold(); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 16<<20) // more than a socket holds
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(data)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("wrote %d bytes to a peer that does not read: %v", n, err)
		}
		f, err := s.Flow(c)
		if err != nil {
			t.Fatal(err)
		}
		// All that was offered is taken, and no more than the rounding of
		// windows adds to it, which are told in units of 2 bytes.
		if took := f.Bytes - first; took < window-2*1460 || took > window+1000 {
			t.Errorf("the sink took %d bytes with a window of %d", took, window)
		}
		before, err := s.Flow(idle)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Release(); err != nil {
			t.Fatal(err)
		}
		// Who would send nothing, and so not ask, is told too.
		eventually(t, s, idle, "told", func(f Flow) bool { return f.Acks == before.Acks+1 })
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(data[n:]); err != nil {
			t.Fatal(err)
		}
		eventually(t, s, c, "complete", func(f Flow) bool { return f.Bytes == first+uint64(len(data)) })
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{MTU: 1279}, {MTU: 65536}, {Window: -1}, {Window: maxWindow + 1}, {MaxFlows: -1}, {MaxFlows: maxMaxFlows + 1}} {
		if s, err := NewSink(o); err == nil {
			s.Close()
			t.Errorf("%+v is good", o)
		}
	}
	for window, want := range map[int][2]uint32{1: {0, 1}, 65535: {0, 65535}, 65536: {1, 65536}, 100_001: {1, 100_000}, defaultWindow: {8, defaultWindow}, maxWindow: {14, maxWindow}} {
		if scale, rounded := windowScale(window); scale != want[0] || rounded != want[1] {
			t.Errorf("window %d: scale %d, window %d, want %v", window, scale, rounded, want)
		}
	}
}
