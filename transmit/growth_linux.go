package transmit

import (
	"math/bits"
	"os"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// growth keeps the send buffer of a TCP connection as large as its congestion
// window deserves. The kernel does so by itself, but only when somebody found the
// socket full (tcp_new_space), which is what a Sender must not do while memory is
// lent.
type growth struct {
	size    int // of the buffer, in bytes, after the last look
	most    int // that it may have
	wanted  int // the last time that it was to grow
	plain   int // bytes to copy to make the kernel grow it, while positive
	noForce bool
	noLock  bool
}

// begin looks at what the buffer may become. An application that has set
// SO_SNDBUF wants it as it is.
func (g *growth) begin(k *socketCalls, fd int) {
	g.most = largestSendBuffer()
	lock, err := k.GetInt(fd, sys.SolSocket, sys.SoBufLock)
	g.noLock = err != nil
	if lock&sys.SockSndbufLock != 0 {
		g.most = 0
	}
}

// grow makes the buffer larger if it is what keeps the connection back, and
// reports whether it is. It may also decide that bytes must be copied to that end.
func (g *growth) grow(k *socketCalls, fd, size int) bool {
	if g.plain > 0 || size >= g.most {
		return false
	}
	p, e := k.TCPInfo(fd)
	if e != 0 || int(p.NotSent) > size/8 {
		return false // the congestion window or the peer's keeps it back
	}
	// As in tcp_sndbuf_expand, for a congestion control that asks for no more. What
	// did not help is not tried again before the window is twice as large.
	segment := 1<<bits.Len32(p.SendMSS+640-1) + 256
	want := min(2*int(p.Window)*segment, g.most)
	if size >= want/4*3 || want < 2*g.wanted && want < g.most || want == g.wanted {
		return false
	}
	g.wanted = want
	if g.size = g.raise(k, fd, size, want); g.size > size {
		return true
	}
	// Copy until nothing is lent, and then until the socket is full: the next
	// acknowledgement makes the buffer what it should be. Where the path takes
	// bytes as fast as they are copied it never is.
	g.plain = 2 * size
	return false
}

// raise sets the size, and leaves it to the kernel again: SO_SNDBUF alone would
// end autotuning. It returns the size that it got.
func (g *growth) raise(k *socketCalls, fd, size, want int) int {
	if g.noLock {
		return size
	}
	lock, err := k.GetInt(fd, sys.SolSocket, sys.SoBufLock)
	if err != nil || lock&sys.SockSndbufLock != 0 {
		return size // the application has set its size since
	}
	// The kernel doubles what it is given.
	if g.noForce || k.SetInt(fd, sys.SolSocket, sys.SoSndbufForce, want/2) != nil {
		g.noForce = true
		allowed, ok := readSysctl("net/core/wmem_max")
		if want = min(want, 2*allowed); !ok || want <= size || k.SetInt(fd, sys.SolSocket, sys.SoSndbuf, want/2) != nil {
			return size
		}
	}
	// The other bit is the receive buffer's. Where this fails the buffer stays as it
	// is now, which is what was wanted.
	_ = k.SetInt(fd, sys.SolSocket, sys.SoBufLock, lock&^sys.SockSndbufLock)
	if m, e := k.Memory(fd); e == 0 {
		return m.SendBuffer
	}
	return size
}

// copies reports whether bytes are copied rather than lent.
func (g *growth) copies() bool { return g.plain > 0 }

func (g *growth) copied(n int) { g.plain = max(g.plain-n, 0) }

// foundFull says that a call found the socket full while nothing was lent.
func (g *growth) foundFull() { g.plain = 0 }

// largestSendBuffer returns to how many bytes TCP lets a send buffer grow, the
// last number of net.ipv4.tcp_wmem.
func largestSendBuffer() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem")
	if f := strings.Fields(string(b)); err == nil && len(f) == 3 {
		if n, err := strconv.Atoi(f[2]); err == nil {
			return n
		}
	}
	return 4 << 20 // the kernel's own choice on machines with 2 GiB of memory or more
}
