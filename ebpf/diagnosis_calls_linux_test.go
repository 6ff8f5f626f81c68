package ebpf_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// dialSink returns a connection to a sink, with TCP_NODELAY as Go has it.
func dialSink(t testing.TB) *net.TCPConn {
	t.Helper()
	sink := newSink(t)
	c, err := sink.Dial(t.Context(), "tcp4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// file makes a file of n bytes that differ.
func file(t testing.TB, n int) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "payload")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	if _, err := f.WriteString(b.String()[:n]); err != nil {
		t.Fatal(err)
	}
	rewind(t, f)
	return f
}

func rewind(t testing.TB, f *os.File) {
	t.Helper()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
}

// TestAdviceOfCopy: what io.Copy does in each of its shapes.
func TestAdviceOfCopy(t *testing.T) {
	const total = 4 << 20
	for _, c := range []struct {
		name string
		copy func(to *net.TCPConn, from *os.File) error
		want []string
	}{
		{"file", func(to *net.TCPConn, from *os.File) error { _, err := io.Copy(to, from); return err }, nil},
		{"writer wrapped", func(to *net.TCPConn, from *os.File) error {
			_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
			return err
		}, []string{"copy-loop"}},
		{"two limits", func(to *net.TCPConn, from *os.File) error {
			_, err := io.Copy(to, io.LimitReader(io.LimitReader(from, total), total))
			return err
		}, []string{"copy-loop"}},
		{"section", func(to *net.TCPConn, from *os.File) error {
			_, err := io.Copy(to, io.NewSectionReader(from, 0, total))
			return err
		}, []string{"copy-loop"}},
		{"changed in place", func(to *net.TCPConn, from *os.File) error {
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if errors.Is(err, io.EOF) {
					return nil
				}
				for i := range buf[:n] {
					buf[i] ^= 0x55
				}
				if _, err := to.Write(buf[:n]); err != nil {
					return err
				}
			}
		}, nil},
		{"read once, written often", func(to *net.TCPConn, from *os.File) error {
			buf := make([]byte, 32<<10)
			if _, err := io.ReadFull(from, buf); err != nil {
				return err
			}
			for range 128 {
				if _, err := to.Write(buf); err != nil {
					return err
				}
			}
			return nil
		}, nil},
		{"pipe", func(to *net.TCPConn, from *os.File) error {
			r, w, err := os.Pipe()
			if err != nil {
				return err
			}
			defer r.Close()
			go func() {
				defer w.Close()
				io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{from})
			}()
			_, err = io.Copy(to, r)
			return err
		}, []string{"fast-path-refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, from := dialSink(t), file(t, total)
			tracer := open(t, ebpf.Options{Exact: true})
			if err := c.copy(to, from); err != nil {
				t.Fatal(err)
			}
			sent(t, to)
			got := advised(t, tracer, 0)
			expect(t, got, c.want...)
			for _, id := range c.want {
				a := got[id]
				if a.Bytes > total || a.Bytes < total*9/10 {
					t.Errorf("%s of %d bytes, %d were copied", id, a.Bytes, total)
				}
				if id == "copy-loop" && !strings.Contains(a.Remedy, "transmit.Wrap") {
					t.Errorf("no word of wrappers: %s", a.Remedy)
				}
			}
		})
	}
}

