package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of [PtraceSeize].
const (
	PtraceMarkSyscalls = unix.PTRACE_O_TRACESYSGOOD // stops at calls are StopSyscall
	PtraceFollowClone  = unix.PTRACE_O_TRACECLONE   // new threads are traced from their start
)

// Kinds of [SyscallInfo]: PTRACE_SYSCALL_INFO_*.
const (
	SyscallNone  = unix.PTRACE_SYSCALL_INFO_NONE
	SyscallEntry = unix.PTRACE_SYSCALL_INFO_ENTRY
	SyscallExit  = unix.PTRACE_SYSCALL_INFO_EXIT
)

// SyscallInfo is struct ptrace_syscall_info. Of the words, those of an entry are
// the number of the call and its six arguments; of an exit the result, negative
// for an errno, and then a byte that says so.
type SyscallInfo struct {
	Op    uint8
	_     [3]byte
	Arch  uint32
	PC    uint64
	Stack uint64
	Words [8]uint64
}

// A WaitStatus is what wait4(2) says of a thread.
type WaitStatus = unix.WaitStatus

// ptrace calls ptrace(2) with numbers alone. A tracer is a thread: all calls for a
// tracee come from the one that seized it.
func ptrace(op string, request, tid int, addr, data uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	if e != 0 {
		return Wrap("ptrace "+op, e)
	}
	return nil
}

// PtraceSeize makes the calling thread the tracer of a thread, and lets it go on;
// Linux 3.4. EPERM where the caller may not, or somebody else does.
func PtraceSeize(tid int, options uint) error {
	return ptrace("PTRACE_SEIZE", unix.PTRACE_SEIZE, tid, 0, uintptr(options))
}

// PtraceInterrupt makes a tracee stop soon, wherever it is.
func PtraceInterrupt(tid int) error {
	return ptrace("PTRACE_INTERRUPT", unix.PTRACE_INTERRUPT, tid, 0, 0)
}

// PtraceSyscall lets a stopped tracee go on to the next system call, with a signal
// if that is not 0.
func PtraceSyscall(tid, signal int) error {
	return ptrace("PTRACE_SYSCALL", unix.PTRACE_SYSCALL, tid, 0, uintptr(signal))
}

// PtraceListen leaves a tracee in a group stop, to hear of its end.
func PtraceListen(tid int) error {
	return ptrace("PTRACE_LISTEN", unix.PTRACE_LISTEN, tid, 0, 0)
}

// PtraceDetach lets a stopped tracee go, with a signal if that is not 0.
func PtraceDetach(tid, signal int) error {
	return ptrace("PTRACE_DETACH", unix.PTRACE_DETACH, tid, 0, uintptr(signal))
}

// PtraceSyscallInfo says at which end of which call a stopped tracee is; Linux 5.3.
// EIO on kernels before.
func PtraceSyscallInfo(tid int, info *SyscallInfo) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(*info), uintptr(unsafe.Pointer(info)), 0, 0)
	if e != 0 {
		return Wrap("ptrace PTRACE_GET_SYSCALL_INFO", e)
	}
	return nil
}

// WaitTracee waits for a child or tracee of the calling thread to change state.
// ECHILD when there is none.
func WaitTracee(status *WaitStatus) (tid int, err error) {
	tid, err = unix.Wait4(-1, status, unix.WALL, nil)
	return tid, Wrap("wait4", err)
}

// AllowTracer lets a process trace this one where Yama confines that to
// ancestors (kernel.yama.ptrace_scope 1); 0 takes it back. EINVAL without Yama.
func AllowTracer(pid int) error {
	return Wrap("prctl PR_SET_PTRACER", unix.Prctl(unix.PR_SET_PTRACER, uintptr(pid), 0, 0, 0))
}

// ReadMemory reads the memory of another process from an address on, and returns
// how much of it is there.
func ReadMemory(pid int, address uint64, into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	local := unix.Iovec{Base: unsafe.SliceData(into)}
	local.SetLen(len(into))
	remote := unix.RemoteIovec{Base: uintptr(address), Len: len(into)}
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
	return n, Wrap("process_vm_readv", err)
}
