package ebpf_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// begin starts a Python program that waits for its first line of input, and
// stays until its input ends.
func begin(t *testing.T, program string, args ...string) (pid int, proceed func()) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "python3"), append([]string{"-c", "import sys\n" + program}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("python3: %v", err)
		}
	})
	lines := bufio.NewReader(out)
	wait := func() {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	wait()
	return cmd.Process.Pid, func() { fmt.Fprintln(in); wait() }
}

// steps is a program that says when it is ready, sends when told, and says so.
const steps = pythonConnect + `
s.setsockopt(1, 60, %d)
s.send(b'before')
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    s.send(b'x' * 50000, %d)
    %s
print("sent", flush=True)
sys.stdin.read()
`

const readQueue = `
    import time
    time.sleep(0.01)
    try:
        while True: s.recvmsg(0, 256, 0x2000 | socket.MSG_DONTWAIT)
    except BlockingIOError: pass
`

// filter takes option memory as completions do: a filter that lets all pass.
const filter = `
    import ctypes, struct
    code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xffffffff))
    s.setsockopt(1, 26, struct.pack("HP", 1, ctypes.addressof(code)))
`

// TestWithoutBPF: the tier tells how much was sent, claims to know nothing more,
// and infers completions that nobody reads.
func TestWithoutBPF(t *testing.T) {
	for _, c := range []struct {
		name         string
		option, flag int
		between      string
		want         []string
	}{
		{"write", 0, 0, "", nil},
		{"zero-copy", 1, 0x4000000, readQueue, nil},
		{"not drained", 1, 0x4000000, "", []string{"undrained-completions"}},
		{"filter", 1, 0x4000000, readQueue + filter, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid, proceed := begin(t, fmt.Sprintf(steps, c.option, c.flag, c.between), listen(t), file(t, 1).Name())
			tracer, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierNone, Processes: []int{pid}})
			if err != nil {
				t.Fatal(err)
			}
			defer tracer.Close()
			proceed()
			time.Sleep(1700 * time.Millisecond)
			s, err := tracer.Summary()
			if err != nil {
				t.Fatal(err)
			}
			checkUnknown(t, s, pid, 40*50000)
			expect(t, advised(t, tracer, pid), c.want...)
		})
	}
}

func checkUnknown(t *testing.T, s *ebpf.Summary, pid int, bytes uint64) {
	t.Helper()
	if len(s.Flows) != 1 {
		t.Fatalf("%d flows: %+v; %q", len(s.Flows), s.Flows, s.Incomplete)
	}
	f := s.Flows[0]
	if f.PID != pid || f.API != "unknown" || f.Bytes != bytes || f.UnknownBytes != bytes || f.ZeroCopiedBytes+f.CopiedBytes != 0 || f.Protocol != "tcp" {
		t.Errorf("%+v, of %d bytes", f, bytes)
	}
	if s.Tier != ebpf.TierNone || len(s.Incomplete) == 0 {
		t.Errorf("tier %s sees everything? %q", s.Tier, s.Incomplete)
	}
}

// TestWithoutPrivilege: for one's own processes the tier needs nothing, and for
// those of others it says what it lacks.
func TestWithoutPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		unprivileged(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "zcprobe-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "test")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.run=^TestWithoutPrivilege$", "-test.v")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestWithoutPrivilege") {
		t.Errorf("%v\n%s", err, out)
	}
}

func unprivileged(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	go io.Copy(io.Discard, struct{ io.Reader }{peer})
	tracer, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierNone, Processes: []int{os.Getpid(), 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	if _, err := c.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	checkUnknown(t, s, os.Getpid(), 100_000)
	if !strings.Contains(strings.Join(s.Incomplete, "; "), "sockets of process 1, which take permission to trace it") {
		t.Errorf("nothing is missing? %q", s.Incomplete)
	}
}
