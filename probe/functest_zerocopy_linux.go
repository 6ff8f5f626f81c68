package probe

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// zerocopyTests send with MSG_ZEROCOPY and wait for the completion. Seen:
// "sent_bytes" of the send that went out whole; "refused_bytes", a larger one
// that a limit refused, with "memlock_bytes", -1 for no limit; "lo", "hi",
// "completion_code" (1: copied, as always on loopback) and "completion_errno"
// of the first completion; "completed" sends in all of them; "equal".
func zerocopyTests() []functest {
	return []functest{
		{"msg_zerocopy.tcp4", func(t *trial) { testZerocopyTCP(t, loopback4) }, true},
		{"msg_zerocopy.tcp6", func(t *trial) { testZerocopyTCP(t, loopback6) }, true},
		{"msg_zerocopy.udp4", func(t *trial) { testZerocopyUDP(t, loopback4) }, true},
		{"msg_zerocopy.udp6", func(t *trial) { testZerocopyUDP(t, loopback6) }, true},
		{"msg_zerocopy.vsock", testZerocopyVsock, false},
		{"udp.gso", testUDPGSO, true},
	}
}

// Sizes to send. The large one is what servers send at a time; the small one
// still fits where the locked-memory limit is 12 KiB.
const (
	zcLarge    = 64 << 10
	zcLargeUDP = 60 << 10 // with headers under the MTU of lo: larger is copied at send
	zcSmall    = 4 << 10
)

func testZerocopyTCP(t *trial, a netip.AddrPort) {
	if out, in, ok := t.tcpPair(a); ok {
		t.zerocopy(out, in, zcLarge)
	}
}

func testZerocopyUDP(t *trial, a netip.AddrPort) {
	if out, in, ok := t.udpPair(a); ok {
		t.zerocopy(out, in, zcLargeUDP)
	}
}

// zerocopy sends large, or where a limit refuses that, zcSmall bytes, reads
// what arrives, and collects the completions.
func (t *trial) zerocopy(out, in, large int) {
	if !t.step("setsockopt SO_ZEROCOPY", t.k.SetInt(out, sys.SolSocket, sys.SoZerocopy, 1)) {
		return
	}
	if on, err := t.k.GetInt(out, sys.SolSocket, sys.SoZerocopy); err == nil && on != 1 {
		t.step("getsockopt SO_ZEROCOPY", errors.New("stays 0"))
		return
	}
	mem, ok := t.memory(large)
	if !ok {
		return
	}
	sends, ok := t.sendZerocopy(out, mem)
	if !ok && t.out.Seen["refused_bytes"] > 0 {
		mem = mem[:zcSmall]
		sends, ok = t.sendZerocopy(out, mem)
	}
	if !ok {
		return
	}
	got, err := t.receive(in, len(mem), waitArrival)
	t.see("received_bytes", int64(len(got)))
	t.seeBool("equal", bytes.Equal(got, mem))
	if err != nil {
		t.step("recv", err)
		return
	}
	t.ackNow(in)
	t.completions(out, sends)
}

// sendZerocopy sends all of mem and returns how many sends that took. A stream
// socket may take it in parts, each of which is completed on its own.
func (t *trial) sendZerocopy(fd int, mem []byte) (sends int, ok bool) {
	n, err := move(len(mem), func(done int) (int, error) {
		n, err := t.k.Send(fd, mem[done:], sys.MsgZerocopy)
		if err == nil {
			sends++
		}
		return n, err
	})
	op := fmt.Sprintf("send MSG_ZEROCOPY %d bytes", len(mem))
	if errors.Is(err, syscall.ENOBUFS) && n == 0 {
		t.see("refused_bytes", int64(len(mem)))
		t.seeMemlock()
	}
	if err == nil && n < len(mem) {
		err = errors.New("short send")
	}
	t.see("sent_bytes", int64(n))
	return sends, t.step(op, err)
}

