package lab

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// completions is what the kernel has said about sends with MSG_ZEROCOPY.
type completions struct {
	done, copied uint32 // sends, and those of them that were said to be copied
}

// read takes what is in the error queue.
func (c *completions) read(t testing.TB, fd int) {
	t.Helper()
	oob := make([]byte, 256)
	for {
		_, n, _, _, err := unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatalf("error queue: %v", err)
		}
		entries, err := sys.ParseErrqueue(oob[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Origin != sys.OriginZerocopy {
				t.Fatalf("an entry of another origin: %+v", e)
			}
			c.done += e.Hi - e.Lo + 1
			if e.Code&sys.ZerocopyCopied != 0 {
				c.copied += e.Hi - e.Lo + 1
			}
		}
	}
}

// wait waits up to five seconds for that many.
func (c *completions) wait(t testing.TB, fd int, sends uint32) {
	t.Helper()
	for range 500 {
		if c.read(t, fd); c.done >= sends {
			return
		}
		fds := []unix.PollFd{{Fd: int32(fd)}} // POLLERR is always asked for
		if _, err := unix.Poll(fds, 10); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatalf("poll: %v", err)
		}
	}
	t.Fatalf("%d of %d sends are complete", c.done, sends)
}

// zeroCopySends sends the buffer so many times, in full, and waits for the
// completions.
func zeroCopySends(t testing.TB, c net.Conn, buffer []byte, sends int) completions {
	t.Helper()
	var got completions
	blocking(t, c, func(fd int) {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
			t.Fatalf("SO_ZEROCOPY: %v", err)
		}
		var calls uint32
		for range sends {
			for left := buffer; len(left) > 0; {
				n, err := unix.SendmsgN(fd, left, nil, nil, unix.MSG_ZEROCOPY)
				switch {
				case err == nil:
					calls++
					left = left[n:]
				case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
					got.wait(t, fd, min(calls, got.done+1))
				default:
					t.Fatalf("send: %v", err)
				}
			}
		}
		got.wait(t, fd, calls)
	})
	return got
}

// blocking runs fn with the descriptor of a connection in blocking mode. A
// send of many bytes then goes without the runtime's poller.
func blocking(t testing.TB, c net.Conn, fn func(fd int)) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err := unix.SetNonblock(int(fd), false); err != nil {
			t.Fatal(err)
		}
		fn(int(fd))
		if err := unix.SetNonblock(int(fd), true); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tcpInfo returns what the sender's TCP knows of a connection.
func tcpInfo(t testing.TB, c net.Conn) *unix.TCPInfo {
	t.Helper()
	var info *unix.TCPInfo
	blocking(t, c, func(fd int) {
		var err error
		if info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			t.Fatal(err)
		}
	})
	return info
}
