package transmit

import "github.com/zcprobe/zcprobe/internal/sys"

// calls is the seam to the kernel: each field is one system call, as package sys
// makes it, without a decision. Tests put errnos, short counts and interruptions
// in their place. EAGAIN and EINTR come bare from the calls that move bytes; all
// other errors name the call.
type calls struct {
	Read          func(fd int, p []byte) (int, error)
	Write         func(fd int, p []byte) (int, error)
	Pread         func(fd int, p []byte, off int64) (int, error)
	Pwrite        func(fd int, p []byte, off int64) (int, error)
	Splice        func(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error)
	Vmsplice      func(fd int, v []sys.Iovec, flags int) (int, error)
	Pipe          func() ([2]int, error)
	SetPipeSize   func(fd, bytes int) (int, error)
	PipeSize      func(fd int) (int, error)
	Sendfile      func(out, in int, off *int64, n int) (int, error)
	CopyFileRange func(in int, inOff *int64, out int, outOff *int64, n int) (int, error)
	CloneRange    func(to int, toOff int64, from int, fromOff, n int64) error
	Seek          func(fd int, off int64) (int64, error)
	SeekData      func(fd int, off int64) (int64, error)
	SeekHole      func(fd int, off int64) (int64, error)
	Fstat         func(fd int) (sys.Stat, error)
	FSMagic       func(fd int) (int64, error)
	StatusFlags   func(fd int) (int, error)
	Reopen        func(fd, flags int) (int, error)
	GetsockoptInt func(fd, level, option int) (int, error)
	SetsockoptInt func(fd, level, option, value int) error
	SockoptBytes  func(fd, level, option int, value []byte) (int, error)
	Sendmsg       sendmsg
	Poll          func(fd int, events int16, timeoutMS int) (int16, error)
	Close         func(fd int) error

	memoryCalls
}

// kernel is never written to.
var kernel = calls{
	Read:          sys.Read,
	Write:         sys.Write,
	Pread:         sys.Pread,
	Pwrite:        sys.Pwrite,
	Splice:        sys.SpliceAt,
	Vmsplice:      sys.VmspliceIovec,
	Pipe:          sys.Pipe,
	SetPipeSize:   sys.SetPipeSize,
	PipeSize:      sys.PipeSize,
	Sendfile:      sys.Sendfile,
	CopyFileRange: sys.CopyFileRange,
	CloneRange:    sys.CloneRange,
	Seek:          sys.Seek,
	SeekData:      sys.SeekData,
	SeekHole:      sys.SeekHole,
	Fstat:         sys.Fstat,
	FSMagic:       sys.FSMagic,
	StatusFlags:   sys.StatusFlags,
	Reopen:        sys.Reopen,
	GetsockoptInt: sys.GetsockoptInt,
	SetsockoptInt: sys.SetsockoptInt,
	SockoptBytes:  sys.GetsockoptBytes,
	Sendmsg:       sys.TrySendmsg,
	Poll:          sys.Poll,
	Close:         sys.Close,
	memoryCalls:   kernelMemory,
}

// kernelCalls returns the calls of the kernel itself. A test that wants others
// changes a copy.
func kernelCalls() *calls { return &kernel }
