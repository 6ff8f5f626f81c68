package sys

import "golang.org/x/sys/unix"

// ThreadID returns the kernel's id of the calling thread. It means something
// only while the goroutine is locked to its thread.
func ThreadID() int { return unix.Gettid() }

// SetThreadCPUs lets the calling thread run on these CPUs alone;
// sched_setaffinity(2).
func SetThreadCPUs(cpus ...int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return Wrap("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}
