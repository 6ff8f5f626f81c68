package probe

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// lockedMemory is what the kernel holds against this process's limits.
func lockedMemory(t testing.TB) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmLck:") || strings.HasPrefix(line, "VmPin:") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", ")
}

// TestFunctestsLeakNothing runs the tests again and again: no descriptor,
// goroutine, locked memory or file is left.
func TestFunctestsLeakNothing(t *testing.T) {
	h := readProcess(liveSources())
	runTests(t.Context(), &h) // what the runtime opens once
	fds, routines, locked := openDescriptors(t), runtime.NumGoroutine(), lockedMemory(t)
	for range 5 {
		runTests(t.Context(), &h)
	}
	if n := openDescriptors(t); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	if n := runtime.NumGoroutine(); n > routines {
		t.Errorf("%d goroutines before, %d after", routines, n)
	}
	// A ring gives its memory back a moment after it is closed.
	for range 100 {
		if lockedMemory(t) == locked {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if now := lockedMemory(t); now != locked {
		t.Errorf("%s before, %s after", locked, now)
	}
}
