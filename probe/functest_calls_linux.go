package probe

import (
	"net/netip"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// calls are the system calls that functional tests make: the seam at which
// tests of this package put a kernel that refuses them.
type calls struct {
	socket      func(family, typ, protocol int) (int, error)
	socketpair  func(family, typ int) ([2]int, error)
	closeFD     func(fd int) error
	bind        func(fd int, a netip.AddrPort) error
	connect     func(fd int, a netip.AddrPort) error
	listen      func(fd, backlog int) error
	accept      func(fd int) (int, netip.AddrPort, error)
	localAddr   func(fd int) (netip.AddrPort, error)
	bindVsock   func(fd int, cid, port uint32) error
	connVsock   func(fd int, cid, port uint32) error
	vsockPort   func(fd int) (uint32, error)
	bindPacket  func(fd, ifindex int, protocol uint16) error
	setInt      func(fd, level, option, value int) error
	lingerReset func(fd int) error
	setBytes    func(fd, level, option int, value []byte) error
	getInt      func(fd, level, option int) (int, error)
	getBytes    func(fd, level, option int, value []byte) (int, error)
	send        func(fd int, p []byte, flags int) (int, error)
	recv        func(fd int, p []byte, flags int) (int, error)
	recvErr     func(fd int, p, oob []byte) (n, oobn int, err error)
	poll        func(fd int, events int16, timeoutMS int) (int16, error)
	pipe        func() ([2]int, error)
	pipeSize    func(fd int) (int, error)
	setPipeSize func(fd, bytes int) (int, error)
	splice      func(in int, off *int64, out, n, flags int) (int, error)
	vmsplice    func(fd int, parts [][]byte, flags int) (int, error)
	tee         func(in, out, n, flags int) (int, error)
	read        func(fd int, p []byte) (int, error)
	pread       func(fd int, p []byte, off int64) (int, error)
	pwrite      func(fd int, p []byte, off int64) (int, error)
	ftruncate   func(fd int, size int64) error
	openTmpfile func(dir string) (int, error)
	sendfile    func(out, in int, off *int64, n int) (int, error)
	copyRange   func(in int, inOff *int64, out int, outOff *int64, n int) (int, error)
	mmap        func(fd int, off int64, length, prot, flags int) ([]byte, error)
	munmap      func(b []byte) error
	memfd       func(name string) (int, error)
	memfdSecret func() (int, error)
	addSeals    func(fd, seals int) error
	seals       func(fd int) (int, error)
	memlock     func() (uint64, error)
	uringSetup  func(entries uint32, p *sys.UringParams) (int, error)
	uringEnter  func(fd int, submit, wait, flags uint32) (int, error)
	uringReg    func(fd int, op uint32, arg []byte, n uint32) error
	openNetlink func(protocol int) (*sys.Netlink, error)
}

func kernelCalls() *calls {
	return &calls{
		socket: sys.Socket, socketpair: sys.Socketpair, closeFD: sys.Close,
		bind: sys.Bind, connect: sys.Connect, listen: sys.Listen, accept: sys.Accept, localAddr: sys.LocalAddr,
		bindVsock: sys.BindVsock, connVsock: sys.ConnectVsock, vsockPort: sys.VsockPort, bindPacket: sys.BindPacket,
		setInt: sys.SetsockoptInt, lingerReset: sys.SetLingerReset, setBytes: sys.SetsockoptBytes, getInt: sys.GetsockoptInt, getBytes: sys.GetsockoptBytes,
		send: sys.Send, recv: sys.Recv, recvErr: sys.RecvErrqueue, poll: sys.Poll,
		pipe: sys.Pipe, pipeSize: sys.PipeSize, setPipeSize: sys.SetPipeSize,
		splice: sys.Splice, vmsplice: sys.Vmsplice, tee: sys.Tee,
		read: sys.Read, pread: sys.Pread, pwrite: sys.Pwrite, ftruncate: sys.Ftruncate,
		openTmpfile: sys.OpenTmpfile, sendfile: sys.Sendfile, copyRange: sys.CopyFileRange,
		mmap: sys.Mmap, munmap: sys.Munmap,
		memfd: sys.MemfdCreate, memfdSecret: sys.MemfdSecret, addSeals: sys.AddSeals, seals: sys.Seals,
		memlock:    sys.MemlockLimit,
		uringSetup: sys.UringSetup, uringEnter: sys.UringEnter, uringReg: sys.UringRegister,
		openNetlink: sys.OpenNetlink,
	}
}
