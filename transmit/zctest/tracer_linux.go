package zctest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// tracerEnv makes a process that imports this package a tracer of its parent: PID:FD,
// with FD the descriptor of the parent's marks.
const tracerEnv = "ZCPROBE_ZCTEST_TRACER"

// reportFD is where the tracer writes what it has to say: os/exec gives the first of
// a command's extra files this number.
const reportFD = 3

// tracerLimit is how long a tracer traces at most, so that a test that hangs does not
// leave one. It is above what go test allows a test by default.
const tracerLimit = 11 * time.Minute

// Marks of the traced process are writes of so many bytes to its mark descriptor: by
// that they are in order with all its other calls.
const (
	markBegin = 1
	markEnd   = 2
)

// maxCalls are kept of a recording, about 20 MB of them.
const maxCalls = 1 << 17

// A message is a line that the tracer says: first that it is ready, or why it cannot
// be, then the recording.
type message struct {
	Ready   bool   `json:"ready,omitzero"`
	Refused string `json:"refused,omitzero"` // what is needed: the test is skipped
	Failed  string `json:"failed,omitzero"`
	Calls   *Calls `json:"calls,omitzero"`
}

// A tracer must be another process than the traced one, and the only program that a
// test binary can count on is itself. It has to turn into the tracer before any test,
// TestMain or flag is looked at, which only init can do. Without the variable in the
// environment it does nothing.
func init() {
	spec, ok := os.LookupEnv(tracerEnv)
	if !ok {
		return
	}
	// The kernel lets all tracees go when the tracer ends, wherever they are.
	time.AfterFunc(tracerLimit, func() {
		fmt.Fprintf(os.Stderr, "a recording lasts %v at most\n", tracerLimit)
		os.Exit(3)
	})
	// Package initialisation runs on the first thread and stays there, so that
	// all calls of ptrace come from one thread.
	os.Exit(traceParent(spec, os.NewFile(reportFD, "report")))
}

// traceParent records the parent's calls and returns the exit status.
func traceParent(spec string, report *os.File) int {
	out := json.NewEncoder(report)
	pid, mark, err := parseSpec(spec)
	if err == nil && pid != os.Getppid() {
		err = fmt.Errorf("%d is not the parent", pid)
	}
	if err != nil {
		_ = out.Encode(message{Failed: err.Error()})
		return 2
	}
	// The parent says when it has allowed this process to trace it.
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		_ = out.Encode(message{Failed: "the parent says nothing"})
		return 2
	}
	t := &tracer{pid: pid, mark: mark, threads: map[int]*thread{}, calls: &Calls{}, ready: func() error { return out.Encode(message{Ready: true}) }}
	err = t.seizeAll()
	if err == nil {
		err = t.run()
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		_ = out.Encode(message{Refused: refused.needs})
		return 0
	}
	if err != nil {
		_ = out.Encode(message{Failed: err.Error()})
		return 1
	}
	if out.Encode(message{Calls: t.calls}) != nil {
		return 1
	}
	return 0
}

func parseSpec(spec string) (pid, mark int, err error) {
	a, b, _ := strings.Cut(spec, ":")
	if pid, err = strconv.Atoi(a); err != nil {
		return 0, 0, err
	}
	mark, err = strconv.Atoi(b)
	return pid, mark, err
}

// A refusal says what the machine lacks for tracing.
type refusal struct{ needs string }

func (r *refusal) Error() string { return "needs " + r.needs }

// A thread is a traced thread.
type thread struct {
	stopped bool // it has stopped once since it was seized, so that its calls are seen
	inside  bool // it is in call
	call    Call
	args    [6]uint64
	shape   shape

	requests []Call // of io_uring_enter
}

type tracer struct {
	pid, mark int
	threads   map[int]*thread
	starting  int // threads that have not stopped yet
	ready     func() error
	told      bool // ready was called

	recording bool
	ending    bool // threads are being let go
	calls     *Calls
}

// seizeAll seizes every thread of the process. Those that they start meanwhile are
// traced from the start on, those of threads that are not seized yet are seen when the
// list is read again.
func (t *tracer) seizeAll() error {
	for {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return err
		}
		found := false
		for _, e := range entries {
			tid, err := strconv.Atoi(e.Name())
			if err != nil || t.threads[tid] != nil {
				continue
			}
			switch err := t.seize(tid); {
			case errors.Is(err, syscall.ESRCH): // it ended
			case err != nil:
				return err
			default:
				found = true
			}
		}
		if !found {
			return nil
		}
	}
}

