package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPUTime returns the CPU time, user and system, that the process has used
// so far; clock_gettime(2) of CLOCK_PROCESS_CPUTIME_ID. What other threads have
// used since the last tick of the scheduler, 1 to 10 milliseconds, may be missing.
func ProcessCPUTime() (time.Duration, error) { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

// ThreadCPUTime returns that of the calling thread, of CLOCK_THREAD_CPUTIME_ID. It
// means something only while the goroutine is locked to its thread.
func ThreadCPUTime() (time.Duration, error) { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

// ThreadCPUTimeOf returns that of another thread of the process, by the kernel's
// id of it, to the nanosecond. EINVAL: there is no such thread.
func ThreadCPUTimeOf(tid int) (time.Duration, error) {
	// MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) of linux/posix-timers.h.
	const perThread, sched = 4, 2
	return clock(int32(^tid<<3 | perThread | sched))
}

func clock(id int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, Wrap("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}
