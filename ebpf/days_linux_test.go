package ebpf_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// reuse starts a process, and when it has ended another with its id. clone3 is
// number 435 on every machine; CLONE_ARGS_SIZE_VER1 is 80 bytes.
const reuse = `
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def connect(): return socket.create_connection(("127.0.0.1", int(sys.argv[1])))
first = os.fork()
if first == 0:
    sys.stdin.readline()
    connect().send(b'x' * 1000)
    os._exit(0)
print(first, flush=True)
os.waitpid(first, 0)
ids = (ctypes.c_int * 1)(first)
args = ctypes.create_string_buffer(struct.pack("8Q2Q", 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(ids), 1), 80)
child = libc.syscall(435, args, 80)
if child == 0:
    connect().send(b'y' * 5000)
    os._exit(0)
if child != first:
    print("clone3", child, ctypes.get_errno(), file=sys.stderr)
    sys.exit(3)
os.waitpid(first, 0)
`

// TestReusedID: a process that gets the id of one that was looked at is not it.
func TestReusedID(t *testing.T) {
	testenv.Root(t)
	cmd := exec.Command(testenv.Tool(t, "python3"), "-c", reuse, listen(t))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	tracer := open(t, ebpf.Options{Processes: []int{pid}})
	fmt.Fprintln(in)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Flows) != 1 || s.Flows[0].Bytes != 1000 || s.Flows[0].PID != pid {
		t.Errorf("%+v", s.Flows)
	}
}

// TestResetUnseen: connections that are reset between samples are known by their
// addresses.
func TestResetUnseen(t *testing.T) {
	sink := newSink(t)
	tracer := openSampling(t)
	busy := dial(t, sink, "tcp4")
	keepSending(t, busy, "write", 64<<10, 300*time.Millisecond)
	want := map[string]bool{}
	const size = 1000
	for range 100 {
		c := dial(t, sink, "tcp4")
		control(t, c, func(fd int) error {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		if _, err := c.Write(payload(size)); err != nil {
			t.Fatal(err)
		}
		want[c.LocalAddr().String()] = true
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, s := flowsOf(t, tracer, 0)
	for _, f := range s.Flows {
		if f.Inode == inodeOf(t, busy) {
			continue
		}
		if !want[f.Local] || f.Bytes != size || f.ZeroCopiedBytes != 0 {
			t.Errorf("%+v", f)
		}
		delete(want, f.Local)
	}
	if len(want) > 0 {
		t.Errorf("not seen: %v", want)
	}
}

// peerEnv is where a child connects to.
const peerEnv = "ZCPROBE_EBPF_PEER"

// Connections that are reset by their peer, and what each sends.
const (
	resets     = 40
	resetBytes = 50_000
)

// sendToReset sends to a peer that resets, and closes then.
func sendToReset(peer string) error {
	for range resets {
		c, err := net.Dial("tcp", peer)
		if err != nil {
			return err
		}
		if _, err := c.Write(payload(resetBytes)); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			return fmt.Errorf("no reset, but: %v", err)
		}
		c.Close()
	}
	return nil
}

// TestResetByPeer: a peer's reset comes in the context of anybody, between samples,
// before anyone has told whose the connection is.
func TestResetByPeer(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv(peerEnv, l.Addr().String())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.ReadFull(c, make([]byte, resetBytes)) // what is missing the test tells
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	pid, act, _ := startChild(t, "reset", nil)
	tracer := start(t, ebpf.Options{Processes: []int{pid}})
	tracer.Allow(0)
	act()
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	var total uint64
	for _, f := range s.Flows {
		if total += f.Bytes; f.PID != pid {
			t.Errorf("of another process: %+v", f)
		}
	}
	// A hook that interrupts itself is skipped, rarely.
	if total > resets*resetBytes || total < resets*resetBytes*9/10 {
		t.Errorf("%d bytes of %d connections, %d sent", total, len(s.Flows), resets*resetBytes)
	}
}

// TestKilledInWindow: nothing is left of a tracer that is killed while it looks in
// windows.
func TestKilledInWindow(t *testing.T) {
	sink := newSink(t)
	pid, act, kill := startChild(t, "tracer", nil)
	act()
	made := programs(t)
	ours := held(t, pid, "prog_id:")
	maps.DeleteFunc(made, func(id int, _ string) bool { return !slices.Contains(ours, strconv.Itoa(id)) })
	c := dial(t, sink, "tcp4")
	deadline := time.Now().Add(20 * time.Second)
	for most, windows := 0, 0; windows < 3; {
		if time.Now().After(deadline) {
			t.Fatal("it looks all of the time")
		}
		keepSending(t, c, "write", 256, 20*time.Millisecond)
		n := len(held(t, pid, "link_type:"))
		if most = max(most, n); n < most {
			windows++ // it is between two, or at an end of one
		}
	}
	kill()
	if len(made) == 0 {
		t.Error("it had no programs")
	}
	gone(t, made)
}
