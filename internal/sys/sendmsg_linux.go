package sys

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are made for every send. They return the bare errno, 0
// for none: wrapping one takes an allocation, and EAGAIN is an everyday answer.

// Socket options and states that sending asks for.
const (
	SoSndbufForce   = unix.SO_SNDBUFFORCE // beyond net.core.wmem_max, with CAP_NET_ADMIN
	SoBufLock       = 72                  // SO_BUF_LOCK, Linux 5.14: whether SO_SNDBUF ended autotuning
	SockSndbufLock  = 1                   // its bit for the send buffer
	SoProtocol      = unix.SO_PROTOCOL
	SoDomain        = unix.SO_DOMAIN
	TCPNotsentLowat = unix.TCP_NOTSENT_LOWAT
	SolIPv6         = unix.SOL_IPV6
	IPMTU           = unix.IP_MTU   // of the route of a connected socket
	IPv6MTU         = unix.IPV6_MTU // the same
	ProtoTCP        = unix.IPPROTO_TCP
	ProtoUDP        = unix.IPPROTO_UDP
	ProtoMPTCP      = unix.IPPROTO_MPTCP
	TCPStateClose   = 7 // TCP_CLOSE, net/tcp_states.h: nothing is queued any more
)

// Iovec is one part of a vectored send.
type Iovec = unix.Iovec

// AppendIovec appends p to v, nothing if p is empty. What v points to must stay
// referenced until the kernel is done with it.
func AppendIovec(v []Iovec, p []byte) []Iovec {
	if len(p) == 0 {
		return v
	}
	e := Iovec{Base: unsafe.SliceData(p)}
	e.SetLen(len(p))
	return append(v, e)
}

// TrySend is send(2).
func TrySend(fd int, p []byte, flags int) (int, syscall.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), uintptr(flags), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// TrySendmsg is sendmsg(2) with the given control messages, which may be nil.
func TrySendmsg(fd int, v []Iovec, control []byte, flags int) (int, syscall.Errno) {
	var m unix.Msghdr
	m.Iov = unsafe.SliceData(v)
	m.SetIovlen(len(v))
	if len(control) > 0 {
		m.Control = unsafe.SliceData(control)
		m.SetControllen(len(control))
	}
	n, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// TryWritev is writev(2).
func TryWritev(fd int, v []Iovec) (int, syscall.Errno) {
	n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// TryErrqueue takes one entry from a socket's error queue and returns the length
// of the control messages that describe it, for [AppendErrqueue]. The packet that
// caused it, where it comes along, is not read. EAGAIN: the queue is empty.
func TryErrqueue(fd int, control []byte) (int, syscall.Errno) {
	var m unix.Msghdr
	m.Control = unsafe.SliceData(control)
	m.SetControllen(len(control))
	_, _, e := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if e != 0 {
		return 0, e
	}
	return int(m.Controllen), 0
}

// OutQueue is SIOCOUTQ: over TCP the bytes written that the peer has not
// acknowledged, over UDP and unix sockets the memory of what was sent and not
// let go yet.
func OutQueue(fd int) (int, syscall.Errno) { return ioctlInt(fd, unix.SIOCOUTQ) }

// InQueue is FIONREAD, which is SIOCINQ: the bytes that wait in a pipe, at either end, or to be read
// from a socket.
func InQueue(fd int) (int, syscall.Errno) { return ioctlInt(fd, unix.SIOCINQ) }

// NotSent is SIOCOUTQNSD: the bytes written to a TCP socket that have not been
// sent once.
func NotSent(fd int) (int, syscall.Errno) { return ioctlInt(fd, unix.SIOCOUTQNSD) }

func ioctlInt(fd int, op uintptr) (int, syscall.Errno) {
	var v int32
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(unsafe.Pointer(&v))); e != 0 {
		return 0, e
	}
	return int(v), 0
}

// SockMem is what a socket's memory is used for, in bytes; SO_MEMINFO.
type SockMem struct {
	SendBuffer int // sk_sndbuf, the limit
	SendAlloc  int // sk_wmem_alloc: packets below the socket
	SendQueued int // sk_wmem_queued: TCP's write and retransmit queues
	Options    int // sk_omem_alloc: completions not read yet, filters
}

// SocketMemory returns how much memory a socket uses. Linux 4.12.
func SocketMemory(fd int) (SockMem, syscall.Errno) {
	var v [9]uint32 // SK_MEMINFO_*, linux/sock_diag.h
	n := uint32(unsafe.Sizeof(v))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return SockMem{}, e
	}
	return SockMem{SendAlloc: int(v[2]), SendBuffer: int(v[3]), SendQueued: int(v[5]), Options: int(v[6])}, 0
}

// TCPProgress is how far a TCP connection is; TCP_INFO.
type TCPProgress struct {
	State      uint8  // TCP_*, net/tcp_states.h
	BytesAcked uint64 // tcpi_bytes_acked: by the peer, a SYN counts as one
	BytesSent  uint64 // tcpi_bytes_sent, Linux 4.19: retransmissions count again
	RTTMicros  uint32 // tcpi_rtt, smoothed
	SendMSS    uint32 // tcpi_snd_mss, bytes
	Window     uint32 // tcpi_snd_cwnd, segments
	NotSent    uint32 // tcpi_notsent_bytes, Linux 4.6
}

// TCPInfo returns how far a TCP connection is.
func TCPInfo(fd int) (TCPProgress, syscall.Errno) {
	var b [208]byte // struct tcp_info to tcpi_bytes_sent; linux/tcp.h
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return TCPProgress{}, e
	}
	ne := binary.NativeEndian
	return TCPProgress{
		State: b[0], SendMSS: ne.Uint32(b[16:]), Window: ne.Uint32(b[80:]), NotSent: ne.Uint32(b[144:]), RTTMicros: ne.Uint32(b[68:]), BytesAcked: ne.Uint64(b[120:]), BytesSent: ne.Uint64(b[200:]),
	}, 0
}
