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

// SetThreadUIDs sets the real, effective and saved user id of the calling thread
// and of no other; setresuid(2), which knows no processes. The kernel takes the
// effective capabilities with the effective id 0, and gives them back with it as long
// as one of the three is 0; capabilities(7).
func SetThreadUIDs(real, effective, saved int) error {
	_, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(real), uintptr(effective), uintptr(saved))
	if e != 0 {
		return Wrap("setresuid", e)
	}
	return nil
}
