package sys

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Protocols of [DumpInet].
const (
	ProtocolTCP = unix.IPPROTO_TCP
	ProtocolUDP = unix.IPPROTO_UDP
)

// InetSocket is what the kernel says of a TCP or UDP socket.
type InetSocket struct {
	State         uint8 // TCP_*, net/tcp_states.h
	Local, Remote netip.AddrPort
	Inode         uint64 // the N of socket:[N]; 0: of no process any more
	UID           uint32
	Cookie        uint64 // never used twice

	Queued  uint32 // SK_MEMINFO_WMEM_QUEUED: memory of what is not acknowledged, in bytes
	Optmem  uint32 // SK_MEMINFO_OPTMEM, in bytes
	Meminfo bool   // the kernel said so

	Sent, Retransmitted uint64 // TCP: tcpi_bytes_sent, tcpi_bytes_retrans; Linux 4.19
	Acked               uint64 // tcpi_bytes_acked
	Unsent              uint32 // tcpi_notsent_bytes
	Info                bool   // the kernel said so
}

// DumpInet asks for all sockets of one family and protocol, in any state, of the
// network namespace of n, a socket of [NetlinkSockDiag]; sock_diag(7). The kernel
// may load the module that answers.
func DumpInet(n *Netlink, family, protocol uint8) ([]InetSocket, error) {
	const skmeminfo, info = 7, 2 // INET_DIAG_SKMEMINFO, INET_DIAG_INFO; linux/inet_diag.h
	body := make([]byte, 56)     // inet_diag_req_v2
	body[0], body[1], body[2] = family, protocol, 1<<(skmeminfo-1)|1<<(info-1)
	binary.NativeEndian.PutUint32(body[4:], ^uint32(0))
	msgs, err := n.Query(sockDiagByFamily, NetlinkDump, body)
	if err != nil {
		return nil, Wrap("inet_diag", err)
	}
	out := make([]InetSocket, 0, len(msgs))
	for _, m := range msgs {
		if m.Type != sockDiagByFamily {
			continue
		}
		s, err := ParseInetSocket(m.Body)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// ParseInetSocket reads struct inet_diag_msg and its attributes.
func ParseInetSocket(b []byte) (s InetSocket, err error) {
	const message = 72
	if len(b) < message {
		return s, fmt.Errorf("inet_diag: %w: %d bytes", errNetlinkMalformed, len(b))
	}
	ne, be := binary.NativeEndian, binary.BigEndian
	addr := func(raw []byte) netip.Addr {
		if b[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(raw[:4]))
		}
		return netip.AddrFrom16([16]byte(raw)).Unmap()
	}
	s = InetSocket{
		State: b[1], UID: ne.Uint32(b[64:]), Inode: uint64(ne.Uint32(b[68:])),
		Local:  netip.AddrPortFrom(addr(b[8:24]), be.Uint16(b[4:])),
		Cookie: uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32,
	}
	if port := be.Uint16(b[6:]); port != 0 {
		s.Remote = netip.AddrPortFrom(addr(b[24:40]), port)
	}
	err = EachNetlinkAttr(b[message:], func(typ uint16, v []byte) error {
		const skmeminfo, info = 7, 2
		switch {
		case typ == skmeminfo && len(v) >= 4*(unix.SK_MEMINFO_OPTMEM+1):
			s.Queued, s.Optmem = ne.Uint32(v[4*unix.SK_MEMINFO_WMEM_QUEUED:]), ne.Uint32(v[4*unix.SK_MEMINFO_OPTMEM:])
			s.Meminfo = true
		case typ == info && len(v) >= 216: // struct tcp_info up to tcpi_bytes_retrans
			s.Acked, s.Unsent = ne.Uint64(v[120:]), ne.Uint32(v[144:])
			s.Sent, s.Retransmitted = ne.Uint64(v[200:]), ne.Uint64(v[208:])
			s.Info = true
		}
		return nil
	})
	return s, Wrap("inet_diag", err)
}
