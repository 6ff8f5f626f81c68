package sys

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities that probing gives up or asks about; linux/capability.h.
const (
	CapNetAdmin  = unix.CAP_NET_ADMIN
	CapSysModule = unix.CAP_SYS_MODULE
	CapSysAdmin  = unix.CAP_SYS_ADMIN
	CapIPCLock   = unix.CAP_IPC_LOCK
	CapPerfmon   = unix.CAP_PERFMON
	CapBPF       = unix.CAP_BPF
	CapSyslog    = unix.CAP_SYSLOG

	CapDACOverride   = unix.CAP_DAC_OVERRIDE
	CapDACReadSearch = unix.CAP_DAC_READ_SEARCH
	CapFowner        = unix.CAP_FOWNER
	CapSysResource   = unix.CAP_SYS_RESOURCE
)

// Caps are the capability sets of a thread; bit N is capability N.
type Caps struct {
	Effective, Permitted, Inheritable uint64
}

// Has reports whether the capability is in the effective set.
func (c Caps) Has(capability int) bool { return c.Effective>>capability&1 != 0 }

// ThreadCaps returns the capability sets of the calling thread; capget(2).
func ThreadCaps() (Caps, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&hdr, &d[0]); err != nil {
		return Caps{}, Wrap("capget", err)
	}
	join := func(lo, hi uint32) uint64 { return uint64(hi)<<32 | uint64(lo) }
	return Caps{
		Effective:   join(d[0].Effective, d[1].Effective),
		Permitted:   join(d[0].Permitted, d[1].Permitted),
		Inheritable: join(d[0].Inheritable, d[1].Inheritable),
	}, nil
}

func (c Caps) forKernel() (unix.CapUserHeader, [2]unix.CapUserData) {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{
		{Effective: uint32(c.Effective), Permitted: uint32(c.Permitted), Inheritable: uint32(c.Inheritable)},
		{Effective: uint32(c.Effective >> 32), Permitted: uint32(c.Permitted >> 32), Inheritable: uint32(c.Inheritable >> 32)},
	}
}

// SetThreadCaps sets the capability sets of the calling thread and of no
// other; capset(2) knows no processes.
func SetThreadCaps(c Caps) error {
	hdr, d := c.forKernel()
	return Wrap("capset", unix.Capset(&hdr, &d[0]))
}

// SetProcessCaps sets the capability sets of every thread; those of the future have
// them from these. A thread that may not have them ends the process, so it is for the
// time before threads differ. ErrUnsupported in a program with cgo, whose threads Go
// does not know.
func SetProcessCaps(c Caps) error {
	hdr, d := c.forKernel()
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&d[0])), 0)
	switch e {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return fmt.Errorf("capset of every thread: the program is linked with cgo: %w", errors.ErrUnsupported)
	}
	return Wrap("capset", e)
}
