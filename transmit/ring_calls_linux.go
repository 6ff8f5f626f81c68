package transmit

import "github.com/zcprobe/zcprobe/internal/sys"

// ringCalls is the seam between a Ring and the kernel: one system call each, no
// decision.
type ringCalls struct {
	Setup     func(entries uint32, p *sys.UringParams) (int, error)
	Map       func(at []byte, fd int, off int64, length, prot, flags int) ([]byte, error)
	Unmap     func(b []byte) error
	Madvise   func(b []byte, advice int) error
	Enter     func(fd int, submit, wait, flags uint32) (int, error)
	Eventfd   func() (int, error)
	Notify    func(fd, eventfd int) error
	Sparse    func(fd int, n uint32) error
	SetBuffer func(fd int, index uint32, p []byte) error
	Close     func(fd int) error
}

func kernelRingCalls() *ringCalls {
	return &ringCalls{
		Setup: sys.UringSetup, Map: sys.Map, Unmap: sys.Unmap, Madvise: sys.Madvise, Enter: sys.UringEnter,
		Eventfd: sys.Eventfd, Notify: sys.UringNotify, Sparse: sys.UringRegisterSparse, SetBuffer: sys.UringUpdateBuffer,
		Close: sys.Close,
	}
}
