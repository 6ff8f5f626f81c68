package probe

import (
	"net/netip"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// calls are the system calls that functional tests make: the seam at which
// tests of this package put a kernel that refuses them, for which reflection
// must be able to set the fields.
type calls struct {
	Socket      func(family, typ, protocol int) (int, error)
	Socketpair  func(family, typ int) ([2]int, error)
	CloseFD     func(fd int) error
	Bind        func(fd int, a netip.AddrPort) error
	Connect     func(fd int, a netip.AddrPort) error
	Listen      func(fd, backlog int) error
	Accept      func(fd int) (int, netip.AddrPort, error)
	LocalAddr   func(fd int) (netip.AddrPort, error)
	LoopbackUp  func(fd int) (bool, error)
	BindVsock   func(fd int, cid, port uint32) error
	ConnVsock   func(fd int, cid, port uint32) error
	VsockPort   func(fd int) (uint32, error)
	BindPacket  func(fd, ifindex int, protocol uint16) error
	SetInt      func(fd, level, option, value int) error
	LingerReset func(fd int) error
	SetBytes    func(fd, level, option int, value []byte) error
	GetInt      func(fd, level, option int) (int, error)
	GetBytes    func(fd, level, option int, value []byte) (int, error)
	Send        func(fd int, p []byte, flags int) (int, error)
	Recv        func(fd int, p []byte, flags int) (int, error)
	RecvErr     func(fd int, p, oob []byte) (n, oobn int, err error)
	Poll        func(fd int, events int16, timeoutMS int) (int16, error)
	Pipe        func() ([2]int, error)
	PipeSize    func(fd int) (int, error)
	SetPipeSize func(fd, bytes int) (int, error)
	Splice      func(in int, off *int64, out, n, flags int) (int, error)
	Vmsplice    func(fd int, parts [][]byte, flags int) (int, error)
	Tee         func(in, out, n, flags int) (int, error)
	Read        func(fd int, p []byte) (int, error)
	Pread       func(fd int, p []byte, off int64) (int, error)
	Pwrite      func(fd int, p []byte, off int64) (int, error)
	Ftruncate   func(fd int, size int64) error
	OpenTmpfile func(dir string) (int, error)
	Sendfile    func(out, in int, off *int64, n int) (int, error)
	CopyRange   func(in int, inOff *int64, out int, outOff *int64, n int) (int, error)
	Mmap        func(fd int, off int64, length, prot, flags int) ([]byte, error)
	Munmap      func(b []byte) error
	Memfd       func(name string) (int, error)
	MemfdSecret func() (int, error)
	AddSeals    func(fd, seals int) error
	Seals       func(fd int) (int, error)
	Memlock     func() (uint64, error)
	UringSetup  func(entries uint32, p *sys.UringParams) (int, error)
	UringEnter  func(fd int, submit, wait, flags uint32) (int, error)
	UringReg    func(fd int, op uint32, arg []byte, n uint32) error
	OpenNetlink func(protocol int) (*sys.Netlink, error)
}

func kernelCalls() *calls {
	return &calls{
		Socket: sys.Socket, Socketpair: sys.Socketpair, CloseFD: sys.Close,
		Bind: sys.Bind, Connect: sys.Connect, Listen: sys.Listen, Accept: sys.Accept, LocalAddr: sys.LocalAddr, LoopbackUp: sys.LoopbackUp,
		BindVsock: sys.BindVsock, ConnVsock: sys.ConnectVsock, VsockPort: sys.VsockPort, BindPacket: sys.BindPacket,
		SetInt: sys.SetsockoptInt, LingerReset: sys.SetLingerReset, SetBytes: sys.SetsockoptBytes, GetInt: sys.GetsockoptInt, GetBytes: sys.GetsockoptBytes,
		Send: sys.Send, Recv: sys.Recv, RecvErr: sys.RecvErrqueue, Poll: sys.Poll,
		Pipe: sys.Pipe, PipeSize: sys.PipeSize, SetPipeSize: sys.SetPipeSize,
		Splice: sys.Splice, Vmsplice: sys.Vmsplice, Tee: sys.Tee,
		Read: sys.Read, Pread: sys.Pread, Pwrite: sys.Pwrite, Ftruncate: sys.Ftruncate,
		OpenTmpfile: sys.OpenTmpfile, Sendfile: sys.Sendfile, CopyRange: sys.CopyFileRange,
		Mmap: sys.Mmap, Munmap: sys.Munmap,
		Memfd: sys.MemfdCreate, MemfdSecret: sys.MemfdSecret, AddSeals: sys.AddSeals, Seals: sys.Seals,
		Memlock:    sys.MemlockLimit,
		UringSetup: sys.UringSetup, UringEnter: sys.UringEnter, UringReg: sys.UringRegister,
		OpenNetlink: sys.OpenNetlink,
	}
}
