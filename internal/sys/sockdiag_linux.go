package sys

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCPStateListen is TCP_LISTEN, net/tcp_states.h.
const TCPStateListen = 10

// TCPSocket is what the kernel says of a TCP socket of this network namespace.
type TCPSocket struct {
	State  uint8 // TCP_*, net/tcp_states.h
	Unread uint32
	Queued uint32 // bytes not acknowledged
}

// FindTCP asks for the TCP socket with the given ends, of any process of the
// network namespace that the thread is in; sock_diag(7). ENOENT: there is none. If
// only one listens at the local end it is that one.
func FindTCP(local, remote netip.AddrPort) (TCPSocket, error) {
	var b [diagMost]byte
	n, err := askTCP(b[:], local, remote)
	if err != nil {
		return TCPSocket{}, err
	}
	s, err := tcpDiagReply(b[:n])
	return s, Wrap("inet_diag", err)
}

// diagMost is as long as an answer is read; it has 72 bytes and a few attributes.
const diagMost = 512

// askTCP reads the kernel's answer about the TCP socket with the given ends.
func askTCP(b []byte, local, remote netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, Wrap("socket NETLINK_SOCK_DIAG", err)
	}
	defer unix.Close(fd)
	// The kernel answers before write returns; nothing is waited for.
	request := tcpDiagRequest(local, remote)
	if _, err := unix.Write(fd, request[:]); err != nil {
		return 0, Wrap("write NETLINK_SOCK_DIAG", err)
	}
	n, err := unix.Read(fd, b)
	return n, Wrap("read NETLINK_SOCK_DIAG", err)
}

const (
	sockDiagByFamily = 20           // SOCK_DIAG_BY_FAMILY, linux/sock_diag.h
	diagRequestBytes = 16 + 56      // nlmsghdr and inet_diag_req_v2, linux/inet_diag.h
	diagReplyBytes   = 16 + 56 + 16 // nlmsghdr and inet_diag_msg
)

func tcpDiagRequest(local, remote netip.AddrPort) (b [diagRequestBytes]byte) {
	ne, be := binary.NativeEndian, binary.BigEndian
	ne.PutUint32(b[0:], diagRequestBytes)
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[16:]
	r[1] = unix.IPPROTO_TCP
	ne.PutUint32(r[4:], ^uint32(0)) // in any state
	be.PutUint16(r[8:], local.Port())
	be.PutUint16(r[10:], remote.Port())
	l, m := local.Addr().Unmap(), remote.Addr().Unmap()
	if l.Is4() && m.Is4() {
		r[0] = unix.AF_INET
		src, dst := l.As4(), m.As4()
		copy(r[12:], src[:])
		copy(r[28:], dst[:])
	} else {
		r[0] = unix.AF_INET6
		src, dst := l.As16(), m.As16()
		copy(r[12:], src[:])
		copy(r[28:], dst[:])
	}
	ne.PutUint64(r[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

func tcpDiagReply(b []byte) (TCPSocket, error) {
	ne := binary.NativeEndian
	if len(b) < 20 {
		return TCPSocket{}, errNetlinkMalformed
	}
	switch ne.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		if e := -int32(ne.Uint32(b[16:])); e > 0 {
			return TCPSocket{}, syscall.Errno(e)
		}
	case sockDiagByFamily:
		if len(b) >= diagReplyBytes {
			return TCPSocket{State: b[17], Unread: ne.Uint32(b[72:]), Queued: ne.Uint32(b[76:])}, nil
		}
	}
	return TCPSocket{}, errNetlinkMalformed
}
