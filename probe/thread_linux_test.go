package probe

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

func TestProbeThreadDropsCapabilities(t *testing.T) {
	testenv.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := sys.ThreadCaps()
	if err != nil {
		t.Fatal(err)
	}
	caller := sys.ThreadID()
	var inside sys.Caps
	err = onProbeThread(t.Context(), func() error {
		if id := sys.ThreadID(); id == caller || id == os.Getpid() {
			t.Errorf("fn runs on thread %d, the caller is %d, the process %d", id, caller, os.Getpid())
		}
		var err error
		inside, err = sys.ThreadCaps()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Effective &^= 1<<sys.CapNetAdmin | 1<<sys.CapSysModule
	if inside != want {
		t.Errorf("capabilities on the probing thread %+v, want %+v", inside, want)
	}
	after, err := sys.ThreadCaps()
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("capabilities of the caller %+v, before %+v", after, before)
	}
}

func TestProbeThreadIsInCallersNamespace(t *testing.T) {
	ns := testenv.NewNetNS(t)
	want := namespaceOf(t, ns.Path())
	ns.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			if got := namespaceOf(t, threadNamespace); got != want {
				t.Errorf("probing thread in namespace %d, want %d", got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if got := namespaceOf(t, threadNamespace); got != want {
			t.Errorf("caller in namespace %d afterwards, want %d", got, want)
		}
	})
	// Of all threads only the namespace's own is left in it.
	if n := settledThreadsIn(t, want); n != 1 {
		t.Errorf("%d threads of the process in the namespace, want 1", n)
	}
}

func TestProbeThreadErrors(t *testing.T) {
	boom := errors.New("boom")
	t.Run("error", func(t *testing.T) {
		if err := onProbeThread(t.Context(), func() error { return boom }); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("context over before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(boom)
		err := onProbeThread(ctx, func() error { t.Error("fn ran"); return nil })
		if err != boom { //nolint:errorlint // the very cause
			t.Errorf("got %v", err)
		}
	})
	t.Run("context over meanwhile", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		finished := false
		err := onProbeThread(ctx, func() error { cancel(boom); finished = true; return ctx.Err() })
		if err != boom || !finished { //nolint:errorlint // the very cause
			t.Errorf("got %v, fn finished: %t", err, finished)
		}
	})
	t.Run("context over and another error", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := onProbeThread(ctx, func() error { cancel(boom); return os.ErrClosed })
		if !errors.Is(err, boom) || !errors.Is(err, os.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("panic", func(t *testing.T) {
		defer func() {
			p, ok := recover().(*threadPanic)
			if !ok || !errors.Is(p, boom) || !strings.Contains(p.Error(), "TestProbeThreadErrors") {
				t.Errorf("recovered %v, want boom with its stack", p)
			}
		}()
		err := onProbeThread(t.Context(), func() error { panic(boom) })
		t.Errorf("came back with %v", err)
	})
	t.Run("goroutine ended", func(t *testing.T) {
		if err := onProbeThread(t.Context(), func() error { runtime.Goexit(); return nil }); err == nil {
			t.Error("no error")
		}
	})
	t.Run("thread lost", func(t *testing.T) {
		if err := onProbeThread(t.Context(), func() error { panic(threadLost{boom}) }); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
	})
}

func TestProbeThreadNeverFirstThread(t *testing.T) {
	// From many goroutines at once, with the other threads busy, one is
	// likely to land on the first thread; it must hand over.
	const n = 64
	ids := make(chan int, n)
	for range n {
		go func() {
			id := -1
			_ = onProbeThread(context.Background(), func() error { id = sys.ThreadID(); return nil })
			ids <- id
		}()
	}
	for range n {
		if id := <-ids; id == os.Getpid() || id <= 0 {
			t.Errorf("fn ran on thread %d, process %d", id, os.Getpid())
		}
	}
}

// namespaceOf returns the inode of a namespace file, 0 if the thread it
// belongs to has ended.
func namespaceOf(t *testing.T, file string) uint64 {
	t.Helper()
	fi, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	return inode(fi)
}

// tasks returns the directories of the process's threads.
func tasks(t *testing.T) []string {
	t.Helper()
	dirs, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range dirs {
		out = append(out, "/proc/self/task/"+d.Name())
	}
	return out
}

// settledThreadsIn returns how many threads of the process are in a namespace,
// once those have ended whose goroutine has.
func settledThreadsIn(t *testing.T, ns uint64) int {
	t.Helper()
	n := threadsIn(t, ns)
	for i := 0; i < 100 && n > 1; i++ {
		time.Sleep(10 * time.Millisecond)
		n = threadsIn(t, ns)
	}
	return n
}

func threadsIn(t *testing.T, ns uint64) int {
	t.Helper()
	n := 0
	for _, dir := range tasks(t) {
		if namespaceOf(t, dir+"/ns/net") == ns {
			n++
		}
	}
	return n
}

// TestNamespaceHandleWithoutProc is the way a difference is noticed where
// there are no files to enter a namespace by.
func TestNamespaceHandleWithoutProc(t *testing.T) {
	ns := testenv.NewNetNS(t)
	cookie := func() uint64 {
		c, err := sys.NetNSCookie()
		if err != nil && !sys.Unsupported(err) {
			t.Error(err)
		}
		return c
	}
	here := cookie()
	if err := (&namespaceHandle{cookie: here}).enter(); err != nil {
		t.Errorf("the same namespace: %v", err)
	}
	ns.Do(func() {
		if there := cookie(); there == here {
			t.Errorf("both namespaces have cookie %d", here)
		}
		if err := (&namespaceHandle{cookie: here}).enter(); err == nil {
			t.Error("another namespace: no error")
		}
	})
}
