package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// pathTrial is one functional test of a path's kernel facts, on loopback.
type pathTrial struct {
	out Outcome
	fds []int
	mem []byte
}

func newPathTrial(id string) *pathTrial {
	return &pathTrial{out: Outcome{ID: id, Seen: map[string]int64{}}}
}

func (t *pathTrial) close() Outcome {
	for _, fd := range t.fds {
		_ = sys.Close(fd) // throw-away
	}
	if t.mem != nil {
		_ = sys.Munmap(t.mem)
	}
	return t.out
}

// step records a call and reports whether it succeeded.
func (t *pathTrial) step(op string, err error) bool {
	s := Step{Op: op}
	if err != nil {
		if s.Errno = sys.ErrnoName(err); s.Errno == "" {
			s.Errno = err.Error()
		}
	}
	t.out.Steps = append(t.out.Steps, s)
	return err == nil
}

func (t *pathTrial) udp() (int, bool) {
	fd, err := sys.Socket(sys.AFInet, sys.SockDgram, 0)
	if err == nil {
		t.fds = append(t.fds, fd)
	}
	return fd, t.step("socket UDP", err)
}

// sender makes a connected socket that sends with MSG_ZEROCOPY, and memory to
// send that is not Go's: the kernel may read it at any time.
func (t *pathTrial) sender(prepare func(fd int) bool, to netip.AddrPort) (int, bool) {
	fd, ok := t.udp()
	if !ok || !prepare(fd) ||
		!t.step("setsockopt SO_ZEROCOPY", sys.SetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy, 1)) ||
		!t.step("connect", sys.Connect(fd, to)) {
		return -1, false
	}
	mem, err := sys.Mmap(-1, 0, pathTestPage, sys.ProtRead|sys.ProtWrite, sys.MapPrivate|sys.MapAnonymous)
	t.mem = mem
	return fd, t.step("mmap", err)
}

const (
	pathTestPage       = 4096
	pathTestCompletion = 300 * time.Millisecond // loopback completes within the send
)

// tryForward sends a datagram with MSG_ZEROCOPY over lo, to a multicast group
// that this machine has not joined: IP takes it in and throws it away before
// local delivery. Seen "completion_code" 1 says its pages were copied on the
// way in; 0, that they were not. The datagram cannot leave: its device is lo.
func tryForward() Outcome {
	t := newPathTrial(testForward)
	group := netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 122, 99}), 9) // RFC 2365: local scope; discard
	fd, ok := t.sender(func(fd int) bool {
		mreq := make([]byte, 12) // struct ip_mreqn: group, address, interface index
		binary.NativeEndian.PutUint32(mreq[8:], sys.LoopbackIndex)
		return t.step("setsockopt IP_MULTICAST_IF", sys.SetsockoptBytes(fd, sys.SolIP, sys.IPMulticastIf, mreq))
	}, group)
	if !ok {
		return t.close()
	}
	_, err := sys.Send(fd, t.mem[:forwardTestBytes], sys.MsgZerocopy)
	if t.step("send MSG_ZEROCOPY", err) {
		code, err := completionCode(fd)
		if t.step("recvmsg MSG_ERRQUEUE", err) {
			t.out.Seen["completion_code"] = int64(code)
		}
	}
	return t.close()
}

// tryUDPHead finds how many bytes of a zero-copy datagram the kernel copies
// into the packet head. The datagram is held back with MSG_MORE, which with
// UDP_SEGMENT keeps the pages lent, and its memory overwritten: bytes that
// arrive old had been copied. Seen "head_bytes".
func tryUDPHead() Outcome {
	t := newPathTrial(testUDPHead)
	in, ok := t.udp()
	if !ok || !t.step("bind", sys.Bind(in, netip.MustParseAddrPort("127.0.0.1:0"))) {
		return t.close()
	}
	to, err := sys.LocalAddr(in)
	if !t.step("getsockname", err) {
		return t.close()
	}
	fd, ok := t.sender(func(fd int) bool {
		return t.step("setsockopt UDP_SEGMENT", sys.SetsockoptInt(fd, sys.SolUDP, sys.UDPSegment, 2*udpHeadTestBytes))
	}, to)
	if !ok {
		return t.close()
	}
	fillByte(t.mem[:udpHeadTestBytes], 'a')
	_, err = sys.Send(fd, t.mem[:udpHeadTestBytes], sys.MsgZerocopy|sys.MsgMore)
	if !t.step("send MSG_ZEROCOPY, MSG_MORE", err) {
		return t.close()
	}
	fillByte(t.mem[:udpHeadTestBytes], 'b')
	_, err = sys.Send(fd, []byte{'c'}, 0)
	if !t.step("send", err) {
		return t.close()
	}
	got := make([]byte, 2*udpHeadTestBytes)
	n, err := sys.Recv(in, got, 0)
	if err == nil && n != udpHeadTestBytes+1 {
		err = fmt.Errorf("%d bytes came", n)
	}
	if t.step("recv", err) {
		head := 0
		for head < udpHeadTestBytes && got[head] == 'a' {
			head++
		}
		t.out.Seen["head_bytes"] = int64(head)
	}
	return t.close()
}

func fillByte(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// completionCode waits for the first completion of MSG_ZEROCOPY.
func completionCode(fd int) (uint8, error) {
	var oob [256]byte
	for end := time.Now().Add(pathTestCompletion); ; {
		_, n, err := sys.RecvErrqueue(fd, nil, oob[:])
		switch {
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			left := time.Until(end)
			if left <= 0 {
				return 0, errors.New("no completion")
			}
			if _, err := sys.Poll(fd, 0, int(left.Milliseconds())+1); err != nil && !errors.Is(err, syscall.EINTR) {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		}
		entries, err := sys.ParseErrqueue(oob[:n])
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.Origin == sys.OriginZerocopy {
				return e.Code, nil
			}
		}
	}
}
