package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A world is a network namespace in which this program can be run.
type world struct {
	*testing.T
	ns  *testenv.NetNS
	bin string // a directory with zcprobe
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ns: testenv.NewNetNS(t), bin: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main goes by the name.
	if err := os.Symlink(self, filepath.Join(w.bin, "zcprobe")); err != nil {
		t.Fatal(err)
	}
	return w
}

// A process is a program that was started.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
	said     chan string // lines of stderr
	all      chan struct{}
}

// start starts zcprobe in the namespace.
func (w *world) start(stdin io.Reader, args ...string) *process {
	w.Helper()
	return w.launch(stdin, nil, args...)
}

// startTo starts it with its output to out.
func (w *world) startTo(out io.Writer, args ...string) *process {
	w.Helper()
	return w.launch(nil, out, args...)
}

func (w *world) launch(stdin io.Reader, out io.Writer, args ...string) *process {
	w.Helper()
	r := &process{Cmd: exec.Command(filepath.Join(w.bin, "zcprobe"), args...), said: make(chan string, 1000), all: make(chan struct{})}
	r.Env = append(os.Environ(), "PATH="+w.bin+":"+os.Getenv("PATH"), "LANG=C.UTF-8")
	r.Stdin, r.Stdout = stdin, &r.out
	if out != nil {
		r.Stdout = out
	}
	pipe, err := r.StderrPipe()
	if err != nil {
		w.Fatal(err)
	}
	w.ns.Do(func() { err = r.Start() })
	if err != nil {
		w.Fatal(err)
	}
	go func() {
		defer close(r.all)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			r.err.WriteString(lines.Text() + "\n")
			r.said <- lines.Text()
		}
	}()
	w.Cleanup(func() { r.Process.Kill() })
	return r
}

// says waits for a line on stderr.
func (w *world) says(r *process, what string) string {
	w.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case line := <-r.said:
			if strings.Contains(line, what) {
				return line
			}
		case <-r.all:
			w.Fatalf("it ended without saying %q: %s", what, r.err.String())
		case <-late:
			w.Fatalf("it does not say %q", what)
		}
	}
}

func (w *world) finish(r *process, want int) {
	w.Helper()
	<-r.all
	err := r.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		w.Fatal(err)
	}
	if got := r.ProcessState.ExitCode(); got != want {
		w.Fatalf("exit code %d, want %d\n%s%s", got, want, r.out.String(), r.err.String())
	}
}

// summary returns the last line of what a trace printed as JSON.
func (w *world) summary(r *process) *render.Traced {
	w.Helper()
	var last string
	for line := range strings.Lines(r.out.String()) {
		hosttest.Validate(w, "trace.v1", []byte(line))
		last = line
	}
	t := &render.Traced{Summary: &ebpf.Summary{}}
	if err := json.Unmarshal([]byte(last), t); err != nil {
		w.Fatalf("%v: %q %s", err, last, r.err.String())
	}
	if t.Type != "summary" {
		w.Errorf("the last line is of type %s", t.Type)
	}
	return t
}

func (w *world) trace(args ...string) *render.Traced {
	w.Helper()
	r := w.start(nil, append([]string{"trace", "-o", "json"}, args...)...)
	w.finish(r, 0)
	return w.summary(r)
}

// receive takes connections until the test ends, and returns its address.
func (w *world) receive() string {
	w.Helper()
	var l net.Listener
	var err error
	w.ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

// What a trace of a command counts is what was sent, and what became of it what
// must become of it over loopback.
func TestTraceCommandCounts(t *testing.T) {
	w := newWorld(t)
	to := w.receive()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 3_000_001), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		api   string
		bytes uint64
		args  []string
		cause string // of all bytes; "" for none
	}{
		{"write", 100 << 17, []string{"--backend", "write", "--memory", "128K", "--repeat", "100"}, "api-copy"},
		{"msg_zerocopy", 50 << 18, []string{"--backend", "msg_zerocopy", "--memory", "256K", "--repeat", "50"}, "loopback-delivery"},
		{"sendfile", 3_000_001, []string{"--backend", "sendfile", file}, ""},
	} {
		t.Run(c.api, func(t *testing.T) {
			w := &world{T: t, ns: w.ns, bin: w.bin}
			args := []string{"--exact", "--to", to, "--", "zcprobe", "send", "-q", "--no-checksum", "--to", to}
			s := w.trace(append(args, c.args...)...)
			if s.CommandStatus == nil || *s.CommandStatus != 0 {
				t.Errorf("status %v", s.CommandStatus)
			}
			var sent, copied, caused uint64
			for _, f := range s.Flows {
				if f.Remote != to {
					t.Errorf("a flow to %s", f.Remote)
				}
				if f.API == c.api {
					sent, copied = sent+f.Bytes, copied+f.CopiedBytes
				}
				for _, x := range f.Causes {
					if x.ID == c.cause {
						caused += x.Bytes
					}
				}
			}
			want := c.bytes
			if c.cause == "" {
				want = 0
			}
			if sent != c.bytes || copied != want || caused < want {
				t.Errorf("%d sent, %d copied, %d by %q; want %d, %d\n%+v", sent, copied, caused, c.cause, c.bytes, want, s.Flows)
			}
		})
	}
}