// python runs a program and returns the advice about it, with all that strace
// counted of the calls named.
func python(t *testing.T, program string, args ...string) map[string]ebpf.Advice {
	t.Helper()
	python := testenv.Tool(t, "python3")
	testenv.Root(t)
	cmd := exec.Command(python, append([]string{"-c", "import sys\nsys.stdin.readline()\n" + program}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tracer := open(t, ebpf.Options{Exact: true, Processes: []int{cmd.Process.Pid}})
	fmt.Fprintln(in)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return advised(t, tracer, cmd.Process.Pid)
}

// listen reads all that comes to a listener of its own, and returns its address.
func listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(io.Discard, struct{ io.Reader }{c})
			}()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

const pythonConnect = `
import os, socket
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
f = open(sys.argv[2], "rb", buffering=0)
size = os.fstat(f.fileno()).st_size
def body():
    at = 0
    while at < size:
        at += os.sendfile(s.fileno(), f.fileno(), at, size - at)
`

func TestAdviceOfPrograms(t *testing.T) {
	const total = 2 << 20
	for _, c := range []struct {
		name, program string
		want          []string
	}{
		{"sendfile", "body()", nil},
		{"loop", "while b := f.read(65536): s.sendall(b)", []string{"copy-loop"}},
		{"small loop", "while b := f.read(2048): s.sendall(b)", nil},
		{"other copy", "while b := f.read(65536): s.sendall(bytes(bytearray(b)))", nil},
		{"header", "s.sendall(b'x' * 100); body()", []string{"cork-missing"}},
		{"header with more", "s.sendall(b'x' * 100, socket.MSG_MORE); body()", nil},
		{"header corked", "s.setsockopt(6, socket.TCP_CORK, 1); s.sendall(b'x' * 100); body(); s.setsockopt(6, socket.TCP_CORK, 0)", nil},
		{"header without delay", "s.setsockopt(6, socket.TCP_NODELAY, 1); s.sendall(b'x' * 100); body()", nil},
		{"fallback", `
r, w = os.pipe()
try:
    os.sendfile(s.fileno(), r, None, 4096)
except OSError: pass
while b := f.read(65536):
    os.write(w, b)
    s.sendall(os.read(r, 65536))
`, []string{"fast-path-refused"}},
		{"refused, then splice", `
r, w = os.pipe()
try:
    os.sendfile(s.fileno(), r, None, 4096)
except OSError: pass
while n := os.splice(f.fileno(), w, 65536):
    while n: n -= os.splice(r, s.fileno(), n)
`, nil},
		{"small splices", `
r, w = os.pipe()
while n := os.splice(f.fileno(), w, 4096):
    while n: n -= os.splice(r, s.fileno(), n)
`, []string{"small-splice"}},
		{"small pipe", `
import fcntl
r, w = os.pipe()
fcntl.fcntl(w, 1031, 4096)
while n := os.splice(f.fileno(), w, 65536):
    while n: n -= os.splice(r, s.fileno(), n)
`, []string{"small-splice"}},
		{"no option", `
for i in range(32): s.send(b'x' * 40000, 0x4000000)
`, []string{"no-so-zerocopy"}},
		{"small sends", `
s.setsockopt(1, 60, 1)
for i in range(64): s.send(b'x' * 4000, 0x4000000)
`, []string{"small-send"}},
		{"large sends", `
s.setsockopt(1, 60, 1)
for i in range(64): s.send(b'x' * 40000, 0x4000000)
`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := file(t, total)
			expect(t, python(t, pythonConnect+c.program, listen(t), f.Name()), c.want...)
		})
	}
}

// TestAdviceOfLimits: the limit that bites is named.
func TestAdviceOfLimits(t *testing.T) {
	testenv.Root(t)
	f := file(t, 1)
	t.Run("memlock", func(t *testing.T) {
		// The limit holds for those who may not lock memory at will: not for root.
		got := python(t, pythonConnect+`
import resource
s.setsockopt(1, 60, 1)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.setuid(65534)
failed = 0
for i in range(4):
    try: s.send(b'x' * (1 << 20), 0x4000000)
    except OSError as e: failed += e.errno == 105
assert failed == 4
`, listen(t), f.Name())
		expect(t, got, "memlock-limit")
		if a := got["memlock-limit"]; a.Calls != 4 {
			t.Errorf("%d calls: %+v", a.Calls, a)
		}
	})
	t.Run("optmem", func(t *testing.T) {
		ns := testenv.NewNetNS(t)
		ns.SetSysctl("net.core.optmem_max", "8192")
		var got map[string]ebpf.Advice
		ns.Do(func() {
			// The peer does not read, so that what comes last is not completed.
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, port, err := net.SplitHostPort(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			got = python(t, pythonConnect+`
s.setsockopt(1, 60, 1)
s.setsockopt(1, 32, 1 << 26) # SO_SNDBUFFORCE
failed = 0
for i in range(1000):
    try: s.send(b'x' * 65536, 0x4000000 | socket.MSG_DONTWAIT)
    except OSError as e:
        failed = e.errno
        break
assert failed == 105, failed
`, port, f.Name())
		})
		if _, ok := got["optmem-limit"]; !ok {
			t.Errorf("not told: %+v", got)
		}
		delete(got, "undrained-completions") // as it may be, if this takes long
		expect(t, got, "optmem-limit")
		if a := got["optmem-limit"]; !strings.Contains(a.Text, "8.0 KiB") {
			t.Errorf("another limit: %s", a.Text)
		}
	})
}

// TestAdviceInWindows: what goes on for long is found without looking at every call.
func TestAdviceInWindows(t *testing.T) {
	to, from := dialSink(t), file(t, 1<<20)
	tracer := open(t, ebpf.Options{})
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for range 20 {
			rewind(t, from)
			if _, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from}); err != nil {
				t.Fatal(err)
			}
		}
		s, err := tracer.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Advice) == 0 {
			continue
		}
		expect(t, advised(t, tracer, 0), "copy-loop")
		if s.CallsWatchedNS <= 0 || s.CallsWatchedNS > s.DurationNS {
			t.Errorf("looked for %d of %d ns", s.CallsWatchedNS, s.DurationNS)
		}
		return
	}
	t.Error("not found")
}

