package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Families of throw-away sockets over loopback.
var (
	loopback4 = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	loopback6 = netip.AddrPortFrom(netip.IPv6Loopback(), 0)
)

func familyOf(a netip.AddrPort) (int, string) {
	if a.Addr().Is4() {
		return sys.AFInet, "AF_INET"
	}
	return sys.AFInet6, "AF_INET6"
}

// loaded reports whether the kernel has a network family, by one of the names
// in /proc/net/protocols; opening a socket of a family it lacks makes the
// kernel look for a module. Where it is not listed, Seen "listed" is 0.
func (t *trial) loaded(family, name string) bool {
	switch {
	case len(t.host.Protocols) == 0:
		t.notTried("whether " + family + " is there could not be read from /proc/net/protocols, and opening a socket could make the kernel load a module")
		return false
	case !slices.Contains(t.host.Protocols, name):
		t.see("listed", 0)
		t.notTried(family + " is not in /proc/net/protocols, and opening a socket would make the kernel look for a module")
		return false
	}
	return true
}

// canUse says whether sockets of an address may be tried: IPv6 can be a module,
// and what is sent over a loopback that is down vanishes without an error
// (Seen "loopback_up" 0).
func (t *trial) canUse(a netip.AddrPort) bool {
	if !t.looked {
		t.rig.looked = true
		t.lookAtLoopback()
	}
	if t.down {
		t.see("loopback_up", 0)
	}
	if t.silent != "" {
		t.notTried(t.silent)
		return false
	}
	return a.Addr().Is4() || t.loaded("AF_INET6", "TCPv6")
}

// lookAtLoopback finds out whether it is down. If it cannot, the tests will.
func (t *trial) lookAtLoopback() {
	fd, err := t.k.Socket(sys.AFInet, sys.SockDgram, 0)
	if err != nil {
		return
	}
	defer t.k.CloseFD(fd)
	if up, err := t.k.LoopbackUp(fd); err == nil && !up {
		t.rig.down, t.rig.silent = true, "loopback is down"
	}
}

// bound makes a socket bound to a loopback address and returns where.
func (t *trial) bound(a netip.AddrPort, typ int) (int, netip.AddrPort, bool) {
	family, name := familyOf(a)
	fd, err := t.k.Socket(family, typ, 0)
	if !t.prep("socket "+name, err) {
		return -1, a, false
	}
	t.own(fd)
	if !t.prep("bind "+a.Addr().String(), t.k.Bind(fd, a)) {
		return -1, a, false
	}
	at, err := t.k.LocalAddr(fd)
	return fd, at, t.prep("getsockname", err)
}

// pairBuffer holds what a test sends before it receives any of it, whatever
// net.ipv4.tcp_wmem and tcp_rmem begin with. The kernel doubles it.
const pairBuffer = 128 << 10

// tcpPair connects two TCP sockets over loopback: one to send, one to receive.
func (t *trial) tcpPair(a netip.AddrPort) (out, in int, ok bool) {
	if !t.canUse(a) {
		return -1, -1, false
	}
	l, at, ok := t.bound(a, sys.SockStream)
	if !ok {
		return -1, -1, false
	}
	// The accepted socket inherits it. Where that fails the defaults mostly do.
	_ = t.k.SetInt(l, sys.SolSocket, sys.SoRcvbuf, pairBuffer)
	if !t.prep("listen", t.k.Listen(l, 4)) {
		return -1, -1, false
	}
	family, name := familyOf(a)
	out, err := t.k.Socket(family, sys.SockStream, 0)
	if !t.prep("socket "+name, err) {
		return -1, -1, false
	}
	t.own(out)
	_ = t.k.SetInt(out, sys.SolSocket, sys.SoSndbuf, pairBuffer)
	if !t.prep("setsockopt SO_LINGER", t.k.LingerReset(out)) || !t.connect(out, at) {
		return -1, -1, false
	}
	mine, err := t.k.LocalAddr(out)
	if !t.prep("getsockname", err) {
		return -1, -1, false
	}
	for range 4 { // another process may have connected to our port first
		fd, peer, err := t.k.Accept(l)
		if errors.Is(err, syscall.EAGAIN) && t.wait(l, sys.PollIn, waitArrival) {
			continue
		}
		if !t.prep("accept", err) {
			return -1, -1, false
		}
		t.own(fd)
		if peer == mine {
			return out, fd, true
		}
	}
	return -1, -1, t.prep("accept", errWait)
}

