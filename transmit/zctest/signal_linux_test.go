package zctest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// TestSignals has signals arrive while the process is traced, and none twice.
func TestSignals(t *testing.T) {
	got := make(chan os.Signal, 100)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	const sent = 20
	Record(t, func() {
		for i := range sent {
			if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
				t.Error(err)
			}
			select {
			case <-got:
			case <-time.After(patience):
				t.Errorf("signal %d did not arrive", i)
				return
			}
		}
	})
	checkFree(t)
	if len(got) > 0 {
		t.Errorf("%d signals more than were sent", len(got))
	}
}

// TestStopped has the process stopped and continued while it is traced, as by a shell's
// job control.
func TestStopped(t *testing.T) {
	f := file(t, 10)
	calls := Record(t, func() {
		script := fmt.Sprintf("kill -STOP %d; sleep 0.1; kill -CONT %[1]d", os.Getpid())
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		_, _ = f.ReadAt(make([]byte, 10), 0)
	})
	checkFree(t)
	on, err := calls.On(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(on.List) != 1 || on.List[0].Bytes != 10 {
		t.Errorf("recorded\n%s", on)
	}
}
