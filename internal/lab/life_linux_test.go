package lab

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// kernelIDs are the ids of a sink's BPF objects. The program at the device goes
// only with the device, and that only with its namespace or by being deleted.
type kernelIDs struct {
	Maps     []ebpf.MapID
	Programs []ebpf.ProgramID
}

func idsOf(t testing.TB, s *Sink) kernelIDs {
	t.Helper()
	var ids kernelIDs
	p := s.programs
	for _, m := range []*ebpf.Map{p.BellOf, p.Blank, p.DatagramFlows, p.Flows, p.Queue, p.SettingsOf, p.TotalsOf, p.Wakeups} {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		ids.Maps = append(ids.Maps, id)
	}
	for _, prog := range []*ebpf.Program{p.Take, p.Acker, p.Control} {
		info, err := prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		ids.Programs = append(ids.Programs, id)
	}
	return ids
}

// left returns what the kernel still has of them, after up to ten seconds: it
// frees them, and namespaces, in workers.
func (ids kernelIDs) left() (left []string) {
	for range 1000 {
		left = nil
		for _, id := range ids.Maps {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			if !errors.Is(err, os.ErrNotExist) {
				left = append(left, fmt.Sprintf("map %d (%v)", id, err))
			}
		}
		for _, id := range ids.Programs {
			p, err := ebpf.NewProgramFromID(id)
			if err == nil {
				p.Close()
			}
			if !errors.Is(err, os.ErrNotExist) {
				left = append(left, fmt.Sprintf("program %d (%v)", id, err))
			}
		}
		if left == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return left
}

func descriptors(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[string]string)
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open[e.Name()] = target
		}
	}
	return open
}

func TestCloseLeavesNothing(t *testing.T) {
	testenv.Root(t)
	warm, err := NewSink(Options{}) // opens what the runtime and the loader keep
	if err != nil {
		t.Fatal(err)
	}
	if err := warm.Close(); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	s, err := NewSink(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ids := idsOf(t, s)
	// A socket keeps its namespace, but neither device nor programs.
	c, err := s.Dial(t.Context(), "tcp4")
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.wire.near.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	err = Namespace{near}.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/dev")
		if strings.Contains(string(table), Device) {
			t.Errorf("the device is still there:\n%s", table)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if left := ids.left(); left != nil {
		t.Errorf("left in the kernel: %q", left)
	}
	if err := s.Do(func() error { return nil }); err == nil {
		t.Error("there is still a namespace to do things in")
	}
	c.Close()
	near.Close()
	for fd, target := range descriptors(t) {
		if _, ok := before[fd]; !ok && !strings.HasPrefix(target, "/proc/") {
			t.Errorf("descriptor %s is left: %s", fd, target)
		}
	}
}

const childEnv = "ZCPROBE_LAB_CHILD"

// TestKilled kills a process that has a sink and a connection to it.
func TestKilled(t *testing.T) {
	testenv.Root(t)
	if os.Getenv(childEnv) != "" {
		childWithSink(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // closed if this process dies, which ends the child
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if killErr := cmd.Process.Kill(); killErr != nil {
		t.Fatal(killErr)
	}
	_ = cmd.Wait() // as it was killed
	if err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	var ids kernelIDs
	if err := json.Unmarshal(line, &ids); err != nil || len(ids.Maps) == 0 || len(ids.Programs) == 0 {
		t.Fatalf("the child said %q: %v", line, err)
	}
	if left := ids.left(); left != nil {
		t.Errorf("left in the kernel: %q", left)
	}
}

func childWithSink(t *testing.T) {
	s, err := NewSink(Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Dial(t.Context(), "tcp4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(idsOf(t, s)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	t.Error("was not killed")
}

// TestWire compares what was made with what ip says.
func TestWire(t *testing.T) {
	ip := testenv.Tool(t, "ip")
	s := newSink(t, Options{MTU: 4000})
	show := func(args ...string) (out string) {
		t.Helper()
		err := s.Do(func() error {
			b, err := command(ip, args...).CombinedOutput()
			out = string(b)
			return err
		})
		if err != nil {
			t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return out
	}
	wants := map[string][]string{
		"-br link":                        {"lo ", Device + "@if11", " UP ", "02:00:00:00:00:0a"},
		"link show dev lab0":              {"mtu 4000", "state UP", "qdisc noqueue"},
		"-4 -br addr":                     {"127.0.0.1/8", nearV4},
		"-4 neigh":                        {sinkV4 + " dev lab0 lladdr 02:00:00:00:00:0b PERMANENT"},
		"-4 route show":                   {"198.18.0.0/24 dev lab0", sinkV4 + " dev lab0", "rto_min lock 1s"},
		"-6 route show":                   {"2001:2::/64 dev lab0", sinkV6 + " dev lab0", "rto_min lock 1s"},
		"-6 -br addr":                     {nearV6},
		"-6 neigh":                        {sinkV6 + " dev lab0 lladdr 02:00:00:00:00:0b PERMANENT"},
		"-6 -d link show dev lab0":        {"addrgenmode none"},
		"-d link show dev lab0 type veth": {"numtxqueues 1 numrxqueues 1"},
	}
	for args, want := range wants {
		if strings.Contains(args, "-6") && !s.Addr6().IsValid() {
			continue
		}
		out := show(strings.Fields(args)...)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("ip %s: no %q in\n%s", args, w, out)
			}
		}
	}
	// Nobody but the tests sends: neither side has an address of its own making.
	time.Sleep(50 * time.Millisecond)
	if got := stats(t, s); got.TCP.Packets != 0 || got.UDP.Packets != 0 {
		t.Errorf("%+v", got)
	}
}

// TestAddresses dials what the sink says it is, from the namespace itself, and
// from outside, where it is not.
func TestAddresses(t *testing.T) {
	s := newSink(t, Options{})
	addr := net.JoinHostPort(s.Addr4().String(), "80")
	err := s.Do(func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if f, err := s.Flow(c); err != nil || f.Sink.String() != addr {
			t.Errorf("%+v, %v", f, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	c, server := net.Pipe()
	defer server.Close()
	defer c.Close()
	if _, err := s.Flow(c); err == nil {
		t.Error("a pipe is a flow")
	}
	udp := dial(t, s, "udp4")
	if _, err := s.Flow(udp); !errors.Is(err, ErrNoFlow) {
		t.Errorf("a socket that has sent nothing: %v", err)
	}
	if err := s.Reset(udp); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("reset of datagrams: %v", err)
	}
	if _, err := s.Dial(t.Context(), "unix"); err == nil {
		t.Error("dialled a unix socket")
	}
}
