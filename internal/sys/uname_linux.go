package sys

import "golang.org/x/sys/unix"

// KernelRelease returns the release of the running kernel and the text that
// says how it was built, "#1 SMP PREEMPT_DYNAMIC ..."; uname(2).
func KernelRelease() (release, version string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", Wrap("uname", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), nil
}

// SeccompMode returns 0 or 2, the way the calling thread's system calls are
// filtered. A thread in strict mode, 1, does not live to ask. EINVAL: a kernel without seccomp; prctl(2).
func SeccompMode() (int, error) {
	m, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil {
		m = 0
	}
	return m, Wrap("prctl PR_GET_SECCOMP", err)
}

// MemlockLimit returns the soft RLIMIT_MEMLOCK of the process in bytes, ^0 for
// none.
func MemlockLimit() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		return 0, Wrap("getrlimit RLIMIT_MEMLOCK", err)
	}
	return r.Cur, nil
}
