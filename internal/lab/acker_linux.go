package lab

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const (
	// ackerFrame is the length of FRAME in the program: an Ethernet header, one
	// of IPv6, one of TCP and eight bytes of options.
	ackerFrame = 14 + 40 + 20 + 8

	// ackerRuns is how often the program runs in one call. While there is much
	// to do that is some milliseconds, in which the thread needs nothing of the
	// Go runtime; once the program rests, the runs left take 20 microseconds.
	ackerRuns = 1024
)

// An acker is the thread that answers the sender: it runs the program of that
// name on packets of its own, in the far namespace. It sleeps, in epoll_wait,
// when the program says that there is nothing to do.
type acker struct {
	program *ebpf.Program
	wakeups *ringbuf.Reader
	stop    atomic.Bool
	thread  int // the kernel's id of it
	done    chan struct{}
	err     error // why it ended, if not by stop; to be read after done
}

// startAcker starts the thread. With cpus it runs on these alone.
func startAcker(far Namespace, program *ebpf.Program, wakeups *ebpf.Map, cpus []int) (*acker, error) {
	r, err := ringbuf.NewReader(wakeups)
	if err != nil {
		return nil, fmt.Errorf("ring of wakeups: %w", err)
	}
	a := &acker{program: program, wakeups: r, done: make(chan struct{})}
	ready := make(chan error)
	go onOwnThread(func() {
		defer close(a.done)
		a.thread = sys.ThreadID()
		err := sys.SetNetNS(far.file)
		if err == nil && len(cpus) > 0 {
			err = sys.SetThreadCPUs(cpus...)
		}
		ready <- err
		if err == nil {
			a.err = a.run()
		}
	})
	if err := <-ready; err != nil {
		<-a.done
		return nil, errors.Join(fmt.Errorf("thread of the acker: %w", err), r.Close())
	}
	return a, nil
}

func (a *acker) run() error {
	options := ebpf.RunOptions{Data: make([]byte, ackerFrame), Repeat: ackerRuns}
	var record ringbuf.Record
	for !a.stop.Load() {
		rest, err := a.program.Run(&options)
		if err != nil {
			return fmt.Errorf("acker: %w", err)
		}
		if rest == 0 {
			continue
		}
		// Whatever is read here, the program looks again before the next sleep.
		err = a.wakeups.ReadInto(&record)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("acker: %w", err)
		}
	}
	return nil
}

// close ends the thread and returns why it ended earlier, if it did.
func (a *acker) close() error {
	a.stop.Store(true)
	err := a.wakeups.Close()
	<-a.done
	return errors.Join(err, a.err)
}

// failed returns why the thread ended by itself, if it did.
func (a *acker) failed() error {
	select {
	case <-a.done:
		return a.err
	default:
		return nil
	}
}
