package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attach types of BPF programs on the receive and transmit path of a device;
// linux/bpf.h. The tcx types are of Linux 6.6, the netkit types of 6.7.
const (
	BPFTCXIngress    = 46
	BPFTCXEgress     = 47
	BPFNetkitPrimary = 54
	BPFNetkitPeer    = 55
)

// bpfQueryAttr is the part of union bpf_attr that BPF_PROG_QUERY reads.
type bpfQueryAttr struct {
	ifindex     uint32
	attachType  uint32
	queryFlags  uint32
	attachFlags uint32
	progIDs     uint64
	count       uint32
	_           uint32
	_           [3]uint64
	revision    uint64
}

// CountDevicePrograms returns how many BPF programs are attached to a device of
// the thread's network namespace, which takes CAP_SYS_ADMIN or CAP_NET_ADMIN.
// The error is ENOENT if none ever was, EINVAL where the kernel does not know
// the attach type. It loads and attaches nothing.
func CountDevicePrograms(ifindex, attachType int) (int, error) {
	a := bpfQueryAttr{ifindex: uint32(ifindex), attachType: uint32(attachType)}
	_, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	runtime.KeepAlive(&a)
	if e != 0 {
		return 0, Wrap("bpf BPF_PROG_QUERY", e)
	}
	return int(a.count), nil
}