// completions reads the error queue until all sends are completed.
func (t *trial) completions(fd, sends int) {
	const op = "recvmsg MSG_ERRQUEUE"
	var oob [256]byte
	done, end := 0, time.Now().Add(waitCompletion)
	for done < sends {
		_, n, err := t.k.RecvErr(fd, t.buf, oob[:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			if left := time.Until(end); left <= 0 || !t.wait(fd, 0, left) {
				t.step(op, errWait)
				return
			}
			continue
		case err != nil:
			t.step(op, err)
			return
		}
		entries, err := sys.ParseErrqueue(oob[:n])
		if err == nil && len(entries) == 0 {
			err = errors.New("an entry without a cause")
		}
		if err != nil {
			t.step(op, err)
			return
		}
		for _, e := range entries {
			if e.Origin != sys.OriginZerocopy {
				continue // an ICMP error or a timestamp
			}
			if done == 0 {
				t.see("lo", int64(e.Lo))
				t.see("hi", int64(e.Hi))
				t.see("completion_code", int64(e.Code))
				t.see("completion_errno", int64(e.Errno))
			}
			done += int(min(e.Hi-e.Lo, 1<<16)) + 1
		}
	}
	t.see("completed", int64(done))
	t.stepValue(op, fmt.Sprintf("sends %d to %d completed, code %d", t.out.Seen["lo"], t.out.Seen["hi"], t.out.Seen["completion_code"]), nil)
}

// testZerocopyVsock asks for zero-copy on a vsock socket, and where the
// loopback transport is there, sends over it. A connection to any other address
// would leave the machine. Seen "accepted" 1: the option was accepted, which
// says nothing about the transport.
func testZerocopyVsock(t *trial) {
	if !t.loaded("AF_VSOCK", "AF_VSOCK") {
		return
	}
	out, err := t.k.Socket(sys.AFVsock, sys.SockStream, 0)
	if !t.step("socket AF_VSOCK", err) {
		return
	}
	t.own(out)
	if !t.step("setsockopt SO_ZEROCOPY", t.k.SetInt(out, sys.SolSocket, sys.SoZerocopy, 1)) {
		return
	}
	t.see("accepted", 1)
	// Without this transport the kernel would take address 1 for the host's.
	switch t.host.Modules["vsock_loopback"] {
	case "loaded", "builtin":
	default:
		return
	}
	l, err := t.k.Socket(sys.AFVsock, sys.SockStream, 0)
	if !t.prep("socket AF_VSOCK", err) {
		return
	}
	t.own(l)
	if !t.prep("bind vsock", t.k.BindVsock(l, sys.VsockLocalCID, ^uint32(0))) || !t.prep("listen", t.k.Listen(l, 1)) {
		return
	}
	port, err := t.k.VsockPort(l)
	if !t.prep("getsockname", err) {
		return
	}
	err = t.k.ConnVsock(out, sys.VsockLocalCID, port)
	if errors.Is(err, syscall.EINPROGRESS) && t.wait(out, sys.PollOut, waitArrival) {
		err = nil
	}
	if !t.step("connect vsock", err) || !t.wait(l, sys.PollIn, waitArrival) {
		return
	}
	in, _, err := t.k.Accept(l)
	if !t.prep("accept", err) {
		return
	}
	t.own(in)
	t.zerocopy(out, in, zcSmall)
}

// testUDPGSO sends three datagrams in one call. Seen: "datagrams", "equal".
func testUDPGSO(t *trial) {
	const segment, count = 1200, 3
	out, in, ok := t.udpPair(loopback4)
	if !ok || !t.step("setsockopt UDP_SEGMENT", t.k.SetInt(out, sys.SolUDP, sys.UDPSegment, segment)) {
		return
	}
	n, err := t.k.Send(out, t.old[:segment*count], 0)
	if !t.count("send", n, segment*count, err) {
		return
	}
	var got []byte
	datagrams := 0
	for range count {
		d, err := t.datagram(in, waitArrival)
		if err == nil && d == nil {
			err = errWait
		}
		if err != nil {
			t.step("recv", err)
			break
		}
		got = append(got, d...)
		datagrams++
	}
	t.see("datagrams", int64(datagrams))
	t.seeBool("equal", datagrams == count && bytes.Equal(got, t.old[:segment*count]))
}
