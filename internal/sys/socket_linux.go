package sys

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket families, types and flags; socket(2).
const (
	AFUnix     = unix.AF_UNIX
	AFInet     = unix.AF_INET
	AFInet6    = unix.AF_INET6
	AFPacket   = unix.AF_PACKET
	AFVsock    = unix.AF_VSOCK
	AFXDP      = unix.AF_XDP
	SockStream = unix.SOCK_STREAM
	SockDgram  = unix.SOCK_DGRAM
	SockRaw    = unix.SOCK_RAW
)

// Socket option levels and options that zero-copy transmission uses;
// asm-generic/socket.h, linux/{tcp,udp,tls,vm_sockets,if_packet,if_xdp}.h.
const (
	SolSocket      = unix.SOL_SOCKET
	SolTCP         = unix.SOL_TCP
	SolUDP         = unix.SOL_UDP
	SolTLS         = unix.SOL_TLS
	SolPacket      = unix.SOL_PACKET
	SolXDP         = unix.SOL_XDP
	SoZerocopy     = unix.SO_ZEROCOPY     // Linux 4.14 for TCP, 5.0 for UDP, 6.7 for vsock
	SoTimestamping = unix.SO_TIMESTAMPING // linux/net_tstamp.h has the flags
	SoMeminfo      = unix.SO_MEMINFO      // nine uint32, Linux 4.12
	SoError        = unix.SO_ERROR
	SoType         = unix.SO_TYPE
	SoSndbuf       = unix.SO_SNDBUF
	SoRcvbuf       = unix.SO_RCVBUF

	TCPCork            = unix.TCP_CORK
	TCPNoDelay         = unix.TCP_NODELAY
	TCPQuickack        = unix.TCP_QUICKACK
	TCPULP             = unix.TCP_ULP              // Linux 4.13; loads modules for CAP_NET_ADMIN
	TCPZerocopyReceive = unix.TCP_ZEROCOPY_RECEIVE // Linux 4.18

	IPMTUDiscover = unix.IP_MTU_DISCOVER // whether datagrams say that they may not be cut
	IPPmtuDont    = unix.IP_PMTUDISC_DONT

	UDPCork    = unix.UDP_CORK
	UDPSegment = unix.UDP_SEGMENT // Linux 4.18

	TLSTx           = 1 // TLS_TX, linux/tls.h
	TLSRx           = 2 // TLS_RX
	TLSTxZerocopyRO = 3 // TLS_TX_ZEROCOPY_RO, Linux 5.19

	PacketVersion = unix.PACKET_VERSION
	PacketTxRing  = unix.PACKET_TX_RING
	TPacketV2     = unix.TPACKET_V2

	XDPTxRing             = unix.XDP_TX_RING
	XDPUmemReg            = unix.XDP_UMEM_REG
	XDPUmemFillRing       = unix.XDP_UMEM_FILL_RING
	XDPUmemCompletionRing = unix.XDP_UMEM_COMPLETION_RING
)

// Flags of SoTimestamping; linux/net_tstamp.h.
const (
	StampSent    = unix.SOF_TIMESTAMPING_TX_SOFTWARE
	StampReport  = unix.SOF_TIMESTAMPING_SOFTWARE
	StampHeaders = unix.SOF_TIMESTAMPING_OPT_TSONLY // without the packet; Linux 3.19
)

// Message flags and poll(2) events.
const (
	MsgMore     = unix.MSG_MORE
	MsgZerocopy = unix.MSG_ZEROCOPY // Linux 4.14
	MsgDontwait = unix.MSG_DONTWAIT
	MsgNosignal = unix.MSG_NOSIGNAL
	MsgTrunc    = unix.MSG_TRUNC // over TCP received bytes are dropped uncopied; tcp(7)

	PollIn  = unix.POLLIN
	PollOut = unix.POLLOUT
	PollErr = unix.POLLERR
)

// MeminfoDrops is the place of the socket's drop counter in SoMeminfo
// (SK_MEMINFO_DROPS); UDP counts there what it received with a wrong checksum.
const MeminfoDrops = unix.SK_MEMINFO_DROPS

// VsockLocalCID is VMADDR_CID_LOCAL, the address of this machine on the
// loopback transport of vsock.
const VsockLocalCID = unix.VMADDR_CID_LOCAL

// LoopbackIndex is LOOPBACK_IFINDEX: lo is device 1 of every network namespace.
const LoopbackIndex = 1

// Socket makes a non-blocking, close-on-exec socket. The kernel may load a
// module for a family it does not know.
func Socket(family, typ, protocol int) (int, error) {
	fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	return fd, Wrap("socket", err)
}

