package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPUTime returns the CPU time, user and system, that the process has used
// so far; getrusage(2) of RUSAGE_SELF.
func ProcessCPUTime() (time.Duration, error) { return cpuTime(unix.RUSAGE_SELF) }

// ThreadCPUTime returns that of the calling thread, of RUSAGE_THREAD. It means
// something only while the goroutine is locked to its thread.
func ThreadCPUTime() (time.Duration, error) { return cpuTime(unix.RUSAGE_THREAD) }

func cpuTime(who int) (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		return 0, Wrap("getrusage", err)
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime)), nil
}
