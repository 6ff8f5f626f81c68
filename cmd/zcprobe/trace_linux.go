package main

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// keepLimits returns what puts the limit of locked memory back: tracers lift it
// on kernels before 5.11, and a program that is started after must not have more
// of it than it would have had.
func keepLimits() (restore func()) {
	soft, hard, err := sys.Prlimit(0, sys.LimitMemlock)
	if err != nil {
		return func() {}
	}
	return func() {
		if s, h, err := sys.Prlimit(0, sys.LimitMemlock); err == nil && (s != soft || h != hard) {
			_ = sys.SetLimit(sys.LimitMemlock, soft, hard) // lowering is always allowed
		}
	}
}

// initialPIDs is what /proc/self/ns/pid is in the initial pid namespace
// (PROC_PID_INIT_INO).
const initialPIDs = "pid:[4026531836]"

// foreignPIDs reports whether process ids are others here than in the kernel's
// own view, which is the tracer's.
func foreignPIDs() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && ns != initialPIDs
}

// lookEvery is how often is looked whether the trace is still wanted, in
// milliseconds.
const lookEvery = 200

// watchProcesses returns a channel that is closed when all of the processes have
// ended; nil, which never is, if there are none. One that nobody has waited for
// has ended, too.
func watchProcesses(ctx context.Context, pids []int) <-chan struct{} {
	var left []int
	for _, pid := range pids {
		// It refers to the process, and not to a later one of the same id.
		if fd, err := sys.PidfdOpen(pid); err == nil {
			left = append(left, fd)
		}
	}
	if len(left) == 0 {
		return nil
	}
	gone := make(chan struct{})
	go func() {
		for len(left) > 0 && ctx.Err() == nil {
			ready, err := sys.Poll(left[0], sys.PollIn, lookEvery)
			if errors.Is(err, syscall.EINTR) || err == nil && ready == 0 {
				continue
			}
			_ = syscall.Close(left[0]) // it held nothing but a reference
			left = left[1:]
		}
		for _, fd := range left {
			_ = syscall.Close(fd)
		}
		if ctx.Err() == nil {
			close(gone)
		}
	}()
	return gone
}
