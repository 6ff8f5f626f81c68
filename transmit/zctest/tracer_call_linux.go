package zctest

import (
	"encoding/binary"
	"os"
	"strconv"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// atCall looks at a thread that enters or leaves a call.
func (t *tracer) atCall(tid int, th *thread) error {
	var info sys.SyscallInfo
	if err := sys.PtraceSyscallInfo(tid, &info); err != nil {
		return gone(err)
	}
	switch info.Op {
	case sys.SyscallEntry:
		return t.enters(th, info)
	case sys.SyscallExit:
		return t.leaves(th, int64(info.Words[0]))
	}
	return nil
}

func (t *tracer) enters(th *thread, info sys.SyscallInfo) error {
	th.inside = false
	s, ok := shapes[info.Words[0]]
	if !ok {
		return nil
	}
	copy(th.args[:], info.Words[1:7])
	if t.isMark(s, th.args, markEnd) {
		return t.end()
	}
	if !t.recording && !t.isMark(s, th.args, markBegin) {
		return nil
	}
	th.inside, th.shape = true, s
	th.call = describe(s, th.args)
	th.call.Began = len(t.calls.List)
	t.name(&th.call.Source)
	t.name(&th.call.Target)
	if s.name == "io_uring_enter" {
		th.requests = t.submits(th.args)
	}
	return nil
}

func (t *tracer) isMark(s shape, args [6]uint64, length uint64) bool {
	return s.name == "write" && int(int32(args[0])) == t.mark && args[2] == length
}

// describe is a call by its arguments.
func describe(s shape, args [6]uint64) Call {
	c := Call{Name: s.name, Source: memory, Target: memory, Asked: -1}
	if s.source >= 0 {
		c.Source.Num = int(int32(args[s.source]))
	}
	if s.target >= 0 {
		c.Target.Num = int(int32(args[s.target]))
	}
	if s.size >= 0 {
		c.Asked = int64(args[s.size])
	}
	switch {
	case s.flags >= 0 && s.target >= 0:
		c.ZeroCopy = args[s.flags]&sys.MsgZerocopy != 0
	case s.name == "setsockopt":
		c.ZeroCopy = args[1] == sys.OptionLevelSocket && args[2] == sys.OptionZerocopy
	}
	return c
}

// name looks up what a descriptor refers to while the thread stands still.
func (t *tracer) name(f *FD) {
	if f.Num >= 0 {
		f.Name, _ = os.Readlink("/proc/" + strconv.Itoa(t.pid) + "/fd/" + strconv.Itoa(f.Num))
	}
}

// maxErrno: results from -4095 to -1 are errors. Those from restartFirst to
// restartLast are not, but say that a call that a stop interrupted is made again
// (ERESTARTSYS to ERESTART_RESTARTBLOCK of linux/errno.h).
const (
	maxErrno     = 4095
	restartFirst = 512
	restartLast  = 516
)

func (t *tracer) leaves(th *thread, result int64) error {
	if !th.inside {
		return nil
	}
	th.inside = false
	if !t.recording && !t.ending {
		t.recording = t.isMark(th.shape, th.args, markBegin)
		return nil
	}
	// A call that was made before the end counts, though it returns only now: what
	// it sent may be what the test waited for.
	c := th.call
	switch {
	case result < 0 && result >= -maxErrno:
		if -result >= restartFirst && -result <= restartLast {
			return nil
		}
		c.Errno = syscall.Errno(-result)
	default:
		c.Bytes = result
	}
	if c.Name == "setsockopt" && !c.ZeroCopy || c.Source.Name == eventFD || c.Target.Name == eventFD {
		return nil
	}
	if c.Errno == 0 {
		t.lookInside(th, &c)
	}
	t.keep(c)
	t.taken(th, c.Bytes, c.Errno)
	return nil
}

func (t *tracer) keep(c Call) {
	if len(t.calls.List) == maxCalls {
		t.calls.Lost++
		return
	}
	t.calls.List = append(t.calls.List, c)
}

// eventFD is what the runtime wakes its poller with.
const eventFD = "anon_inode:[eventfd]"

// lookInside reads what the arguments of a call point to: the lengths of messages
// that were sent at once, and notifications that were read.
func (t *tracer) lookInside(th *thread, c *Call) {
	s, isErrqueue := th.shape, th.shape.flags >= 0 && th.shape.source >= 0 && th.args[th.shape.flags]&sys.MsgErrqueue != 0
	switch {
	case s.messages:
		headers := make([]byte, messageHeader*min(c.Bytes, maxMessages))
		n, err := sys.ReadMemory(t.pid, th.args[1], headers)
		if err != nil {
			return
		}
		c.Bytes = 0
		for headers = headers[:n]; len(headers) >= messageHeader; headers = headers[messageHeader:] {
			c.Bytes += int64(binary.NativeEndian.Uint32(headers[messageLength:]))
			if isErrqueue {
				t.completions(c.Source, headers)
			}
		}
	case isErrqueue && s.name == "recvmsg":
		header := make([]byte, messageLength)
		if n, err := sys.ReadMemory(t.pid, th.args[1], header); err == nil && n == len(header) {
			t.completions(c.Source, header)
		}
	}
}

// Offsets in struct msghdr of 64-bit machines, which struct mmsghdr begins with.
const (
	messageControl       = 32 // void *msg_control
	messageControlLength = 40 // size_t
	messageLength        = 56 // msg_len of struct mmsghdr: the size of msghdr
	messageHeader        = 64 // the size of struct mmsghdr
	maxMessages          = 1024
	maxControl           = 4096
)

// completions adds the notifications that a struct msghdr says were received.
func (t *tracer) completions(socket FD, header []byte) {
	address := binary.NativeEndian.Uint64(header[messageControl:])
	control := make([]byte, min(binary.NativeEndian.Uint64(header[messageControlLength:]), maxControl))
	n, err := sys.ReadMemory(t.pid, address, control)
	if err != nil {
		return
	}
	entries, err := sys.ParseErrqueue(control[:n])
	if err != nil {
		return // not for us to judge what the kernel wrote there
	}
	for _, e := range entries {
		if e.Origin == sys.OriginZerocopy && len(t.calls.Completions) < maxCalls {
			t.calls.Completions = append(t.calls.Completions, Completion{
				Socket: socket, First: e.Lo, Last: e.Hi, Copied: e.Code&sys.ZerocopyCopied != 0,
			})
		}
	}
}
