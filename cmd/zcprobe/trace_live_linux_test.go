package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A terminal is a pseudo-terminal, and what was written to it.
type terminal struct {
	t     *testing.T
	ours  *os.File
	other *os.File
	mu    sync.Mutex
	seen  bytes.Buffer
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	p := &terminal{t: t, ours: ours, other: other}
	p.resize(columns, rows)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := ours.Read(b)
			p.mu.Lock()
			p.seen.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { other.Close(); ours.Close() })
	return p
}

func (p *terminal) resize(columns, rows uint16) {
	if err := unix.IoctlSetWinsize(int(p.ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// shows waits until the terminal has been written what.
func (p *terminal) shows(what string) {
	p.t.Helper()
	for range 3000 {
		if strings.Contains(p.text(), what) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	all := p.text()
	p.t.Fatalf("the terminal does not show %q: ... %q", what, all[max(0, len(all)-1000):])
}

// drawn is what draws and clears; SGR sequences are colours.
var drawn = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// The live view is drawn over itself, and taken away at the end.
func TestTraceLive(t *testing.T) {
	w := newWorld(t)
	term := newTerminal(t, 100, 20)
	to := w.receive()
	cmd := exec.Command(filepath.Join(w.bin, "zcprobe"), "trace", "--exact", "--to", to, "--interval", "100ms")
	cmd.Env = append(os.Environ(), "TERM=xterm", "LANG=C.UTF-8", "NO_COLOR=1")
	cmd.Stdout, cmd.Stderr = term.other, term.other
	var err error
	w.ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	term.shows("Nothing was sent yet")
	w.finish(w.start(nil, "send", "-q", "--no-checksum", "--to", to, "--backend", "write", "--memory", "64K", "--repeat", "16"), 0)
	term.shows("copied 1 MiB (100 %)")
	term.resize(60, 10)
	term.shows("\x1b[2J\x1b[H") // the size changed
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	term.shows("All of 1 MiB sent was copied")
	all := term.text()
	for _, seq := range drawn.FindAllString(all, -1) {
		switch seq[len(seq)-1] {
		case 'A', 'K', 'J', 'H': // moves up, clears the line, the rest, goes home
		default:
			t.Errorf("%q changes more than what is shown", seq)
		}
	}
	_, last, _ := strings.Cut(all, "All of 1 MiB")
	if drawn.MatchString(last) {
		t.Errorf("the summary is drawn over: %q", last)
	}
	before, _, _ := strings.Cut(all, "All of 1 MiB")
	// A frame ends in the same way, behind its last line.
	if !strings.HasSuffix(before, "A\x1b[J") && !strings.HasSuffix(before, "H\x1b[J") {
		t.Errorf("the view is still there: %q", before[max(0, len(before)-100):])
	}
}

// Nothing is drawn where it would not be understood, or into what a program
// writes.
func TestTraceNotLive(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct{ env, args []string }{
		"dumb":    {[]string{"TERM=dumb"}, nil},
		"program": {[]string{"TERM=xterm", "NO_COLOR=1"}, []string{"--", testenv.Tool(t, "sleep"), "0.4"}},
		"quiet":   {[]string{"TERM=xterm", "NO_COLOR=1"}, []string{"-q"}},
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, 80, 24)
			cmd := exec.Command(filepath.Join(w.bin, "zcprobe"), append([]string{"trace", "-d", "400ms"}, c.args...)...)
			cmd.Env = append(os.Environ(), c.env...)
			cmd.Stdout, cmd.Stderr = term.other, nil
			var err error
			w.ns.Do(func() { err = cmd.Run() })
			if err != nil {
				t.Error(err)
			}
			term.shows("sent")
			if drawn.MatchString(term.text()) {
				t.Errorf("%q", term.text())
			}
		})
	}
}

// A fake is a tracer that says what a test wants.
type fake struct {
	sums   []*ebpf.Summary
	err    error
	closed int
}

func (f *fake) Tier() ebpf.Tier         { return ebpf.TierTracepoint }
func (f *fake) Hooks() []ebpf.Hook      { return nil }
func (f *fake) Refused() []ebpf.Refusal { return nil }
func (f *fake) Close() error            { f.closed++; return nil }

func (f *fake) Summary() (*ebpf.Summary, error) {
	if f.err != nil {
		return nil, f.err
	}
	s := *f.sums[0]
	return &s, nil
}

func (f *fake) Run(ctx context.Context) (*ebpf.Summary, error) { <-ctx.Done(); return f.Summary() }

// What goes wrong ends the trace, and always releases the tracer.
func TestTraceFails(t *testing.T) {
	empty := &ebpf.Summary{Schema: ebpf.Schema, Type: "summary", Incomplete: []string{}, Flows: []ebpf.Flow{}, Causes: []ebpf.CauseTotal{}, Advice: []ebpf.Advice{}}
	for _, c := range []struct {
		name string
		args []string
		open error
		sum  error
		code int
		want string
	}{
		{"ok", []string{"-d", "1ms"}, nil, nil, exitOK, "Nothing was sent"},
		{"no tracer", []string{"-d", "1ms"}, fmt.Errorf("open tracer: %w", syscall.EPERM), nil, exitError, "operation not permitted; --tier none needs nothing"},
		{"no summary", []string{"-d", "1ms"}, nil, syscall.EBADF, exitError, "bad file descriptor"},
		{"no summary in between", []string{"--interval", "100ms"}, nil, syscall.EBADF, exitError, "bad file descriptor"},
		{"no program", []string{"--", "no-such-program-anywhere"}, nil, nil, exitError, "no-such-program-anywhere: no such program in PATH"},
		{"no user", []string{"--user", "no-such-user", "--", "true"}, nil, nil, exitError, "no-such-user"},
		{"no process", []string{"-p", "2147483647"}, nil, nil, exitError, "no process 2147483647"},
		{"no device", []string{"--dev", "no-such-if"}, nil, nil, exitError, "no network device no-such-if"},
		{"no container", []string{"--container", "00000000000000"}, nil, nil, exitError, "00000000000000"},
		{"no group", []string{"--cgroup", "/no/such/group"}, nil, nil, exitError, "no"},
		{"no --", []string{"true"}, nil, nil, exitError, "behind --"},
		{"user without program", []string{"--user", "nobody"}, nil, nil, exitError, "--user needs -- CMD"},
		{"pid and program", []string{"-p", "1", "--", "true"}, nil, nil, exitError, "exclude each other"},
		{"tier", []string{"--tier", "magic"}, nil, nil, exitError, "--tier is"},
		{"comm", []string{"--comm", "longer-than-the-kernel-keeps"}, nil, nil, exitError, "15 bytes"},
		{"destination", []string{"--to", "a b"}, nil, nil, exitError, "is no destination"},
		{"duration", []string{"-d", "-1s"}, nil, nil, exitError, "-d is a time"},
		{"interval", []string{"--interval", "1ms"}, nil, nil, exitError, "100ms or more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			f := &fake{sums: []*ebpf.Summary{empty}, err: c.sum}
			opened := 0
			b.tracer = func(context.Context, ebpf.Options) (tracer, error) {
				if c.open != nil {
					return nil, c.open
				}
				opened++
				return f, nil
			}
			if code := b.run(t.Context(), append([]string{"trace"}, c.args...)...); code != c.code || !strings.Contains(b.out.String()+b.err.String(), c.want) {
				t.Errorf("exit %d, %q, %q; want %d, %q", code, b.out.String(), b.err.String(), c.code, c.want)
			}
			if f.closed != opened {
				t.Errorf("opened %d times, closed %d", opened, f.closed)
			}
		})
	}
}

// Ctrl-C on a terminal reaches the program once: the terminal sends it to both.
func TestTraceCtrlC(t *testing.T) {
	w := newWorld(t)
	term := newTerminal(t, 80, 24)
	// Traps of a shell would make one of two.
	const script = `
import signal, sys
interrupt = {signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, interrupt)
print("ready", flush=True)
late = 60
while signal.sigtimedwait(interrupt, late):
    print("got-it", flush=True)
    late = 2
sys.exit(3)`
	cmd := exec.Command(filepath.Join(w.bin, "zcprobe"), "trace", "--", testenv.Tool(t, "python3"), "-c", script)
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.other, term.other, term.other
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	var err error
	w.ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	term.shows("ready")
	if _, err := term.ours.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	term.shows("The program ended with status 3.")
	if n := strings.Count(term.text(), "got-it"); n != 1 {
		t.Errorf("it was interrupted %d times: %q", n, term.text())
	}
}
