package ebpf_test

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestReleased leaves no descriptor and no goroutine, whether it was looked at
// everything or in windows.
func TestReleased(t *testing.T) {
	testenv.Root(t)
	once := func(sample bool) {
		tracer, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
		if err != nil {
			t.Fatal(err)
		}
		if sample {
			tracer.Allow(0)
			time.Sleep(300 * time.Millisecond)
		}
		if _, err := tracer.Summary(); err != nil {
			t.Error(err)
		}
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	}
	once(false) // what the runtime opens for itself, it opens once
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	for i := range 4 {
		once(i%2 == 1)
	}
	var left []string
	for range 50 {
		left = openFiles(t)
		if len(left) <= len(fds) && runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before; descriptors %q, before %q", runtime.NumGoroutine(), goroutines, left, fds)
}

func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out = append(out, to)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return out
}

// TestManySockets stays small with many.
func TestManySockets(t *testing.T) {
	sink := newSink(t)
	const many = 3000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < many+200 {
		t.Skipf("needs %d descriptors, may have %d: %v", many+200, limit.Cur, err)
	}
	tracer := open(t, ebpf.Options{})
	for range many {
		c, err := sink.Dial(t.Context(), "tcp4")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(payload(100)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d flows, %d MiB of heap and %d MiB from the system", len(s.Flows), memory.HeapInuse>>20, memory.Sys>>20)
	if len(s.Flows) != many || s.LostEvents != 0 || memory.HeapInuse > 32<<20 {
		t.Errorf("%d flows, lost %d, %d bytes of heap", len(s.Flows), s.LostEvents, memory.HeapInuse)
	}
	runtime.KeepAlive(s)
}