// TestAdviceOfCompletions: those that nobody reads are told of, and no others.
func TestAdviceOfCompletions(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read %v", read), func(t *testing.T) {
			c := dialSink(t)
			tracer := open(t, ebpf.Options{Exact: true})
			data := payload(64 << 10)
			start := time.Now()
			control(t, c, func(fd int) error {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
					return err
				}
				for time.Since(start) < 2500*time.Millisecond {
					if _, err := unix.SendmsgN(fd, data, nil, nil, unix.MSG_ZEROCOPY); err != nil && !errors.Is(err, unix.ENOBUFS) {
						return err
					}
					if read {
						drainErrors(fd)
					}
					time.Sleep(10 * time.Millisecond)
				}
				return nil
			})
			sent(t, c)
			got := advised(t, tracer, 0)
			checkCompletions(t, tracer, read)
			if read {
				expect(t, got)
				return
			}
			expect(t, got, "undrained-completions")
		})
	}
}

// checkCompletions: on this machine each send is completed, mostly before it returns.
// One that the program reads at once, before the kernel has reported it, goes unseen.
func checkCompletions(t *testing.T, tracer *ebpf.Tracer, read bool) {
	t.Helper()
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Completions) != 1 {
		t.Fatalf("not of one process: %+v", s.Completions)
	}
	c := s.Completions[0]
	least := c.Sends
	if read {
		least -= c.Sends / 10
	}
	if c.Sends < 10 || c.Completed < least || c.Completed > c.Sends {
		t.Errorf("not all are seen: %+v", c)
	}
}

// TestAdviceAndStrace: as many calls are told of as strace counts.
func TestAdviceAndStrace(t *testing.T) {
	strace, python3 := testenv.Tool(t, "strace"), testenv.Tool(t, "python3")
	f := file(t, 2<<20)
	for _, c := range []struct{ id, call, program string }{
		{"copy-loop", "sendto", "while b := f.read(65536): s.sendall(b)"},
		{"no-so-zerocopy", "sendto", "for i in range(50): s.send(b'x' * 40000, 0x4000000)"},
		{"small-splice", "splice", "r, w = os.pipe()\nwhile n := os.splice(f.fileno(), w, 4096):\n    os.splice(r, s.fileno(), n)"},
	} {
		t.Run(c.id, func(t *testing.T) {
			got := python(t, pythonConnect+c.program, listen(t), f.Name())[c.id]
			out, err := exec.Command(strace, "-f", "-qq", "-e", "trace="+c.call, python3, "-c", "import sys\n"+pythonConnect+c.program,
				listen(t), f.Name()).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			counted := uint64(strings.Count(string(out), c.call+"("))
			if c.call == "splice" { // into the pipe, and out of it
				counted /= 2
			}
			if got.Calls != counted {
				t.Errorf("%d calls, strace says %d", got.Calls, counted)
			}
		})
	}
}
