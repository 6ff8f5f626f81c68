package probe

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// lockedMemory is what the kernel holds against this process's limits, in bytes.
func lockedMemory(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseStatus(b)
	if err != nil || s.vmLck == nil || s.vmPin == nil {
		t.Fatalf("no VmLck or VmPin: %v", err)
	}
	return *s.vmLck + *s.vmPin
}

// TestFunctestsLeakNothing runs the tests again and again: no descriptor,
// goroutine or locked memory is left.
func TestFunctestsLeakNothing(t *testing.T) {
	h := readProcess(liveSources())
	locked := lockedMemory(t)
	runTests(t.Context(), &h) // what the runtime opens once
	fds, routines := openDescriptors(t), runtime.NumGoroutine()
	for range 5 {
		runTests(t.Context(), &h)
	}
	if n := openDescriptors(t); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	// A ring gives its memory back a moment after it is closed, and a goroutine that
	// has said its last word ends a moment later.
	for range 100 {
		if lockedMemory(t) <= locked && runtime.NumGoroutine() <= routines {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d bytes of locked memory before, %d after", locked, lockedMemory(t))
	t.Errorf("%d goroutines before, %d after", routines, runtime.NumGoroutine())
}
