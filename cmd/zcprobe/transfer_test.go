package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// program is the command line program, as a process.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "zcprobe") // testscript.Main goes by the name
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), link, args...)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
	return cmd
}

// A peer is a receiving process.
type peer struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	where transfer.Received
}

// startRecv starts recv on loopback and waits until it listens.
func startRecv(t *testing.T, args ...string) *peer {
	t.Helper()
	p := &peer{t: t, cmd: program(t, append([]string{"recv", "-o", "json", "--listen", "127.0.0.1:0"}, args...)...)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	p.lines = bufio.NewScanner(out)
	p.lines.Buffer(nil, 1<<20)
	p.read(&p.where)
	return p
}

func (p *peer) read(v any) {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("recv says nothing: %v", p.lines.Err())
	}
	if err := json.Unmarshal(p.lines.Bytes(), v); err != nil {
		p.t.Fatal(err)
	}
}

// end returns what became of the connection, and the exit code.
func (p *peer) end() (transfer.Received, int) {
	p.t.Helper()
	var r transfer.Received
	p.read(&r)
	hosttest.Validate(p.t, "recv.v1", p.lines.Bytes())
	return r, exitCodeOf(p.cmd.Wait())
}

func exitCodeOf(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func writeFile(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Two programs: port 0, the address from the first line, equal checksums. Which backend
// is best is the machine's to say, if it was measured.
func TestSendToRecv(t *testing.T) {
	want := random(3_000_001)
	in, out := writeFile(t, want), filepath.Join(t.TempDir(), "out")
	p := startRecv(t, "--out", out)
	b, err := program(t, "send", "--no-calibration", "--to", p.where.Local, in, "-o", "json").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	var sent transfer.Sent
	if err := json.Unmarshal(b, &sent); err != nil {
		t.Fatal(err)
	}
	hosttest.Validate(t, "send.v1", b)
	got, code := p.end()
	if code != 0 || *sent.SHA256 != hexSum(want) || *got.SHA256 != hexSum(want) || sent.Backend != "sendfile" || got.Peer != sent.Local {
		t.Errorf("exit %d, sent %+v\nreceived %+v", code, sent, got)
	}
	if have, err := os.ReadFile(out); err != nil || !bytes.Equal(have, want) {
		t.Errorf("%d bytes arrived of %d, %v", len(have), len(want), err)
	}
}

// The calls that a backend is named after are the ones that move the bytes, and no
// others do.
func TestSendMakesTheCalls(t *testing.T) {
	strace := testenv.Tool(t, "strace")
	file := writeFile(t, random(1<<20))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--backend", "sendfile", file}, "sendfile"},
		{[]string{"--backend", "splice", file}, "splice"},
		{[]string{"--backend", "mmap_zerocopy", file}, "MSG_ZEROCOPY"},
		{[]string{"--backend", "mmap_write", file}, "send"},
		{[]string{"--backend", "read_write", file}, "send"},
		{[]string{"--memory", "1M", "--backend", "msg_zerocopy"}, "MSG_ZEROCOPY"},
		{[]string{"--memory", "1M", "--backend", "write"}, "send"},
	} {
		t.Run(strings.Join(c.args[:3], " "), func(t *testing.T) {
			p := startRecv(t)
			send := program(t, append([]string{"send", "--to", p.where.Local}, c.args...)...)
			log := filepath.Join(t.TempDir(), "strace")
			cmd := exec.CommandContext(t.Context(), strace, append([]string{"-f", "-qq", "-s", "1", "-o", log,
				"-e", "trace=sendto,sendmsg,write,writev,sendfile,splice,connect", send.Path}, send.Args[1:]...)...)
			cmd.Env = send.Env
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			p.end()
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(p.where.Local)
			if got := callsTo(string(b), port); !slices.Equal(got, []string{c.want}) {
				t.Errorf("the bytes went by %v, want %s", got, c.want)
			}
		})
	}
}

// callsTo returns the calls that sent to the socket that strace saw connected to a
// port of 127.0.0.1.
func callsTo(log, port string) []string {
	m := regexp.MustCompile(`connect\((\d+), .*htons\(` + port + `\)`).FindStringSubmatch(log)
	if m == nil {
		return nil
	}
	to := map[string]*regexp.Regexp{
		"sendfile": regexp.MustCompile(`sendfile\(` + m[1] + `,`),
		"splice":   regexp.MustCompile(`splice\(\d+, [^,]+, ` + m[1] + `,`),
		"other":    regexp.MustCompile(`(write|writev|sendmsg)\(` + m[1] + `,`),
	}
	var got []string
	for name, re := range to {
		if re.MatchString(log) {
			got = append(got, name)
		}
	}
	sends := regexp.MustCompile(`sendto\(`+m[1]+`,.*`).FindAllString(log, -1)
	for _, s := range sends {
		name := "send"
		if strings.Contains(s, "MSG_ZEROCOPY") {
			name = "MSG_ZEROCOPY"
		}
		if !slices.Contains(got, name) {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	return got
}

// Other programs are peers as good as ours: there is no framing.
func TestOtherPrograms(t *testing.T) {
	want := random(700_001)
	file := writeFile(t, want)
	t.Run("nc receives", func(t *testing.T) {
		nc := testenv.Tool(t, "nc")
		sock := filepath.Join(t.TempDir(), "s")
		cmd := exec.CommandContext(t.Context(), nc, "-l", "-N", "-U", sock)
		var got bytes.Buffer
		cmd.Stdout = &got
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		appear(t, sock)
		if b, err := program(t, "send", "--to", "unix:"+sock, file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
		if err := cmd.Wait(); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("nc got %d bytes, %v", got.Len(), err)
		}
	})
	t.Run("nc sends", func(t *testing.T) {
		nc := testenv.Tool(t, "nc")
		p := startRecv(t)
		host, port, _ := net.SplitHostPort(p.where.Local)
		cmd := exec.CommandContext(t.Context(), nc, "-N", host, port)
		cmd.Stdin = bytes.NewReader(want)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
		if got, code := p.end(); code != 0 || *got.SHA256 != hexSum(want) {
			t.Errorf("exit %d, %+v", code, got)
		}
	})
	t.Run("python receives", func(t *testing.T) {
		python := testenv.Tool(t, "python3")
		cmd := exec.CommandContext(t.Context(), python, "-c", `
import socket, sys, hashlib
l = socket.create_server(("127.0.0.1", 0))
print(l.getsockname()[1], flush=True)
c, _ = l.accept()
h = hashlib.sha256()
while b := c.recv(65536): h.update(b)
print(h.hexdigest())`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		if b, err := program(t, "send", "--to", "127.0.0.1:"+lines.Text(), "--backend", "mmap_zerocopy", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
		lines.Scan()
		if sum := lines.Text(); sum != hexSum(want) {
			t.Errorf("python got %s", sum)
		}
		cmd.Wait()
	})
	t.Run("python sends datagrams", func(t *testing.T) {
		python := testenv.Tool(t, "python3")
		p := startRecv(t, "--udp", "--idle", "300ms")
		_, port, _ := net.SplitHostPort(p.where.Local)
		if b, err := exec.CommandContext(t.Context(), python, "-c", `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for part in (b"one", b"two", b"three"): s.sendto(part, ("127.0.0.1", int(sys.argv[1])))`, port).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
		if got, code := p.end(); code != 0 || *got.SHA256 != hexSum([]byte("onetwothree")) || got.EndedBy != "idle" || *got.Datagrams != 3 {
			t.Errorf("exit %d, %+v", code, got)
		}
	})
}

func appear(t *testing.T, name string) {
	t.Helper()
	for range 1000 {
		if _, err := os.Lstat(name); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not appear", name)
}

// A signal ends a transfer with a summary, on both sides.
func TestTransferInterrupted(t *testing.T) {
	p := startRecv(t, "--out", filepath.Join(t.TempDir(), "out"))
	send := program(t, "send", "--to", p.where.Local, "--memory", "64K", "--repeat", "100000000", "-o", "json")
	var out, said bytes.Buffer
	send.Stdout, send.Stderr = &out, &said
	if err := send.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // somewhere in the middle, or before it
	if err := send.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(send.Wait()); code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
	hosttest.Validate(t, "error.v1", out.Bytes())
	var e errorJSON
	if err := json.Unmarshal(out.Bytes(), &e); err != nil || e.Kind != kindInterrupted || e.Send == nil || e.Send.SentBytes == 0 || e.Send.Complete {
		t.Errorf("%v: %s", err, out.String())
	}
	if said.String() != "zcprobe: interrupted\n" {
		t.Errorf("stderr %q", said.String())
	}
	var broken errorJSON
	p.read(&broken)
	hosttest.Validate(t, "error.v1", p.lines.Bytes())
	if code := exitCodeOf(p.cmd.Wait()); code != exitError || broken.Kind != kindConnection || broken.Recv.ReceivedBytes == 0 || broken.Recv.Complete {
		t.Errorf("exit %d: %s", code, p.lines.Bytes())
	}
	mustBeEmpty(t, filepath.Dir(p.where.Out.Name))

	p = startRecv(t)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCodeOf(p.cmd.Wait()); code != exitInterrupted {
		t.Errorf("recv: exit %d", code)
	}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

// A reset in the middle is an error object that says how far it got.
func TestSendReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.CopyN(io.Discard, c, 1<<20)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}()
	cmd := program(t, "send", "--to", l.Addr().String(), "--memory", "1M", "--repeat", "100000", "-o", "json")
	var said bytes.Buffer
	cmd.Stderr = &said
	b, err := cmd.Output()
	hosttest.Validate(t, "error.v1", b)
	var e errorJSON
	if code := exitCodeOf(err); code != exitError || json.Unmarshal(b, &e) != nil || e.Kind != kindConnection || e.Send == nil || e.Send.SentBytes < 1<<20 {
		t.Fatalf("exit %d: %s", code, b)
	}
	if want := fmt.Sprintf("after %d bytes: ", e.Send.SentBytes); !strings.Contains(said.String(), want) {
		t.Errorf("stderr %q, want %q", said.String(), want)
	}
}

// Progress is for a terminal, and is gone when the answer comes.
func TestTransferProgress(t *testing.T) {
	b := newBench(t)
	shown := b.transferProgress("sent")
	if shown.step != 0 {
		t.Error("transfers are cut up though nobody looks")
	}
	shown.report(transfer.Progress{Bytes: 1})
	shown.done()
	if b.err.Len() != 0 {
		t.Errorf("%q", b.err.String())
	}
	b.terminal = func(io.Writer) (int, bool) { return 80, true }
	shown = b.transferProgress("sent")
	shown.report(transfer.Progress{Total: 100})
	shown.begun, shown.shown = shown.begun.Add(-time.Second), time.Time{}
	shown.report(transfer.Progress{Bytes: 50, Total: 100, Way: "splice"})
	if !strings.HasPrefix(b.err.String(), "\r\x1b[Kzcprobe: sent 50 B of 100 B (50%), ") || !strings.HasSuffix(b.err.String(), ", splice") {
		t.Errorf("%q", b.err.String())
	}
	shown.done()
	if !strings.HasSuffix(b.err.String(), "\r\x1b[K") {
		t.Errorf("%q", b.err.String())
	}
	b.quiet = true
	if b.transferProgress("sent").step != 0 {
		t.Error("-q shows progress")
	}
}

// What a stranger sends does not reach a terminal.
func TestRecvSparesTheTerminal(t *testing.T) {
	b := newBench(t)
	b.terminal = func(io.Writer) (int, bool) { return 80, true }
	if code := b.run(t.Context(), "recv", "--out", "-"); code != exitError || !strings.Contains(b.err.String(), "standard output is a terminal") {
		t.Errorf("exit %d: %s", code, b.err.String())
	}
}