// sharedPair returns a connection over loopback for a test that leaves no
// option set on it and nothing in it.
func (t *trial) sharedPair() (out, in int, ok bool) {
	t.onStream = true
	if t.stream == nil {
		out, in, ok := t.tcpPair(loopback4)
		if !ok {
			return -1, -1, false
		}
		t.rig.stream = []int{out, in}
		t.fds = slices.DeleteFunc(t.fds, func(fd int) bool { return fd == out || fd == in })
	}
	return t.stream[0], t.stream[1], true
}

// ackNow sends the acknowledgement that a receiver may be holding back, for up
// to 40 ms: a sender's memory is not released before. Other sockets than TCP
// have none.
func (t *trial) ackNow(in int) { _ = t.k.SetInt(in, sys.SolTCP, sys.TCPQuickack, 1) }

// connect connects, and waits where the kernel asks for it. If nothing answers
// on loopback, no later test waits for it again.
func (t *trial) connect(fd int, at netip.AddrPort) bool {
	err := t.k.Connect(fd, at)
	if errors.Is(err, syscall.EINPROGRESS) || errors.Is(err, syscall.EINTR) {
		if !t.wait(fd, sys.PollOut, waitArrival) {
			t.rig.silent = "a TCP connection over loopback was not answered; a packet filter may drop it"
			return t.prep("connect "+at.Addr().String(), errWait)
		}
		soError, getErr := t.k.GetInt(fd, sys.SolSocket, sys.SoError)
		if err = getErr; err == nil && soError != 0 {
			err = syscall.Errno(soError)
		}
	}
	return t.prep("connect "+at.Addr().String(), err)
}

// udpPair makes two UDP sockets that hear only each other: one to send, one to
// receive.
func (t *trial) udpPair(a netip.AddrPort) (out, in int, ok bool) {
	if !t.canUse(a) {
		return -1, -1, false
	}
	out, outAt, ok := t.bound(a, sys.SockDgram)
	if !ok {
		return -1, -1, false
	}
	in, inAt, ok := t.bound(a, sys.SockDgram)
	ok = ok && t.prep("connect", t.k.Connect(out, inAt)) && t.prep("connect", t.k.Connect(in, outAt))
	return out, in, ok
}

// datagram receives one datagram into the rig's buffer, waiting d for it. nil:
// none came.
func (t *trial) datagram(fd int, d time.Duration) ([]byte, error) {
	for {
		n, err := t.k.Recv(fd, t.buf, 0)
		switch {
		case err == nil:
			return t.buf[:max(n, 0)], nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EAGAIN):
			return nil, err
		case !t.wait(fd, sys.PollIn, d):
			return nil, nil
		}
	}
}

// marker is a datagram sent after others. What is not there when it arrives
// will not come: datagrams of one flow keep their order over loopback.
var marker = []byte("zcprobe: end")

// datagrams receives what was sent before a marker, which it sends first. The
// data of all together goes to the rig's buffer.
func (t *trial) datagrams(out, in int) (got []byte, err error) {
	if n, err := t.k.Send(out, marker, 0); err != nil || n != len(marker) {
		return nil, err
	}
	total := 0
	for {
		n, err := t.k.Recv(in, t.buf[total:], 0)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			if !t.wait(in, sys.PollIn, waitArrival) {
				return nil, errWait
			}
		case err != nil:
			return nil, err
		case bytes.Equal(t.buf[total:total+n], marker):
			return t.buf[:total], nil
		default:
			if total += n; total == len(t.buf) {
				return nil, errors.New("more datagrams than were sent")
			}
		}
	}
}

// drops returns how many datagrams the receiver has thrown away, 0 where the
// kernel does not tell.
func (t *trial) drops(fd int) uint32 {
	var mem [4 * 9]byte
	n, err := t.k.GetBytes(fd, sys.SolSocket, sys.SoMeminfo, mem[:])
	at := 4 * sys.MeminfoDrops
	if err != nil || n < at+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(mem[at:])
}

// pipe makes a pipe: where to read, where to write.
func (t *trial) pipe() (r, w int, ok bool) {
	p, err := t.k.Pipe()
	if !t.prep("pipe2", err) {
		return -1, -1, false
	}
	t.own(p[0], p[1])
	return p[0], p[1], true
}
