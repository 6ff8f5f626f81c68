package zctest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// threadStates returns the state and the tracer of every thread of this process, as
// /proc/self/task/TID/status says them.
func threadStates(t testing.TB) (stopped, traced []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, name := range tasks {
		status, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		if m := regexp.MustCompile(`(?m)^State:\s+([tT].*)$`).FindSubmatch(status); m != nil {
			stopped = append(stopped, name+": "+string(m[1]))
		}
		if m := regexp.MustCompile(`(?m)^TracerPid:\s+([1-9]\d*)$`).FindSubmatch(status); m != nil {
			traced = append(traced, name+": "+string(m[1]))
		}
	}
	return stopped, traced
}

// checkFree fails the test unless all threads run, untraced.
func checkFree(t testing.TB) {
	t.Helper()
	if stopped, traced := threadStates(t); len(stopped)+len(traced) > 0 {
		t.Errorf("left stopped %v, traced %v", stopped, traced)
	}
}

// busy has goroutines make calls of all kinds, on threads that come and go, and
// checks what they give, until the returned function is called, which returns how
// many rounds there were.
func busy(t testing.TB) func() int64 {
	t.Helper()
	var rounds atomic.Int64
	var all sync.WaitGroup
	quit := make(chan struct{})
	work := func(do func() error) {
		all.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				if err := do(); err != nil {
					t.Errorf("while traced: %v", err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		n := byte(0)
		work(func() error { // bytes in order
			n++
			if _, err := w.Write([]byte{n, n + 1}); err != nil {
				return err
			}
			var got [2]byte
			if _, err := io.ReadFull(r, got[:]); err != nil {
				return err
			}
			if got != [2]byte{n, n + 1} {
				return fmt.Errorf("read %v after %d", got, n)
			}
			return nil
		})
	}
	work(func() error { time.Sleep(50 * time.Microsecond); return nil })
	work(func() error { // blocks a thread, and so makes new ones
		ts := syscall.NsecToTimespec(int64(time.Millisecond))
		if err := syscall.Nanosleep(&ts, nil); err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		return nil
	})
	work(func() error { // a thread that ends with its goroutine
		done := make(chan struct{})
		go func() {
			defer close(done)
			lockForLife()
		}()
		<-done
		return nil
	})
	return func() int64 {
		close(quit)
		all.Wait()
		return rounds.Load()
	}
}

func TestParseStatus(t *testing.T) {
	for status, want := range map[string]struct {
		by    int
		alive bool
	}{
		"Name:\tx\nState:\tR (running)\nTracerPid:\t0\n":       {0, true},
		"Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t77\n": {77, true},
		"Name:\tx\nState:\tZ (zombie)\nTracerPid:\t0\n":        {0, false},
		"Name:\tx\nState:\tX (dead)\nTracerPid:\t0\n":          {0, false},
	} {
		if by, alive := parseStatus(status); by != want.by || alive != want.alive {
			t.Errorf("%q: %d, %t", status, by, alive)
		}
	}
}

// TestBusyProcess records a process of many threads again and again.
func TestBusyProcess(t *testing.T) {
	stop := busy(t)
	for i := range 20 {
		name := file(t, 1)
		buf := make([]byte, 1+i)
		calls := Record(t, func() {
			if _, err := name.ReadAt(buf[:1], 0); err != nil {
				t.Error(err)
			}
			_, _ = name.ReadAt(buf, 1)
		})
		on, err := calls.On(name)
		if err != nil {
			t.Fatal(err)
		}
		want := Call{Name: "pread64", Source: on.List[0].Source, Target: memory, Asked: 1, Bytes: 1, Began: on.List[0].Began}
		if len(on.List) != 2 || on.List[0] != want || on.List[1].Asked != int64(len(buf)) || on.List[1].Bytes != 0 {
			t.Fatalf("recording %d:\n%s", i, on)
		}
		checkFree(t)
	}
	t.Logf("%d rounds", stop())
}

// TestTracerKilled kills the tracer while it traces: the process goes on as if it had
// never been, and the recording says that it is none.
func TestTracerKilled(t *testing.T) {
	stop := busy(t)
	for i := range 20 {
		r, err := startRecording()
		if err != nil {
			skipRefused(t, err)
			t.Fatal(err)
		}
		if err := r.mark(markBegin); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := r.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if calls, err := r.stop(); err == nil || calls != nil {
			t.Fatalf("a recording without a tracer: %v, %v", calls, err)
		}
		checkFree(t)
	}
	t.Logf("%d rounds", stop())
	Record(t, func() {}) // and it can be traced again
}

// skipRefused skips the test where the machine lets nobody trace.
func skipRefused(t testing.TB, err error) {
	t.Helper()
	if refused, ok := errors.AsType[*refusal](err); ok {
		t.Skip(refused.Error())
	}
}

// TestNothingLeft looks at descriptors, threads' states and children after recordings
// that end well, by a failure and by a panic.
func TestNothingLeft(t *testing.T) {
	Record(t, func() {}) // what is opened once
	before := descriptors(t)
	for range 5 {
		Record(t, func() {})
		judged(t, func(t testing.TB) { Record(t, func() { t.Fatal("on purpose") }) })
		func() {
			defer func() {
				if got := recover(); got != "on purpose" {
					t.Errorf("recovered %v", got)
				}
			}()
			Record(t, func() { panic("on purpose") })
		}()
		checkFree(t)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// childEnv names the part that a test binary plays that a test starts.
const childEnv = "ZCPROBE_ZCTEST_CHILD"

// child runs a test of this binary again, perhaps under another program, and returns
// what it printed.
func child(t *testing.T, part string, under ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(under, exe, "-test.v", "-test.count=1", "-test.run=^"+t.Name()+"$")
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+part)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestUnderStrace has another tracer there first.
func TestUnderStrace(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		Record(t, func() { t.Error("the function was run") })
		return
	}
	out := child(t, "record", testenv.Tool(t, "strace"), "-f", "-o", "/dev/null")
	if want := `needs a process without a tracer: "strace", process `; !strings.Contains(out, want) {
		t.Errorf("want %q in\n%s", want, out)
	}
}

// TestNotDumpable has the kernel refuse, as a filter would.
func TestNotDumpable(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); e != 0 {
			t.Fatal(e)
		}
		Record(t, func() { t.Error("the function was run") })
		return
	}
	testenv.NotRoot(t) // who may trace anything
	if out := child(t, "record"); !strings.Contains(out, "needs leave to ") {
		t.Errorf("it said\n%s", out)
	}
}

// TestTracerAlone starts a tracer as nobody does.
func TestTracerAlone(t *testing.T) {
	for _, spec := range []string{"", "1:3", "x:y", strconv.Itoa(os.Getpid()) + ":", ":"} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), tracerEnv+"="+spec, "GORACE=atexit_sleep_ms=0")
		if err := cmd.Run(); err == nil {
			t.Errorf("%q traced", spec)
		}
	}
	checkFree(t)
}

