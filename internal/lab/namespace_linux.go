package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const threadNamespace = "/proc/thread-self/ns/net"

// A Namespace is a network namespace without a name. It exists as long as its
// descriptor, a device or a socket in it, or a thread inside: the kernel removes
// it with the process, however that ends.
type Namespace struct{ file *os.File }

// File stands for the namespace, as /proc/PID/ns/net does. It belongs to the
// namespace.
func (ns Namespace) File() *os.File { return ns.file }

// Close lets go of the namespace. The zero Namespace is closed.
func (ns Namespace) Close() error {
	if ns.file == nil {
		return nil
	}
	return ns.file.Close()
}

// NewNamespace makes a namespace in which nothing is but lo, down. It needs
// CAP_SYS_ADMIN.
func NewNamespace() (Namespace, error) {
	var ns Namespace
	var err error
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		if err = sys.UnshareNetNS(); err == nil {
			ns.file, err = os.Open(threadNamespace)
		}
	})
	<-done
	if err != nil {
		return ns, fmt.Errorf("make a network namespace: %w", err)
	}
	return ns, nil
}

// Inhabit keeps a thread in the namespace, by which others find it in /proc, until
// leave is called, once.
func (ns Namespace) Inhabit() (leave func(), err error) {
	in, out, gone := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		onOwnThread(func() {
			err := sys.SetNetNS(ns.file)
			in <- err
			if err == nil {
				<-out
			}
		})
	}()
	if err := <-in; err != nil {
		return nil, fmt.Errorf("inhabit the network namespace: %w", err)
	}
	return func() { close(out); <-gone }, nil
}

// onOwnThread runs fn on a thread that is not the first of the process, and
// that ends with the goroutine, which is to do nothing else. /proc/self shows
// the state of the first thread as the state of the process, and that thread
// cannot end.
func onOwnThread(fn func()) {
	runtime.LockOSThread()
	if sys.ThreadID() != os.Getpid() {
		fn()
		return // still locked
	}
	// While this goroutine holds the first thread, another gets another.
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

// Do runs fn in the namespace and returns its error. fn runs on the goroutine
// of the caller, unless that is on the first thread of the process, and may end
// it; goroutines that fn starts are not in the namespace.
func (ns Namespace) Do(fn func() error) (err error) {
	runtime.LockOSThread()
	if sys.ThreadID() == os.Getpid() {
		defer runtime.UnlockOSThread()
		return ns.doElsewhere(fn)
	}
	home, err := os.Open(threadNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace of the thread: %w", err)
	}
	defer home.Close()
	if err := sys.SetNetNS(ns.file); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	defer func() {
		if back := sys.SetNetNS(home); back != nil {
			// The thread stays locked, and so ends with its goroutine.
			err = errors.Join(err, fmt.Errorf("leave the network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// doElsewhere is Do while the caller holds the first thread.
func (ns Namespace) doElsewhere(fn func() error) (err error) {
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = ns.Do(fn)
		returned = true
	}()
	<-done
	if !returned {
		runtime.Goexit() // as fn did: a test that failed
	}
	return err
}
