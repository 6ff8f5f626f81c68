package zctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// oneTracer: a thread has one tracer at most, so recordings of tests that run in
// parallel wait for each other.
var oneTracer sync.Mutex

// Record runs fn and returns the calls that this process made meanwhile, by all its
// goroutines. It needs no privilege, and skips the test where tracing is not possible,
// before fn is run. If fn ends the test or panics, that goes on when the process is
// no longer traced.
//
// While fn runs every system call of the process waits for the tracer, twice: some 0.1 ms
// each, so fn is no place to measure time, and a few hundred calls are plenty. Calls
// in which a thread sleeps are interrupted and made again at the start and at
// the end. Blocking calls without a restart (epoll_wait and others of signal(7)) fail
// with EINTR then, as they do after SIGSTOP; Go's runtime and packages take that.
//
// A recording lasts eleven minutes at most. Recordings wait for each other; one
// inside another waits for ever.
func Record(t testing.TB, fn func()) *Calls {
	t.Helper()
	oneTracer.Lock()
	defer oneTracer.Unlock()
	r, err := startRecording()
	if err == nil {
		var calls *Calls
		if calls, err = r.during(fn); err == nil {
			return calls
		}
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		t.Skip(refused.Error())
	}
	t.Fatalf("record calls: %v", err)
	return nil
}

// A recording is a tracer at work.
type recording struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	marks  *os.File // where marks are written
	unread *os.File // the other end of the same pipe, which nobody reads
	report *os.File
	said   *json.Decoder
}

// startRecording starts the tracer and waits until it has all threads.
func startRecording() (*recording, error) {
	r := &recording{}
	if err := r.start(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	m, err := r.next()
	if err == nil && !m.Ready {
		err = errors.New("the tracer is not ready")
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *recording) start() error {
	var err error
	if r.unread, r.marks, err = os.Pipe(); err != nil {
		return err
	}
	report, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	r.report, r.said = report, json.NewDecoder(report)
	mark, err := number(r.marks)
	if err != nil {
		return err
	}
	r.cmd = exec.Command("/proc/self/exe")
	r.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d", tracerEnv, os.Getpid(), mark),
		"GORACE=atexit_sleep_ms=0") // a second, of a test binary made with -race
	r.cmd.ExtraFiles = []*os.File{w}
	r.cmd.Stderr = &r.stderr
	r.cmd.WaitDelay = 10 * time.Second // for others that hold its stderr
	leave, given, err := os.Pipe()
	if err != nil {
		r.cmd = nil
		return err
	}
	defer leave.Close()
	defer given.Close()
	r.cmd.Stdin = leave
	if err := r.cmd.Start(); err != nil {
		r.cmd = nil
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOENT) {
			return &refusal{"leave to run the test binary again: " + err.Error()}
		}
		return err
	}
	// Without Yama this is EINVAL, and not needed. The tracer waits for it.
	_ = sys.AllowTracer(r.cmd.Process.Pid)
	_, err = given.Write([]byte{'\n'})
	return err
}

// next is what the tracer says next.
func (r *recording) next() (message, error) {
	var m message
	err := r.said.Decode(&m)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return m, errors.New("the tracer ended before its time")
	case err != nil:
		return m, fmt.Errorf("what the tracer says: %w", err)
	case m.Refused != "":
		return m, &refusal{m.Refused}
	case m.Failed != "":
		return m, errors.New(m.Failed)
	}
	return m, nil
}

// during runs fn and returns the calls made, also when fn does not return.
func (r *recording) during(fn func()) (calls *Calls, err error) {
	if err := r.mark(markBegin); err != nil {
		return nil, errors.Join(err, r.close())
	}
	defer func() { calls, err = r.stop() }()
	fn()
	return nil, nil
}

func (r *recording) mark(n int) error {
	_, err := r.marks.Write(make([]byte, n))
	return err
}

// stop ends the recording and returns it.
func (r *recording) stop() (*Calls, error) {
	err := r.mark(markEnd)
	var m message
	if err == nil {
		m, err = r.next()
	}
	if err == nil && m.Calls == nil {
		err = errors.New("the tracer says nothing of calls")
	}
	return m.Calls, errors.Join(err, r.close())
}

// close waits for the tracer, which ends by itself once it has said all, or when it
// cannot say it.
func (r *recording) close() error {
	var errs []error
	for _, f := range []*os.File{r.report, r.marks, r.unread} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if r.cmd != nil {
		errs = append(errs, r.ended(r.cmd.Wait()))
		_ = sys.AllowTracer(0)
	}
	return errors.Join(errs...)
}

// ended is how the tracer ended, with what it said when it was badly.
func (r *recording) ended(err error) error {
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(r.stderr.String()); text != "" {
		return fmt.Errorf("tracer: %w: %s", err, text)
	}
	return fmt.Errorf("tracer: %w", err)
}

// number is the descriptor of a file, which stays as it is, non-blocking.
func number(f syscall.Conn) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// identify is the name that /proc/PID/fd has for what f refers to.
func identify(f syscall.Conn) (string, error) {
	fd, err := number(f)
	if err != nil {
		return "", err
	}
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}
