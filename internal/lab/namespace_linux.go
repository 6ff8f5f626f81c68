package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const threadNamespace = "/proc/thread-self/ns/net"

// A namespace is a network namespace without a name. It exists as long as its
// descriptor, a device or a socket in it, or a thread inside: the kernel removes
// it with the process, however that ends.
type namespace struct{ file *os.File }

func newNamespace() (namespace, error) {
	var ns namespace
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

// do runs fn in the namespace and returns its error. fn runs on the goroutine
// of the caller, unless that is on the first thread of the process, and may end
// it; goroutines that fn starts are not in the namespace.
func (ns namespace) do(fn func() error) (err error) {
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

// doElsewhere is do while the caller holds the first thread.
func (ns namespace) doElsewhere(fn func() error) (err error) {
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = ns.do(fn)
		returned = true
	}()
	<-done
	if !returned {
		runtime.Goexit() // as fn did: a test that failed
	}
	return err
}
