package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenClockEvent returns the descriptor of a perf event of the clock of one CPU,
// switched off: it never fires; perf_event_open(2). ENODEV says that the CPU is not
// online.
func OpenClockEvent(cpu int) (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample: 1_000_000_000, // ns
		Bits:   unix.PerfBitDisabled,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	return fd, Wrap("perf_event_open", err)
}

// SetEventProgram makes a perf event run a BPF program, until the event is
// closed; ioctl PERF_EVENT_IOC_SET_BPF.
func SetEventProgram(event, program int) error {
	return Wrap("ioctl PERF_EVENT_IOC_SET_BPF", unix.IoctlSetInt(event, unix.PERF_EVENT_IOC_SET_BPF, program))
}
