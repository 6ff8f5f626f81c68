package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// Netlink protocols; netlink(7).
const (
	NetlinkRoute    = unix.NETLINK_ROUTE
	NetlinkSockDiag = unix.NETLINK_SOCK_DIAG
	NetlinkGeneric  = unix.NETLINK_GENERIC
)

// NetlinkDump asks for all objects instead of one.
const NetlinkDump = unix.NLM_F_DUMP

// ErrNetlinkInterrupted says that the list changed while the kernel wrote it
// out, each time it was asked: entries may be missing or be there twice.
var ErrNetlinkInterrupted = errors.New("netlink dump interrupted by changes")

// Bounds of one query. An RTM_NEWLINK is about 1.5 KiB, so the total is enough
// for twenty thousand devices. A message is at most 32 KiB unless it carries
// the table of an adapter's virtual functions, which we do not ask for.
const (
	netlinkTotal    = 32 << 20
	netlinkBuffer   = 64 << 10
	netlinkBufMax   = 1 << 20
	netlinkAttempts = 5
)

// NetlinkMessage is one message without its header. Body is the caller's.
type NetlinkMessage struct {
	Type uint16
	Body []byte
}

// Netlink is a netlink socket. It belongs to the network namespace its thread
// was in when it was opened. It is not for concurrent use.
type Netlink struct {
	fd  int
	seq uint32
	buf []byte
}

// OpenNetlink opens a netlink socket. No answer takes longer than two seconds,
// after which it is EAGAIN.
func OpenNetlink(protocol int) (*Netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, Wrap("socket AF_NETLINK", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		unix.Close(fd)
		return nil, Wrap("setsockopt SO_RCVTIMEO", err)
	}
	return &Netlink{fd: fd, buf: make([]byte, netlinkBuffer)}, nil
}

// Close closes the socket.
func (n *Netlink) Close() error { return Wrap("close netlink", unix.Close(n.fd)) }

// Query sends one request and returns the messages that answer it, without the
// acknowledgement. flags is NetlinkDump or 0. An error of the kernel is a
// syscall.Errno. The messages of a dump that was interrupted five times are
// returned with ErrNetlinkInterrupted. After any other error the socket may
// still hold part of the answer and must be closed.
func (n *Netlink) Query(typ, flags uint16, body []byte) ([]NetlinkMessage, error) {
	op := fmt.Sprintf("netlink request %d", typ)
	flags |= unix.NLM_F_REQUEST
	if flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
		flags |= unix.NLM_F_ACK
	}
	var msgs []NetlinkMessage
	var err error
	for range netlinkAttempts {
		n.seq++
		if err := n.send(typ, flags, body); err != nil {
			return nil, Wrap("send "+op, err)
		}
		r := netlinkReply{seq: n.seq, dump: flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP}
		msgs, err = r.collect(n.recv)
		if !errors.Is(err, ErrNetlinkInterrupted) && !errors.Is(err, errNetlinkShort) {
			break
		}
	}
	return msgs, Wrap(op, err)
}