func (t *tracer) seize(tid int) error {
	err := sys.PtraceSeize(tid, sys.PtraceMarkSyscalls|sys.PtraceFollowClone)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		by, alive := t.statusOf(tid)
		switch {
		case !alive: // EPERM is for those that have ended, too
			return syscall.ESRCH
		case by == os.Getpid(): // a thread of one seized before
			t.add(tid)
			return nil
		}
		return refusedBy(by, err)
	}
	if err == nil {
		err = sys.PtraceInterrupt(tid)
	}
	if err == nil {
		t.add(tid)
	}
	return err
}

func (t *tracer) add(tid int) *thread {
	th := &thread{}
	t.threads[tid] = th
	t.starting++
	return th
}

// statusOf returns who traces a thread, 0 for nobody, and whether it has not ended.
func (t *tracer) statusOf(tid int) (by int, alive bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", t.pid, tid))
	if err != nil {
		return 0, false
	}
	return parseStatus(string(status))
}

func parseStatus(status string) (by int, alive bool) {
	field := func(name string) string {
		_, after, _ := strings.Cut(status, "\n"+name+":")
		line, _, _ := strings.Cut(after, "\n")
		return strings.TrimSpace(line)
	}
	by, _ = strconv.Atoi(field("TracerPid"))
	state := field("State")
	return by, !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// refusedBy says what a thread that could not be seized needs for it.
func refusedBy(by int, err error) error {
	if by != 0 {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", by))
		return &refusal{fmt.Sprintf("a process without a tracer: %q, process %d, traces this one", strings.TrimSpace(string(name)), by)}
	}
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EIO) {
		return err
	}
	scope, serr := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if s := strings.TrimSpace(string(scope)); serr == nil && (s == "2" || s == "3") {
		return &refusal{"leave to trace itself: kernel.yama.ptrace_scope is " + s}
	}
	return &refusal{fmt.Sprintf("leave to trace itself, which a seccomp filter or a security module may deny: %v", err)}
}

// run follows the threads until they were let go or have ended.
func (t *tracer) run() error {
	for {
		var status sys.WaitStatus
		tid, err := sys.WaitTracee(&status)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD):
			if !t.ending {
				return errors.New("the test ended before its recording did")
			}
			return nil
		case err != nil:
			return err
		}
		if err := t.changed(tid, status); err != nil {
			return err
		}
		if !t.told && t.starting == 0 {
			t.told = true
			if err := t.ready(); err != nil {
				return err
			}
		}
	}
}

// syscallStop is the signal of stops at calls, with PtraceMarkSyscalls.
const syscallStop = syscall.SIGTRAP | 0x80

// eventStop is PTRACE_EVENT_STOP: a stop by PtraceInterrupt, of a new thread, or of
// the whole process.
const eventStop = 128

// changed handles one change of a thread's state, and lets it go on.
func (t *tracer) changed(tid int, status sys.WaitStatus) error {
	th := t.threads[tid]
	if !status.Stopped() { // it ended
		if th != nil {
			t.seen(th)
			delete(t.threads, tid)
		}
		return nil
	}
	if th == nil { // a new thread, which may be seen before its parent's clone
		th = t.add(tid)
	}
	if !th.stopped {
		var info sys.SyscallInfo
		if err := gone(sys.PtraceSyscallInfo(tid, &info)); err != nil {
			return &refusal{fmt.Sprintf("PTRACE_GET_SYSCALL_INFO, of Linux 5.3: %v", err)}
		}
	}
	t.seen(th)
	signal, event := status.StopSignal(), int(status)>>16
	deliver := 0
	switch {
	case signal == syscallStop:
		if err := t.atCall(tid, th); err != nil {
			return err
		}
	case event == eventStop && signal != syscall.SIGTRAP && !t.ending:
		return gone(sys.PtraceListen(tid)) // SIGSTOP and its like: it stays stopped
	case event == 0:
		deliver = int(signal)
	}
	if t.ending {
		delete(t.threads, tid)
		return gone(sys.PtraceDetach(tid, deliver))
	}
	return gone(sys.PtraceSyscall(tid, deliver))
}

func (t *tracer) seen(th *thread) {
	if !th.stopped {
		th.stopped = true
		t.starting--
	}
}

// gone takes it that a thread may be killed while it is stopped.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// end stops all threads, for them to be let go.
func (t *tracer) end() error {
	t.recording, t.ending = false, true
	for tid := range t.threads {
		if err := gone(sys.PtraceInterrupt(tid)); err != nil {
			return err
		}
	}
	return nil
}
