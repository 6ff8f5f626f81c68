package sys

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What the kernel's TLS is spoken to with; linux/tls.h.
const (
	TLS12Version        = 0x0303 // TLS_1_2_VERSION
	TLS13Version        = 0x0304 // TLS_1_3_VERSION, Linux 5.1
	TLSAESGCM128        = 51     // TLS_CIPHER_AES_GCM_128
	TLSAESGCM256        = 52     // TLS_CIPHER_AES_GCM_256, Linux 5.1
	TLSChaCha20Poly1305 = 54     // TLS_CIPHER_CHACHA20_POLY1305, Linux 5.11

	TLSAlert           = 21 // content types of records, RFC 8446, B.1
	TLSApplicationData = 23

	TCPStateEstablished = 1 // TCP_ESTABLISHED, net/tcp_states.h
)

// TLSRecordControl is the length in bytes of what [TLSRecordType] makes.
const TLSRecordControl = 24

// TLSRecordType is the control message that gives what sendmsg(2) sends on a TLS
// socket the given content type; TLS_SET_RECORD_TYPE.
func TLSRecordType(b *[TLSRecordControl]byte, contentType byte) []byte {
	n := unix.CmsgSpace(1)
	clear(b[:])
	ne := binary.NativeEndian
	if n == TLSRecordControl { // cmsg_len is a size_t
		ne.PutUint64(b[0:], uint64(unix.CmsgLen(1)))
	} else {
		ne.PutUint32(b[0:], uint32(unix.CmsgLen(1)))
	}
	h := b[unix.CmsgLen(0)-8:]
	ne.PutUint32(h[0:], unix.SOL_TLS)
	ne.PutUint32(h[4:], 1) // TLS_SET_RECORD_TYPE
	h[8] = contentType
	return b[:n]
}

// TLSTransmit is how the kernel encrypts what a socket sends; TLS_CONF_*, linux/tls.h.
type TLSTransmit uint16

// The ways. 0 is not known.
const (
	TLSTransmitPlain    TLSTransmit = 1 // not at all
	TLSTransmitSoftware TLSTransmit = 2
	TLSTransmitDevice   TLSTransmit = 3
)

// TLSSocket is what the kernel says of a TCP socket with its TLS.
type TLSSocket struct {
	Transmit     TLSTransmit // 0 where this caller is not told
	ZerocopyFile bool        // TLS_INFO_ZC_RO_TX: the device reads files where they are
}

// FindTLS asks how the TCP socket with the given ends encrypts; sock_diag(7). Most
// kernels say it to CAP_NET_ADMIN alone (tcp_diag_get_aux).
func FindTLS(local, remote netip.AddrPort) (TLSSocket, error) {
	var b [diagMost]byte
	n, err := askTCP(b[:], local, remote)
	if err != nil {
		return TLSSocket{}, err
	}
	if _, err := tcpDiagReply(b[:n]); err != nil {
		return TLSSocket{}, Wrap("inet_diag", err)
	}
	return tlsDiagReply(b[diagReplyBytes:n]), nil
}

const (
	inetDiagULPInfo = 19 // INET_DIAG_ULP_INFO, linux/inet_diag.h
	inetULPInfoTLS  = 2  // INET_ULP_INFO_TLS
	tlsInfoTxConf   = 3  // TLS_INFO_TXCONF, linux/tls.h
	tlsInfoZCROTx   = 5  // TLS_INFO_ZC_RO_TX, Linux 5.19
)

// tlsDiagReply reads the attributes of an answer. What is not as it should be is not
// known.
func tlsDiagReply(attrs []byte) (s TLSSocket) {
	_ = EachNetlinkAttr(attrs, func(typ uint16, value []byte) error {
		if typ != inetDiagULPInfo {
			return nil
		}
		return EachNetlinkAttr(value, func(typ uint16, value []byte) error {
			if typ != inetULPInfoTLS {
				return nil
			}
			return EachNetlinkAttr(value, func(typ uint16, value []byte) error {
				switch {
				case typ == tlsInfoTxConf && len(value) >= 2:
					s.Transmit = TLSTransmit(binary.NativeEndian.Uint16(value))
				case typ == tlsInfoZCROTx:
					s.ZerocopyFile = true
				}
				return nil
			})
		})
	})
	return s
}
