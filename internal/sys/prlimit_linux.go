package sys

import "golang.org/x/sys/unix"

// Resources of [Prlimit]; asm-generic/resource.h, the same on amd64 and arm64.
const (
	LimitNofile  = unix.RLIMIT_NOFILE
	LimitMemlock = unix.RLIMIT_MEMLOCK
	LimitAS      = unix.RLIMIT_AS
)

// Prlimit returns the soft and the hard limit of a process, 0 for the calling
// one; ^uint64(0) is unlimited. Of another user's process it needs
// CAP_SYS_RESOURCE; prlimit(2).
func Prlimit(pid, resource int) (soft, hard uint64, err error) {
	var r unix.Rlimit
	err = unix.Prlimit(pid, resource, nil, &r)
	return r.Cur, r.Max, Wrap("prlimit", err)
}

// SendControl calls sendmsg(2) on a socket with control messages and no data.
// The kernel takes memory for them from the socket's option memory before it
// looks at anything else, and answers ENOBUFS if net.core.optmem_max does not
// allow that (____sys_sendmsg, sock_kmalloc); on a datagram socket that is not
// connected it then answers EDESTADDRREQ. Nothing is sent.
func SendControl(fd int, control []byte) error {
	_, err := unix.SendmsgN(fd, nil, control, nil, 0)
	return Wrap("sendmsg", err)
}

// MeminfoOptmem is the place of a socket's option memory in SoMeminfo
// (SK_MEMINFO_OPTMEM).
const MeminfoOptmem = unix.SK_MEMINFO_OPTMEM

// SetLimit sets a resource limit of the calling process.
func SetLimit(resource int, soft, hard uint64) error {
	return Wrap("prlimit", unix.Prlimit(0, resource, &unix.Rlimit{Cur: soft, Max: hard}, nil))
}
