package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NetNS is a network namespace that exists for one test. It has no name and is
// held by its thread and a descriptor only, so the kernel removes it with the
// process, however that ends.
type NetNS struct {
	t    testing.TB
	fd   int
	work chan func()
	done chan struct{}
}

// NewNetNS makes a network namespace with lo up. It needs root, and is removed
// when the test ends.
func NewNetNS(t testing.TB) *NetNS {
	t.Helper()
	Root(t)
	ns := &NetNS{t: t, fd: -1, work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(ns.done)
		// The thread stays in the namespace and ends with the goroutine:
		// it is never unlocked.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("unshare: %w", err)
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			ready <- fmt.Errorf("open namespace: %w", err)
			return
		}
		ns.fd = fd
		ready <- nil
		for fn := range ns.work {
			fn()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(ns.work)
		<-ns.done
		if err := unix.Close(ns.fd); err != nil {
			t.Errorf("close namespace: %v", err)
		}
	})
	ns.Run("ip", "link", "set", "lo", "up")
	return ns
}

// Do runs fn on the namespace's thread and waits for it. fn must not call
// t.FailNow or anything that does; report with t.Error.
func (ns *NetNS) Do(fn func()) {
	ns.t.Helper()
	fin := make(chan struct{})
	ns.work <- func() { defer close(fin); fn() }
	<-fin
}

// Path is a file that setns(2) and `ip link set netns` accept for as long as the test runs.
func (ns *NetNS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.fd) }

// SetSysctl sets a sysctl of the namespace, "net.core.optmem_max", and skips the
// test on kernels where it is the host's.
func (ns *NetNS) SetSysctl(name, value string) {
	ns.t.Helper()
	var err error
	ns.Do(func() {
		err = os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	})
	if errors.Is(err, fs.ErrNotExist) {
		ns.t.Skipf("needs %s per network namespace", name)
	}
	if err != nil {
		ns.t.Fatal(err)
	}
}

// Run runs a command in the namespace, fails the test if the command fails,
// and returns its standard output.
func (ns *NetNS) Run(name string, args ...string) string {
	ns.t.Helper()
	out, err := ns.Try(name, args...)
	if err != nil {
		ns.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

// Try runs a command in the namespace and returns its standard output.
func (ns *NetNS) Try(name string, args ...string) (string, error) {
	ns.t.Helper()
	path := Tool(ns.t, name)
	var stdout, stderr bytes.Buffer
	var err error
	ns.Do(func() {
		cmd := exec.Command(path, args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err = cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}