// A running process is watched, beside what ss(8) says about its socket, until
// somebody interrupts.
func TestTraceProcessAndSS(t *testing.T) {
	w := newWorld(t)
	testenv.Tool(t, "ss")
	to := w.receive()
	r := w.start(nil, "trace", "-o", "json", "--exact", "-p", strconv.Itoa(os.Getpid()), "--to", to)
	w.says(r, "tracing")
	var c net.Conn
	var err error
	w.ns.Do(func() { c, err = net.Dial("tcp", to) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const bytes = 7_654_321
	if _, err := c.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(to)
	acked := ""
	for range 500 {
		out := w.ns.Run("ss", "-tinH", "dst", "127.0.0.1:"+port)
		if m := regexp.MustCompile(`bytes_acked:(\d+)`).FindStringSubmatch(out); m != nil {
			acked = m[1]
		}
		if n, _ := strconv.Atoi(acked); n >= bytes {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := r.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	w.finish(r, 0)
	s := w.summary(r)
	if len(s.Flows) != 1 {
		t.Fatalf("%+v", s.Flows)
	}
	f := s.Flows[0]
	// ss counts the byte of the handshake, too.
	ss, _ := strconv.Atoi(acked)
	if f.PID != os.Getpid() || f.Bytes != bytes || f.CopiedBytes != bytes || ss-int(f.Bytes) > 1 || ss < int(f.Bytes) || f.Local != c.LocalAddr().String() {
		t.Errorf("%+v; ss says %s", f, acked)
	}
}

// strace(1) counts the same bytes.
func TestTraceAndStrace(t *testing.T) {
	w := newWorld(t)
	strace := testenv.Tool(t, "strace")
	to := w.receive()
	log := filepath.Join(t.TempDir(), "log")
	s := w.trace("--exact", "--to", to, "--", strace, "-ff", "-yy", "-e", "trace=write,sendto,sendmsg,writev", "-o", log,
		"zcprobe", "send", "-q", "--no-checksum", "--to", to, "--backend", "write", "--memory", "10000", "--repeat", "123")
	logs, err := filepath.Glob(log + ".*") // of each thread its own, so that each line is a whole call
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, name := range logs {
		calls, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, calls...)
	}
	var want uint64
	calls := regexp.MustCompile(`(?:write|sendto|sendmsg|writev)\(\d+<TCP:\[[^]]*->` + regexp.QuoteMeta(to) + `\]>.* = (\d+)`)
	for line := range strings.Lines(string(b)) {
		if m := calls.FindStringSubmatch(line); m != nil {
			n, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			want += n
		}
	}
	var got uint64
	for _, f := range s.Flows {
		got += f.Bytes
	}
	if want != 1_230_000 || got != want {
		t.Errorf("%d bytes, strace says %d, and 1230000 were sent", got, want)
	}
}

// A command keeps its input, and its end is told.
func TestTraceCommandRuns(t *testing.T) {
	w := newWorld(t)
	sh := testenv.Tool(t, "sh")
	r := w.start(strings.NewReader("from standard input\n"), "trace", "-o", "json", "--", sh, "-c", "cat; exit 7")
	w.finish(r, 0)
	if s := w.summary(r); s.CommandStatus == nil || *s.CommandStatus != 7 || len(s.Flows) != 0 {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(r.err.String(), "from standard input") {
		t.Errorf("stderr %q", r.err.String())
	}
	r = w.start(strings.NewReader("in words\n"), "trace", "--user", "nobody", "--", sh, "-c", "cat; id -u; kill -9 $$")
	w.finish(r, 0)
	if out := r.out.String(); !strings.HasPrefix(out, "in words\n65534\n") || !strings.Contains(out, "The program ended with status 137, that of signal 9.") {
		t.Errorf("stdout %q", out)
	}
}

// Signals are passed on, and the end of the time is one.
func TestTraceCommandIsTold(t *testing.T) {
	w := newWorld(t)
	sh := testenv.Tool(t, "sh")
	script := `trap 'echo told; exit 5' TERM; trap 'echo again' USR1; echo ready; while :; do sleep 0.05; done`
	for _, c := range []struct {
		name string
		args []string
		act  func(*process)
	}{
		{"SIGTERM", nil, func(r *process) {
			r.Process.Signal(syscall.SIGUSR1)
			w.says(r, "again")
			r.Process.Signal(syscall.SIGTERM)
		}},
		{"-d", []string{"-d", "300ms"}, func(*process) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{T: t, ns: w.ns, bin: w.bin}
			r := w.start(nil, append(append([]string{"trace", "-o", "json"}, c.args...), "--", sh, "-c", script)...)
			w.says(r, "ready")
			c.act(r)
			w.finish(r, 0)
			if s := w.summary(r); s.CommandStatus == nil || *s.CommandStatus != 5 || !strings.Contains(r.err.String(), "told") {
				t.Errorf("%v, %q", s.CommandStatus, r.err.String())
			}
		})
	}
}

// It ends when the process does, and says in between what it saw.
func TestTraceEndsWithProcess(t *testing.T) {
	w := newWorld(t)
	child := exec.Command(testenv.Tool(t, "sleep"), "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	r := w.start(nil, "trace", "-o", "json", "--interval", "100ms", "-p", strconv.Itoa(child.Process.Pid))
	w.says(r, "tracing")
	time.Sleep(500 * time.Millisecond)
	child.Process.Kill() // and nobody waits for it before the trace has ended
	w.finish(r, 0)
	child.Wait()
	w.summary(r)
	if !strings.Contains(r.out.String(), `"type":"interval"`) {
		t.Errorf("%s", r.out.String())
	}
}

// In another pid namespace the ids of processes are not those that the kernel's
// side sees. That is said, and nothing is counted for nobody.
func TestTraceForeignPIDs(t *testing.T) {
	w := newWorld(t)
	program := filepath.Join(w.bin, "zcprobe")
	for _, args := range [][]string{{"--", "true"}, {"-p", "1"}} {
		out, err := w.ns.Try("unshare", append([]string{"--pid", "--fork", program, "trace", "-o", "json"}, args...)...)
		if err == nil || !strings.Contains(out, `"kind":"unsupported"`) || !strings.Contains(out, "initial pid namespace") {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
	if out, err := w.ns.Try("unshare", "--pid", "--fork", program, "trace", "-q", "--to", "192.0.2.1", "-d", "100ms"); err != nil || !strings.Contains(out, "Nothing was sent") {
		t.Errorf("%v, %q", err, out)
	}
}

// Names that a terminal acts on come out as words, in every form.
func TestTraceHostileName(t *testing.T) {
	w := newWorld(t)
	bash := testenv.Tool(t, "bash")
	to := w.receive()
	host, port, _ := net.SplitHostPort(to)
	script := `printf '\033]0;x\007\033[2J' >/proc/$$/comm; exec 3<>/dev/tcp/` + host + `/` + port + `; printf hello >&3; exec 3>&-`
	for _, args := range [][]string{{"-o", "json"}, {"-v", "--interval", "100ms"}} {
		r := w.start(nil, append(append([]string{"trace", "--to", to}, args...), "--", bash, "-c", script)...)
		w.finish(r, 0)
		if strings.ContainsAny(r.out.String()+r.err.String(), "\x1b\x07") {
			t.Errorf("%v: %q", args, r.out.String())
		}
		if !strings.Contains(r.out.String(), `]0;x\`) {
			t.Errorf("%v: the name is not there: %q", args, r.out.String())
		}
	}
}

// sender is a program that sends 1000 bytes, cheaply: its name is head.
func (w *world) sender(to string) []string {
	w.Helper()
	host, port, _ := net.SplitHostPort(to)
	return []string{testenv.Tool(w, "bash"), "-c", "exec 3<>/dev/tcp/" + host + "/" + port + "; head -c 1000 /dev/zero >&3"}
}

// Filters leave out what they do not name, and hold together.
func TestTraceFilters(t *testing.T) {
	w := newWorld(t)
	to := w.receive()
	_, port, _ := net.SplitHostPort(to)
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"--to", ":" + port, "--comm", "head", "--dev", "lo"}, true},
		{[]string{"--to", "127.0.0.0/8", "--comm", "other"}, false},
		{[]string{"--to", "127.0.0.1:1"}, false},
	} {
		s := w.trace(append(append([]string{"--exact"}, c.args...), append([]string{"--"}, w.sender(to)...)...)...)
		found := false
		for _, f := range s.Flows {
			found = found || f.Remote == to && f.Bytes == 1000 && f.Comm == "head"
		}
		if found != c.want || !c.want && len(s.Flows) > 0 {
			t.Errorf("%v: %v, %+v", c.args, found, s.Flows)
		}
	}
}

// What a process in a control group sends is found by the group, by one above it
// and by a container's id.
func TestTraceCgroup(t *testing.T) {
	w := newWorld(t)
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
		root += "/unified"
	}
	if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
		t.Skip("needs control groups, version 2")
	}
	const id = "5c0ffee0a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7dabc"
	above := filepath.Join(root, "zcprobe-test-"+strconv.Itoa(os.Getpid()))
	dir := filepath.Join(above, "docker-"+id+".scope")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("needs control groups that can be made: %v", err)
	}
	t.Cleanup(func() {
		for _, d := range []string{dir, above} {
			if err := os.Remove(d); err != nil {
				t.Error(err)
			}
		}
	})
	to := w.receive()
	outside := append([]string{"--"}, w.sender(to)...)
	inside := append([]string{"--", testenv.Tool(t, "sh"), "-c", "echo $$ >" + dir + `/cgroup.procs; exec "$@"`, "sh"}, w.sender(to)...)
	for _, c := range []struct {
		filter, command []string
		want            int
	}{
		{[]string{"--cgroup", above}, inside, 1},
		{[]string{"--container", id[:12]}, inside, 1},
		{[]string{"--container", id}, outside, 0},
	} {
		if s := w.trace(append(append([]string{"--to", to}, c.filter...), c.command...)...); len(s.Flows) != c.want {
			t.Errorf("%v: %+v", c.filter, s.Flows)
		}
	}
}

// Without privileges it says which are missing, and what works without.
func TestTraceUnprivileged(t *testing.T) {
	testenv.Root(t)
	w := newWorld(t)
	if err := os.Chmod(w.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "zcprobe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "zcprobe")
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &out, &errs
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	code, out, errs := run("trace", "-d", "1s", "--tier", "tracepoint", "-o", "json")
	if code != exitError || !strings.Contains(errs, "needs CAP_BPF and CAP_PERFMON, or root") || !strings.Contains(errs, "--tier none needs nothing") ||
		!strings.Contains(out, `"kind":"permission"`) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	code, out, errs = run("trace", "--dry-run", "-o", "json")
	hosttest.Validate(t, "trace-plan.v1", []byte(out))
	if code != 0 || !strings.Contains(out, `"tier":"none"`) || !strings.Contains(out, `{"name":"CAP_BPF","for":"to load programs","held":false}`) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	// Of many processes that it may not look at, it names one.
	code, out, errs = run("trace", "-d", "100ms", "-p", "1", "--tier", "none", "-o", "json")
	if code != 0 || !strings.Contains(out, "sockets of process 1, which take permission to trace it") || strings.Count(out, "permission to trace") != 1 {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	// By default it does what it can, and says that it is not all.
	code, out, errs = run("trace", "-d", "100ms", "-o", "json")
	if code != 0 || !strings.Contains(errs, "is not looked into: tracing needs CAP_BPF and CAP_PERFMON, or root") || !strings.Contains(out, "needs CAP_BPF and CAP_PERFMON") ||
		!strings.Contains(out, `"tier":"none"`) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs = run("trace", "-q", "--tier", "none", "-d", "100ms"); code != 0 {
		t.Errorf("tier none: exit %d, %q", code, errs)
	}
}

// Nothing is left in the kernel, by whichever end.
func TestTraceLeavesNothing(t *testing.T) {
	w := newWorld(t)
	bpftool := testenv.Tool(t, "bpftool")
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGKILL} {
		r := w.start(nil, "trace")
		w.says(r, "tracing")
		held := objectsOf(t, r.Process.Pid)
		if len(held) < 10 {
			t.Errorf("it holds %v", held)
		}
		r.Process.Signal(sig)
		<-r.all
		_ = r.Wait()
		if code := r.ProcessState.ExitCode(); sig != syscall.SIGKILL && code != 0 {
			t.Errorf("%v: exit %d: %s", sig, code, r.err.String())
		}
		for _, o := range held {
			var err error
			for range 100 { // the kernel frees them a little later
				if err = exec.Command(bpftool, o[0], "show", "id", o[1]).Run(); err != nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if err == nil {
				t.Errorf("%v: %v is left", sig, o)
			}
		}
	}
}

// objectsOf returns what a process holds of BPF, by kind and id, as bpftool names
// them.
func objectsOf(t *testing.T, pid int) [][2]string {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fdinfo"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found [][2]string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(b)) {
			name, id, _ := strings.Cut(strings.TrimSpace(line), ":")
			if kind, ok := map[string]string{"prog_id": "prog", "map_id": "map", "link_id": "link"}[name]; ok {
				found = append(found, [2]string{kind, strings.TrimSpace(id)})
			}
		}
	}
	return found
}
