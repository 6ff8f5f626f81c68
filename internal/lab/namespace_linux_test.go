package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// command makes a command that ends with the test binary's patience.
func command(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), name, args...)
}

func threadNS(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink(threadNamespace)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestDo(t *testing.T) {
	testenv.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.file.Close()
	home := threadNS(t)

	failure := errors.New("a failure")
	var inside, nested, again string
	err = ns.Do(func() error {
		inside = threadNS(t)
		if err := ns.Do(func() error { nested = threadNS(t); return nil }); err != nil {
			return err
		}
		again = threadNS(t)
		return failure
	})
	if err != failure { //nolint:errorlint // as it is
		t.Errorf("got %v, want the error of the function", err)
	}
	if inside == home || nested != inside || again != inside || threadNS(t) != home {
		t.Errorf("home %s, inside %s, nested %s, after that %s, back at %s", home, inside, nested, again, threadNS(t))
	}

	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := ns.Do(func() error {
				if got := threadNS(t); got != inside {
					t.Errorf("beside others: %s", got)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	// A function that ends its goroutine, as FailNow does, leaves the thread
	// as it was: no other goroutine may run in the namespace.
	all.Go(func() {
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		t.Error("Goexit returned")
	})
	all.Wait()
	for range 50 {
		all.Go(func() {
			if got := threadNS(t); got != home {
				t.Errorf("a thread is still in %s", got)
			}
		})
	}
	all.Wait()
}