// Socketpair makes two connected non-blocking sockets.
func Socketpair(family, typ int) ([2]int, error) {
	fds, err := unix.Socketpair(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fds, Wrap("socketpair", err)
}

// Close closes a descriptor.
func Close(fd int) error { return Wrap("close", unix.Close(fd)) }

// Bind binds to an IPv4 or IPv6 address.
func Bind(fd int, a netip.AddrPort) error { return Wrap("bind", unix.Bind(fd, inetSockaddr(a))) }

// Connect connects to an IPv4 or IPv6 address; EINPROGRESS where that takes time.
func Connect(fd int, a netip.AddrPort) error {
	return Wrap("connect", unix.Connect(fd, inetSockaddr(a)))
}

// Listen makes a socket accept connections.
func Listen(fd, backlog int) error { return Wrap("listen", unix.Listen(fd, backlog)) }

// Accept returns a connection, non-blocking, and the peer's address, which is
// invalid for families other than IPv4 and IPv6.
func Accept(fd int) (int, netip.AddrPort, error) {
	nfd, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return nfd, inetAddr(sa), Wrap("accept", err)
}

// LocalAddr returns the address an IPv4 or IPv6 socket is bound to.
func LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	return inetAddr(sa), Wrap("getsockname", err)
}

// LoopbackUp reports whether lo of the network namespace that fd, a socket of
// any kind, belongs to is up.
func LoopbackUp(fd int) (bool, error) {
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return false, Wrap("ioctl SIOCGIFFLAGS lo", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return false, Wrap("ioctl SIOCGIFFLAGS lo", err)
	}
	return r.Uint16()&unix.IFF_UP != 0, nil
}

// BindVsock binds to a vsock address; port VMADDR_PORT_ANY (^0) picks one.
func BindVsock(fd int, cid, port uint32) error {
	return Wrap("bind vsock", unix.Bind(fd, &unix.SockaddrVM{CID: cid, Port: port}))
}

// ConnectVsock connects to a vsock address.
func ConnectVsock(fd int, cid, port uint32) error {
	return Wrap("connect vsock", unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}))
}

// VsockPort returns the port a vsock socket is bound to.
func VsockPort(fd int) (uint32, error) {
	sa, err := unix.Getsockname(fd)
	if vm, ok := sa.(*unix.SockaddrVM); ok {
		return vm.Port, nil
	}
	if err == nil {
		err = syscall.EAFNOSUPPORT
	}
	return 0, Wrap("getsockname", err)
}

// BindPacket binds a packet socket to a device and an Ethernet protocol, in
// host byte order; 0 receives nothing and makes the socket no tap.
func BindPacket(fd, ifindex int, protocol uint16) error {
	return Wrap("bind packet", unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: htons(protocol)}))
}

// SetsockoptInt sets an option that is an int.
func SetsockoptInt(fd, level, option, value int) error {
	return Wrap("setsockopt", unix.SetsockoptInt(fd, level, option, value))
}

// SetsockoptBytes sets an option that is a string or structure. No copy of it, which
// may be a key, is left in memory.
func SetsockoptBytes(fd, level, option int, value []byte) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0)
	if e != 0 {
		return Wrap("setsockopt", e)
	}
	return nil
}

// SetLingerReset makes close(2) reset a TCP connection, so that it leaves no
// socket in TIME_WAIT.
func SetLingerReset(fd int) error {
	return Wrap("setsockopt SO_LINGER", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
}

// GetsockoptInt reads an option that is an int.
func GetsockoptInt(fd, level, option int) (int, error) {
	v, err := unix.GetsockoptInt(fd, level, option)
	return v, Wrap("getsockopt", err)
}

// GetsockoptBytes reads a structure into value, which the kernel may also read
// first, and returns its length. value must not be empty.
func GetsockoptBytes(fd, level, option int, value []byte) (int, error) {
	n := uint32(len(value))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, Wrap("getsockopt", e)
	}
	return int(min(n, uint32(len(value)))), nil
}

// Send sends on a connected socket.
func Send(fd int, p []byte, flags int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), uintptr(flags), 0, 0)
	if e != 0 {
		return 0, Wrap("send", e)
	}
	return int(n), nil
}

// Recv receives from a connected socket.
func Recv(fd int, p []byte, flags int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), uintptr(flags), 0, 0)
	if e != 0 {
		return 0, Wrap("recv", e)
	}
	return int(n), nil
}

// RecvErrqueue reads one entry of a socket's error queue: the control messages
// go to oob, for [ParseErrqueue], the data that caused the entry, where there
// is any, to p. EAGAIN: the queue is empty.
func RecvErrqueue(fd int, p, oob []byte) (n, oobn int, err error) {
	n, oobn, _, _, err = unix.Recvmsg(fd, p, oob, unix.MSG_ERRQUEUE)
	return n, oobn, Wrap("recvmsg MSG_ERRQUEUE", err)
}

// Poll waits up to timeout milliseconds for events on one descriptor and
// returns those that came, 0 when time ran out. POLLERR and POLLHUP come unasked.
func Poll(fd int, events int16, timeoutMS int) (int16, error) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: events}}
	_, err := unix.Poll(p[:], timeoutMS)
	return p[0].Revents, Wrap("poll", err)
}

func inetSockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func inetAddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func htons(v uint16) uint16 {
	b := [2]byte{byte(v >> 8), byte(v)}
	return *(*uint16)(unsafe.Pointer(&b))
}
