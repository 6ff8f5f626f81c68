package sys

import "golang.org/x/sys/unix"

// Numbers of the calls that move payload, the same on amd64 and arm64 by name alone.
const (
	CallRead          = unix.SYS_READ
	CallWrite         = unix.SYS_WRITE
	CallReadv         = unix.SYS_READV
	CallWritev        = unix.SYS_WRITEV
	CallPread         = unix.SYS_PREAD64
	CallPwrite        = unix.SYS_PWRITE64
	CallPreadv        = unix.SYS_PREADV
	CallPwritev       = unix.SYS_PWRITEV
	CallPreadv2       = unix.SYS_PREADV2
	CallPwritev2      = unix.SYS_PWRITEV2
	CallSendto        = unix.SYS_SENDTO
	CallSendmsg       = unix.SYS_SENDMSG
	CallSendmmsg      = unix.SYS_SENDMMSG
	CallRecvfrom      = unix.SYS_RECVFROM
	CallRecvmsg       = unix.SYS_RECVMSG
	CallRecvmmsg      = unix.SYS_RECVMMSG
	CallSendfile      = unix.SYS_SENDFILE
	CallSplice        = unix.SYS_SPLICE
	CallTee           = unix.SYS_TEE
	CallVmsplice      = unix.SYS_VMSPLICE
	CallCopyFileRange = unix.SYS_COPY_FILE_RANGE
	CallUringEnter    = unix.SYS_IO_URING_ENTER
	CallSetsockopt    = unix.SYS_SETSOCKOPT

	MsgErrqueue = unix.MSG_ERRQUEUE

	OptionLevelSocket = unix.SOL_SOCKET
	OptionZerocopy    = unix.SO_ZEROCOPY
)
