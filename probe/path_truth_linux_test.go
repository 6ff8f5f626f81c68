package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// kernelOutcomes are those of the functional tests, which are the same for all
// paths and take long in a guest.
var kernelOutcomes = sync.OnceValue(func() (outcomes []Outcome) {
	err := onProbeThread(context.Background(), func() error {
		h := readHost(liveSources())
		outcomes = runTests(context.Background(), &h)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return outcomes
})

// collectIn collects the facts of a path as a program in the namespace would.
func collectIn(t *testing.T, ns *testenv.NetNS, to string) *Facts {
	t.Helper()
	f := &Facts{Outcomes: slices.Clone(kernelOutcomes())}
	var err error
	ns.Do(func() {
		err = onProbeThread(t.Context(), func() error {
			s := liveSources()
			tab := findNamespaces(s)
			f.Networks = []Network{tab.readNetwork(t.Context(), "")}
			f.Taps = readTaps(t.Context(), s, tab)
			collectPath(t.Context(), s, tab, f, Options{To: to})
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	normalise(f)
	return f
}

// predictIn judges the path from a namespace.
func predictIn(t *testing.T, ns *testenv.NetNS, to string) *PathReport {
	t.Helper()
	r := judgePath(collectIn(t, ns, to), Options{To: to})
	if r.Error != "" {
		t.Fatalf("path to %s: %s", to, r.Error)
	}
	return r
}

// sendLoan sends one datagram with MSG_ZEROCOPY from a namespace, in segments
// if segment is not 0, and returns the code of its completion: 1 is copied.
func sendLoan(ns *testenv.NetNS, to string, size, segment int) (code uint8, err error) {
	ns.Do(func() { code, err = udpLoan(netip.AddrPortFrom(netip.MustParseAddr(to), 9), size, segment) })
	return code, err
}

func udpLoan(to netip.AddrPort, size, segment int) (uint8, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := sys.Socket(family, sys.SockDgram, 0)
	if err != nil {
		return 0, err
	}
	defer sys.Close(fd)
	mem, err := unix.Mmap(-1, 0, 1<<17, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(mem)
	if segment != 0 {
		err = sys.SetsockoptInt(fd, sys.SolUDP, sys.UDPSegment, segment)
	}
	err = errors.Join(err, sys.SetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy, 1),
		sys.SetsockoptInt(fd, sys.SolSocket, unix.SO_SNDBUF, 1<<20),
		sys.SetsockoptInt(fd, sys.SolSocket, unix.SO_BROADCAST, 1), sys.Connect(fd, to))
	if err != nil {
		return 0, err
	}
	n, err := sys.Send(fd, mem[:size], sys.MsgZerocopy)
	if err == nil && n != size {
		err = fmt.Errorf("sent %d bytes", n)
	}
	if err != nil {
		return 0, err
	}
	var last error
	for range 10 { // a queue or a tap may hold the packet for a moment
		code, err := completionCode(fd)
		if err == nil {
			return code, nil
		}
		last = err
	}
	return 0, last
}

// pagesArrive sends two pages of a file by sendfile over TCP, overwrites the
// file, and reports whether the receiver, who reads only then, gets the new
// bytes: the pages themselves were sent. How sends with other calls.
func pagesArrive(t *testing.T, from, to *testenv.NetNS, addr string) bool {
	t.Helper()
	const size = 8192
	var l, in, out, file int
	var err error
	var at netip.AddrPort
	do := func(ns *testenv.NetNS, what string, fn func() error) {
		t.Helper()
		ns.Do(func() { err = fn() })
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do(to, "listen", func() error {
		family := unix.AF_INET
		if netip.MustParseAddr(addr).Is6() {
			family = unix.AF_INET6
		}
		l, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(sys.Bind(l, netip.AddrPortFrom(netip.MustParseAddr(addr), 0)), sys.Listen(l, 1))
		}
		if err == nil {
			at, err = sys.LocalAddr(l)
		}
		return err
	})
	defer unix.Close(l)
	do(from, "connect", func() error {
		family := unix.AF_INET
		if at.Addr().Is6() {
			family = unix.AF_INET6
		}
		out, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.SetsockoptTimeval(out, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}), sys.Connect(out, at))
		}
		return err
	})
	defer unix.Close(out)
	do(to, "accept", func() error { in, _, err = unix.Accept(l); return err })
	defer unix.Close(in)
	do(from, "memfd", func() error { file, err = unix.MemfdCreate("t", unix.MFD_CLOEXEC); return err })
	defer unix.Close(file)
	page := func(v byte) []byte { b := make([]byte, size); fillByte(b, v); return b }
	if _, err := unix.Pwrite(file, page('a'), 0); err != nil {
		t.Fatal(err)
	}
	var off int64
	if n, err := unix.Sendfile(out, file, &off, size); n != size || err != nil {
		t.Fatalf("sendfile: %d, %v", n, err)
	}
	// All of it must be acknowledged, that is on the other side, first.
	for end := time.Now().Add(5 * time.Second); ; {
		left, err := unix.IoctlGetInt(out, unix.SIOCOUTQ)
		if err != nil || time.Now().After(end) {
			t.Fatalf("%d bytes are not acknowledged: %v", left, err)
		}
		if left == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := unix.Pwrite(file, page('b'), 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	for n := 0; n < size; {
		m, err := unix.Read(in, got[n:])
		if err != nil || m == 0 {
			t.Fatalf("read %d bytes: %v", n+m, err)
		}
		n += m
	}
	if got[0] != got[size-1] {
		t.Fatalf("the receiver got %q ... %q", got[0], got[size-1])
	}
	return got[0] == 'b'
}

// openTun makes a tun device that nobody reads.
func openTun(t *testing.T, ns *testenv.NetNS, name string) {
	t.Helper()
	var fd int
	var err error
	ns.Do(func() {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		var req *unix.Ifreq
		if req, err = unix.NewIfreq(name); err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
	})
	if err != nil {
		t.Fatalf("make a tun device: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}
