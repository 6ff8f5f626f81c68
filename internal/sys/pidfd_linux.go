package sys

import "golang.org/x/sys/unix"

// PidfdOpen returns a descriptor that refers to a process and to no later one
// with the same id; Linux 5.3.
func PidfdOpen(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return fd, Wrap("pidfd_open", err)
}

// PidfdGetfd duplicates descriptor fd of the process behind pidfd into this
// process, close-on-exec; Linux 5.6. It needs permission to trace the process
// (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS). The duplicate keeps the file open:
// close it at once.
func PidfdGetfd(pidfd, fd int) (int, error) {
	n, err := unix.PidfdGetfd(pidfd, fd, 0)
	return n, Wrap("pidfd_getfd", err)
}

// FileInode returns the inode number of an open file. For a socket it is the
// number in /proc/PID/fd and /proc/net.
func FileInode(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Ino, Wrap("fstat", err)
}
