package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// onProbeThread runs fn on a new thread of its own and waits for it. The
// thread is in the network namespace of the caller's thread, has no effective
// CAP_NET_ADMIN and CAP_SYS_MODULE, and ends with fn: neither the capabilities
// nor a namespace that fn enters leak into the program. Goroutines that fn
// starts run on other threads and have none of this.
//
// fn is bounded by itself: when ctx ends, onProbeThread still waits for it, and
// then returns the context's cause. A panic in fn panics in the caller.
func onProbeThread(ctx context.Context, fn func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	home, err := callersNamespace()
	if err != nil {
		return err
	}
	defer home.close()

	result := make(chan threadResult)
	go runLocked(func() error {
		if err := home.enter(); err != nil {
			return err
		}
		if err := dropCapabilities(); err != nil {
			return err
		}
		return fn()
	}, result)
	r := <-result
	if r.panicked != nil {
		panic(r.panicked)
	}
	if ctx.Err() == nil {
		return r.err
	}
	if r.err == nil || errors.Is(r.err, ctx.Err()) || errors.Is(r.err, context.Cause(ctx)) {
		return context.Cause(ctx)
	}
	return errors.Join(context.Cause(ctx), r.err)
}

type threadResult struct {
	err      error
	panicked *threadPanic
}

// threadPanic carries a panic from the probing thread to the caller, with the
// stack it happened on.
type threadPanic struct {
	value any
	stack []byte
}

func (p *threadPanic) Error() string {
	return fmt.Sprintf("%v\n\nprobing thread:\n%s", p.value, p.stack)
}

func (p *threadPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// threadLost is the panic of code that has left the thread in a state no later
// code may run in. It ends the probing thread and is its error.
type threadLost struct{ err error }

// runLocked runs fn locked to its thread and never unlocks it, so that the
// runtime ends the thread with the goroutine.
func runLocked(fn func() error, result chan<- threadResult) {
	runtime.LockOSThread()
	if sys.ThreadID() == os.Getpid() {
		// The first thread cannot end, and /proc/self shows its capabilities
		// and namespace as the process's. While this goroutine holds it, a
		// second one gets another.
		inner := make(chan threadResult)
		go runLocked(fn, inner)
		r := <-inner
		runtime.UnlockOSThread()
		result <- r
		return
	}
	r := threadResult{err: errors.New("probing thread: fn ended its goroutine")}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case threadLost:
			r.err = v.err
		default:
			r.panicked = &threadPanic{value: v, stack: debug.Stack()}
		}
		result <- r
	}()
	r.err = fn()
}

// dropCapabilities gives up, on this thread, the capabilities with which the
// kernel loads modules for its caller: CAP_NET_ADMIN (TCP_ULP, and SIOCETHTOOL
// on a name that does not exist) and CAP_SYS_MODULE (the latter again).
func dropCapabilities() error {
	c, err := sys.ThreadCaps()
	if err != nil {
		return err
	}
	const drop = 1<<sys.CapNetAdmin | 1<<sys.CapSysModule
	if c.Effective&drop == 0 {
		return nil
	}
	c.Effective &^= drop
	return sys.SetThreadCaps(c)
}

// namespaceHandle identifies the network namespace of one thread to another.
type namespaceHandle struct {
	file   *os.File // nil without /proc
	cookie uint64   // where there is no file; 0 on kernels that have none
}

const threadNamespace = "/proc/thread-self/ns/net"

// callersNamespace returns a handle on the namespace of the calling thread.
func callersNamespace() (*namespaceHandle, error) {
	f, err := os.Open(threadNamespace)
	if err == nil {
		return &namespaceHandle{file: f}, nil
	}
	// No /proc, or none that may be read: then at least notice a difference.
	c, err := sys.NetNSCookie()
	if err != nil && !sys.Unsupported(err) {
		return nil, fmt.Errorf("network namespace of the caller: %w", err)
	}
	return &namespaceHandle{cookie: c}, nil
}

func (h *namespaceHandle) close() {
	if h.file != nil {
		h.file.Close()
	}
}

// enter moves the calling thread there, unless it is there already: moving
// takes CAP_SYS_ADMIN, staying takes nothing.
func (h *namespaceHandle) enter() error {
	if h.file != nil {
		want, err := h.file.Stat()
		if err != nil {
			return fmt.Errorf("network namespace of the caller: %w", err)
		}
		have, err := os.Stat(threadNamespace)
		if err != nil {
			return fmt.Errorf("network namespace of the probing thread: %w", err)
		}
		if os.SameFile(want, have) {
			return nil
		}
		if err := sys.SetNetNS(h.file); err != nil {
			return fmt.Errorf("enter the caller's network namespace: %w", err)
		}
		return nil
	}
	c, err := sys.NetNSCookie()
	if err != nil && !sys.Unsupported(err) {
		return fmt.Errorf("network namespace of the probing thread: %w", err)
	}
	if c != h.cookie {
		return errors.New("the caller's thread is in another network namespace, which cannot be entered without /proc")
	}
	return nil
}