// TestAgreesWithStrace has strace record a process that does the same as this one.
func TestAgreesWithStrace(t *testing.T) {
	const n = 200_000
	do := func(p *Path, f *os.File) {
		_, _ = p.Conn.Write(make([]byte, 1234))
		_, _ = io.Copy(p.Conn, f)
		_, _ = f.Seek(0, io.SeekStart)
		_, _ = io.Copy(p.Conn, onlyReader{f})
		_, _ = io.Copy(p.Conn, io.NewSectionReader(f, 100, 1000))
	}
	if name := os.Getenv(childEnv); name != "" {
		p, f := Copied(t), file(t, n)
		if _, err := os.Readlink("/begin"); err == nil {
			t.Error("there is /begin")
		}
		do(p, f)
		return
	}
	log := filepath.Join(t.TempDir(), "strace")
	child(t, "strace", testenv.Tool(t, "strace"), "-f", "-yy", "-s0", "-o", log, "-e", "trace=readlinkat,read,pread64,write,sendfile")
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(raw), `"/begin"`)
	if !ok {
		t.Fatalf("strace did not see the mark in\n%s", raw)
	}
	want := straced(after)
	p, f := Copied(t), file(t, n)
	calls := Record(t, func() { do(p, f) })
	on, err := calls.On(p.Conn)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range calls.with(on, f.Name()).List {
		got = append(got, fmt.Sprintf("%s %d %d", c.Name, c.Asked, c.Bytes))
	}
	if len(got) < 15 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s\nstrace saw\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var (
	straceBegun   = regexp.MustCompile(`^(\d+) +(.*?) *<unfinished \.\.\.>$`)
	straceResumed = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	straceCall    = regexp.MustCompile(`^\d+ +(\w+)\(\d+<(?:TCP:[^>]*|[^>]*/file)>.*?, (\d+)(?:, \d+)?\) += (\d+)`)
)

// straced are the calls that strace saw on the file, and those that sent on a
// connection, as name, size and result, in the order in which they returned.
func straced(log string) []string {
	var calls []string
	begun := map[string]string{}
	for _, line := range strings.Split(log, "\n") {
		if m := straceBegun.FindStringSubmatch(line); m != nil {
			begun[m[1]] = m[1] + " " + m[2]
			continue
		}
		if m := straceResumed.FindStringSubmatch(line); m != nil {
			line = begun[m[1]] + m[2]
		}
		m := straceCall.FindStringSubmatch(line)
		if m != nil && (m[1] != "read" || strings.Contains(line, "/file>")) {
			calls = append(calls, strings.Join(m[1:4], " "))
		}
	}
	return calls
}

// lockForLife keeps the thread to its goroutine, with which it ends.
func lockForLife() { runtime.LockOSThread() }
