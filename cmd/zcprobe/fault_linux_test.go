package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// faultsEnv is how many faults TestFaults injects into each command, chosen anew
// each time.
const faultsEnv = "ZCPROBE_FAULTS"

// faults are of system calls, as strace(1) injects them: one call of a thread, or all
// from one on, does nothing and gives an error.
type faults struct {
	calls  []string
	errnos []string
	most   int // the last call that one begins at
}

var anyErrno = []string{"ENOMEM", "EPERM", "EINTR", "EMFILE", "EINVAL", "ENOSYS", "EIO"}

func (f faults) choose(r *rand.Rand) string {
	when := 1 + r.IntN(f.most)
	if r.IntN(2) == 0 {
		when = 1 + r.IntN(4) // the beginning is where most differs
	}
	call := f.calls[r.IntN(len(f.calls))]
	when += map[string]int{"fcntl": 3, "openat": 16}[call] // before that the program is started
	s := fmt.Sprintf("%s:error=%s:when=%d", call, f.errnos[r.IntN(len(f.errnos))], when)
	if r.IntN(3) == 0 {
		s += "+"
	}
	return s
}

// ended is how a command ended.
type ended struct {
	code     int
	out, err string
}

// under runs a command in the namespace with a fault.
func (w *world) under(fault string, args ...string) *exec.Cmd {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 2*time.Minute)
	w.Cleanup(cancel)
	call, _, _ := strings.Cut(fault, ":")
	cmd := exec.CommandContext(ctx, testenv.Tool(w, "strace"), append([]string{"-f", "-qq", "--seccomp-bpf", "-o", os.DevNull,
		"-e", "trace=" + call, "-e", "inject=" + fault, filepath.Join(w.bin, "zcprobe")}, args...)...)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "PATH="+w.bin+":"+os.Getenv("PATH"))
	// Both end, should it take too long.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func (w *world) ends(cmd *exec.Cmd) ended {
	w.Helper()
	var out, errs bytes.Buffer
	cmd.Stderr = &errs
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	var err error
	w.ns.Do(func() { err = cmd.Start() })
	if err != nil {
		w.Fatal(err)
	}
	err = cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		w.Fatal(err)
	}
	e := ended{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	if strings.Contains(e.err, "goroutine ") || strings.Contains(e.err, "panic") || e.code < 0 || e.code > 3 {
		w.Errorf("exit %d: %s%s", e.code, e.out, e.err)
	}
	return e
}

// TestFaults lets system calls fail. A command then does what it is to do, or says that
// it could not, and why: it says nothing wrong, and never panics.
func TestFaults(t *testing.T) {
	testenv.Root(t)
	number, r := 4, rand.New(rand.NewPCG(3, 7))
	if s := os.Getenv(faultsEnv); s != "" {
		var err error
		if number, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
		r = rand.New(rand.NewPCG(rand.Uint64(), 0))
	}
	network := []string{"socket", "setsockopt", "getsockopt", "fcntl", "pipe2", "splice", "connect", "getsockname"}
	for _, c := range []struct {
		name string
		f    faults
		run  func(w *world, fault string)
	}{
		{"trace", faults{[]string{"bpf", "bpf", "perf_event_open", "ioctl"}, anyErrno, 160}, faultyTrace},
		{"lab", faults{[]string{"bpf", "unshare", "setns", "socket", "sendto", "recvfrom", "setsockopt", "ioctl", "sendmsg"}, anyErrno, 100}, faultyLab},
		{"send", faults{slices.Concat(network, []string{"sendfile", "sendmsg", "sendto", "recvmsg", "ioctl"}), anyErrno, 20}, faultySend},
		{"recv", faults{slices.Concat(network, []string{"recvfrom", "openat", "linkat", "accept4", "bind", "listen", "fchmod"}), anyErrno, 20}, faultyRecv},
		{"probe", faults{slices.Concat(network, []string{"sendto", "recvfrom", "ioctl", "openat", "bpf", "capset", "io_uring_setup", "unshare"}), anyErrno, 60}, faultyProbe},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range number {
				fault := c.f.choose(r)
				t.Run(fault, func(t *testing.T) { c.run(newWorld(t), fault) })
			}
		})
	}
}

// Of a megabyte that is written over loopback all is copied, whatever can be seen of it.
func faultyTrace(w *world, fault string) {
	const size = 1 << 20
	to := w.receive()
	send := []string{"zcprobe", "send", "-q", "--backend", "write", "--memory", "64K", "--repeat", "16", "--no-checksum", "--to", to}
	e := w.ends(w.under(fault, append([]string{"trace", "-o", "json", "--exact", "--to", to, "--"}, send...)...))
	last := e.out[strings.LastIndexByte(strings.TrimSpace(e.out), '\n')+1:]
	if e.code != 0 {
		hosttest.Validate(w, "error.v1", []byte(last))
		return
	}
	hosttest.Validate(w, "trace.v1", []byte(last))
	s := render.Traced{Summary: &ebpf.Summary{}}
	if err := json.Unmarshal([]byte(last), &s); err != nil {
		w.Fatal(err)
	}
	var all, copied uint64
	for _, f := range s.Flows {
		all, copied = all+f.Bytes, copied+f.CopiedBytes
		if f.ZeroCopiedBytes > 0 || f.CopiedBytes+f.UnknownBytes != f.Bytes {
			w.Errorf("%+v", f)
		}
	}
	failed := s.CommandStatus == nil || *s.CommandStatus != 0 // the fault is also in the command
	if all > size || all < size && !failed && len(s.Incomplete) == 0 && s.LostEvents == 0 {
		w.Errorf("%d bytes of %d, lost %d, %q", all, size, s.LostEvents, s.Incomplete)
	}
	w.Logf("tier %s: %d bytes, %d copied, %q", s.Tier, all, copied, s.Incomplete)
}

