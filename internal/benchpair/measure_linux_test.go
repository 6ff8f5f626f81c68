package benchpair

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spin uses so much CPU time on the calling thread. It reads another clock than
// the one that is tested.
func spin(t *testing.T, d time.Duration) {
	t.Helper()
	read := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}
	for end := read() + d; read() < end; {
	}
}

func TestMeasure(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const used = 50 * time.Millisecond
	for _, c := range []struct {
		name  string
		clock Clock
	}{{"process", Process}, {"thread", Thread}} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			s, err := Measure(c.clock, func() (int64, error) {
				spin(t, used)
				return 7, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			// getrusage tells less than a tick of CPU time late, and the wall
			// clock cannot be behind.
			if s.Bytes != 7 || s.CPU < used-10*time.Millisecond || s.Elapsed < used {
				t.Errorf("%+v, after %v of CPU time", s, used)
			}
		})
	}
	t.Run("thread does not count others", func(t *testing.T) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		s, err := Measure(Thread, func() (int64, error) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread() // and not unlocked: the thread ends
				spin(t, used)
			}()
			<-done
			return 1, nil
		})
		if err != nil || s.CPU > used/2 {
			t.Errorf("%+v, %v, while another thread used %v", s, err, used)
		}
	})
}

func TestMeasureFails(t *testing.T) {
	broken := errors.New("broken")
	if s, err := Measure(Process, func() (int64, error) { return 1, broken }); !errors.Is(err, broken) || s != (Sample{}) {
		t.Errorf("got %+v, %v", s, err)
	}
	clock := func() (time.Duration, error) { return 0, broken }
	if _, err := Measure(clock, func() (int64, error) { return 1, nil }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
