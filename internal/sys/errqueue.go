package sys

import (
	"encoding/binary"
	"errors"
)

// Where an error queue entry comes from (SO_EE_ORIGIN_*) and what its code may
// say; linux/errqueue.h.
const (
	OriginLocal     = 1
	OriginICMP      = 2
	OriginICMP6     = 3
	OriginTimestamp = 4
	OriginZerocopy  = 5

	// ZerocopyCopied is SO_EE_CODE_ZEROCOPY_COPIED: some of the data of the
	// range was copied after all.
	ZerocopyCopied = 1
)

// ErrqueueEntry is one struct sock_extended_err. For completions of
// MSG_ZEROCOPY, Origin is OriginZerocopy, Errno is 0, and the sends Lo to Hi,
// counted from 0 in the life of the socket, are done; the counter wraps, so Hi
// may be smaller than Lo.
type ErrqueueEntry struct {
	Errno  uint32
	Origin uint8
	Type   uint8
	Code   uint8
	Lo, Hi uint32 // ee_info, ee_data
}

// Control message levels and types that carry a sock_extended_err:
// IP_RECVERR, IPV6_RECVERR, PACKET_TX_TIMESTAMP, VSOCK_RECVERR.
var errqueueMessages = [][2]uint32{{0, 11}, {41, 25}, {263, 16}, {287, 1}}

const (
	cmsgHeader = 16 // struct cmsghdr on 64-bit machines: u64 length, u32 level, u32 type
	sockEE     = 16 // struct sock_extended_err
)

var errBadControl = errors.New("malformed control message")

// ParseErrqueue returns the error queue entries among the control messages in
// oob, usually one. Control messages of other kinds are skipped; those that do
// not fit are an error.
func ParseErrqueue(oob []byte) ([]ErrqueueEntry, error) { return AppendErrqueue(nil, oob) }

// AppendErrqueue is [ParseErrqueue] into memory of the caller's.
func AppendErrqueue(out []ErrqueueEntry, oob []byte) ([]ErrqueueEntry, error) {
	le := binary.NativeEndian
	for len(oob) > 0 {
		if len(oob) < cmsgHeader {
			return nil, errBadControl
		}
		length := le.Uint64(oob)
		if length < cmsgHeader || length > uint64(len(oob)) {
			return nil, errBadControl
		}
		kind := [2]uint32{le.Uint32(oob[8:]), le.Uint32(oob[12:])}
		data := oob[cmsgHeader:length]
		for _, m := range errqueueMessages {
			if kind != m {
				continue
			}
			if len(data) < sockEE {
				return nil, errBadControl
			}
			out = append(out, ErrqueueEntry{
				Errno: le.Uint32(data), Origin: data[4], Type: data[5], Code: data[6],
				Lo: le.Uint32(data[8:]), Hi: le.Uint32(data[12:]),
			})
		}
		oob = oob[min(int(length+7)&^7, len(oob)):]
	}
	return out, nil
}