// What cannot be done is skipped or an error, and no disagreement.
func faultyLab(w *world, fault string) {
	e := w.ends(w.under(fault, "lab", "run", "-o", "json", "plain/write", "plain/msg_zerocopy"))
	if e.code == 2 {
		hosttest.Validate(w, "error.v1", []byte(e.out))
		return
	}
	hosttest.Validate(w, "lab.v1", []byte(e.out))
	var r scenario.Report
	if err := json.Unmarshal([]byte(e.out), &r); err != nil {
		w.Fatal(err)
	}
	for _, s := range r.Scenarios {
		if s.Status == "fail" {
			w.Errorf("%+v", s)
		}
	}
}

// What arrives is the beginning of what was sent, and all of it if the sender says so.
func faultySend(w *world, fault string) {
	want := random(3_000_001)
	var l net.Listener
	var err error
	w.ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		w.Fatal(err)
	}
	arrived := make(chan []byte, 1)
	go func() {
		defer close(arrived)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got, _ := io.ReadAll(c) // as far as it comes
		arrived <- got
	}()
	cmd := w.under(fault, "send", "-o", "json", "--to", l.Addr().String(), "-")
	in, err := os.Open(writeFile(w.T, want))
	if err != nil {
		w.Fatal(err)
	}
	defer in.Close()
	cmd.Stdin = in
	e := w.ends(cmd)
	l.Close()
	got := <-arrived
	if !bytes.HasPrefix(want, got) {
		w.Errorf("%d bytes arrived that were not sent", len(got))
	}
	if e.code != 0 {
		return
	}
	hosttest.Validate(w, "send.v1", []byte(e.out))
	var sent transfer.Sent
	if err := json.Unmarshal([]byte(e.out), &sent); err != nil {
		w.Fatal(err)
	}
	if sum := sha256.Sum256(want); len(got) != len(want) || !sent.Complete || *sent.SHA256 != fmt.Sprintf("%x", sum) {
		w.Errorf("%d bytes arrived of %d, and it says %+v", len(got), len(want), sent)
	}
}

// The file is there and whole, or not there.
func faultyRecv(w *world, fault string) {
	want := random(3_000_001)
	dir := w.TempDir()
	cmd := w.under(fault, "recv", "-o", "json", "--listen", "127.0.0.1:0", "--out", filepath.Join(dir, "out"))
	r, p, err := os.Pipe()
	if err != nil {
		w.Fatal(err)
	}
	cmd.Stdout = p
	said := make(chan []byte, 1)
	go func() {
		defer close(said)
		defer r.Close()
		var all []byte
		for b := make([]byte, 4096); ; {
			n, err := r.Read(b)
			if err != nil {
				said <- all
				return
			}
			var where transfer.Received
			if first := len(all) == 0; first && json.Unmarshal(b[:n], &where) == nil && where.Local != "" {
				go w.deliver(where.Local, want)
			}
			all = append(all, b[:n]...)
		}
	}()
	e := w.ends(cmd)
	p.Close()
	out := <-said
	got, err := os.ReadFile(filepath.Join(dir, "out"))
	if whole := err == nil && bytes.Equal(got, want); whole != (e.code == 0) {
		w.Errorf("exit %d, and the file has %d bytes of %d, %v: %s%s", e.code, len(got), len(want), err, out, e.err)
	}
	if l, err := os.ReadDir(dir); err != nil || e.code != 0 && len(l) > 0 || len(l) > 1 {
		w.Errorf("left behind: %v, %v", l, err)
	}
}

func (w *world) deliver(to string, data []byte) {
	var c net.Conn
	var err error
	w.ns.Do(func() { c, err = net.Dial("tcp", to) })
	if err == nil {
		_, _ = c.Write(data) // as far as it takes it
		c.Close()
	}
}

// A host that could not be looked at is not called good.
func faultyProbe(w *world, fault string) {
	e := w.ends(w.under(fault, "probe", "-o", "json"))
	if e.code != 0 {
		w.Errorf("exit %d: %s%s", e.code, e.out, e.err)
		return
	}
	hosttest.Validate(w, "probe.v1", []byte(e.out))
	var r struct {
		Verdict struct{ Status, Summary string }
	}
	if err := json.Unmarshal([]byte(e.out), &r); err != nil {
		w.Fatal(err)
	}
	if (strings.HasPrefix(fault, "socket:") || strings.HasPrefix(fault, "sendto:")) && strings.HasSuffix(fault, "=1+") && r.Verdict.Status == "pass" {
		w.Errorf("%+v", r.Verdict)
	}
}