func (n *Netlink) send(typ, flags uint16, body []byte) error {
	b := make([]byte, 0, unix.NLMSG_HDRLEN+len(body))
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, n.seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // our port: the kernel gives one
	b = append(b, body...)
	return ignoringEINTR(func() error {
		return unix.Sendto(n.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

// recv returns one datagram of the kernel; it is valid until the next call.
// What another process sent is dropped: only port 0 is the kernel.
func (n *Netlink) recv() ([]byte, error) {
	var size, flags int
	var from unix.Sockaddr
	err := ignoringEINTR(func() (err error) {
		size, _, flags, from, err = unix.Recvmsg(n.fd, n.buf, nil, unix.MSG_TRUNC)
		return err
	})
	if err != nil {
		return nil, err
	}
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return nil, nil
	}
	if flags&unix.MSG_TRUNC != 0 || size > len(n.buf) {
		// MSG_TRUNC in the call makes size the true length.
		if size > netlinkBufMax {
			return nil, fmt.Errorf("%w: message of %d bytes", errNetlinkMalformed, size)
		}
		n.buf = make([]byte, max(size, 2*len(n.buf)))
		return nil, errNetlinkShort
	}
	return n.buf[:size], nil
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR { //nolint:errorlint // straight from the kernel
			return err
		}
	}
}

var (
	errNetlinkShort     = errors.New("message larger than the buffer")
	errNetlinkMalformed = errors.New("malformed netlink message")
)

// netlinkReply gathers the answer to one request.
type netlinkReply struct {
	seq  uint32
	dump bool

	msgs        []NetlinkMessage
	total       int
	interrupted bool
	short       bool // a message was cut; the buffer has grown since
}

// collect reads datagrams until the answer is complete. What is left over of
// an earlier answer has another sequence number and is skipped.
func (r *netlinkReply) collect(recv func() ([]byte, error)) ([]NetlinkMessage, error) {
	for {
		b, err := recv()
		if errors.Is(err, errNetlinkShort) && r.dump {
			// Read on to the end: the kernel refuses a second dump on a
			// socket before the first is through (EBUSY).
			r.short, err = true, nil
		}
		if err != nil {
			return nil, err
		}
		r.total += max(len(b), 1024) // empty ones end the loop too
		if r.total > netlinkTotal {
			return nil, fmt.Errorf("netlink answer is over %d bytes", netlinkTotal)
		}
		done, err := r.datagram(b)
		if err != nil {
			return nil, err
		}
		switch {
		case !done:
		case r.short:
			return nil, errNetlinkShort
		case r.interrupted:
			return r.msgs, ErrNetlinkInterrupted
		default:
			return r.msgs, nil
		}
	}
}

// datagram takes the messages of one datagram and reports whether the answer
// ended with it.
func (r *netlinkReply) datagram(b []byte) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < unix.NLMSG_HDRLEN {
			return false, fmt.Errorf("%w: %d bytes left", errNetlinkMalformed, len(b))
		}
		length := binary.NativeEndian.Uint32(b)
		typ := binary.NativeEndian.Uint16(b[4:])
		flags := binary.NativeEndian.Uint16(b[6:])
		seq := binary.NativeEndian.Uint32(b[8:])
		if length < unix.NLMSG_HDRLEN || uint64(length) > uint64(len(b)) {
			return false, fmt.Errorf("%w: length %d of %d", errNetlinkMalformed, length, len(b))
		}
		body := b[unix.NLMSG_HDRLEN:length]
		b = b[min(align4(int(length)), len(b)):]
		if seq != r.seq {
			continue
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 {
			r.interrupted = true
		}
		switch typ {
		case unix.NLMSG_NOOP:
		case unix.NLMSG_OVERRUN:
			return false, fmt.Errorf("%w: overrun", errNetlinkMalformed)
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			return true, netlinkErrno(typ, body)
		default:
			r.msgs = append(r.msgs, NetlinkMessage{Type: typ, Body: append([]byte(nil), body...)})
		}
	}
	return false, nil
}

// netlinkErrno reads the negative errno that NLMSG_ERROR and NLMSG_DONE start
// with; 0 is success, and an NLMSG_DONE may lack it.
func netlinkErrno(typ uint16, body []byte) error {
	if len(body) < 4 {
		if typ == unix.NLMSG_DONE {
			return nil
		}
		return fmt.Errorf("%w: error of %d bytes", errNetlinkMalformed, len(body))
	}
	e := int32(binary.NativeEndian.Uint32(body))
	switch {
	case e == 0:
		return nil
	case e < 0 && e > -4096: // MAX_ERRNO
		return syscall.Errno(-e)
	}
	return fmt.Errorf("%w: error number %d", errNetlinkMalformed, e)
}

func align4(n int) int { return (n + 3) &^ 3 }

// AppendNetlinkAttr appends an attribute with its padding.
func AppendNetlinkAttr(b []byte, typ uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align4(len(value))-len(value))...)
}

// EachNetlinkAttr calls fn for each attribute in b, its type without the flag
// bits, until fn returns an error. Attributes that do not fit are an error.
func EachNetlinkAttr(b []byte, fn func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < unix.NLA_HDRLEN {
			return fmt.Errorf("netlink attribute: %d bytes left: %w", len(b), io.ErrUnexpectedEOF)
		}
		length := int(binary.NativeEndian.Uint16(b))
		typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if length < unix.NLA_HDRLEN || length > len(b) {
			return fmt.Errorf("netlink attribute %d: length %d of %d: %w", typ, length, len(b), io.ErrUnexpectedEOF)
		}
		if err := fn(typ, b[unix.NLA_HDRLEN:length]); err != nil {
			return err
		}
		b = b[min(align4(length), len(b)):]
	}
	return nil
}
