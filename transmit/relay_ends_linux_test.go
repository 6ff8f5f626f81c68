package transmit

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pattern is what a stream of n bytes holds; no two pages are alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	g := rand.NewChaCha8([32]byte{7})
	_, _ = g.Read(b)
	return b
}

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c, s
}

func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*net.UnixConn{}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return ends[0], ends[1]
}

func osPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

// blockingPipe is a pipe of which one end, 0 the one to read from or 1, is as a shell
// hands it to a program: Go's poller does not watch it.
func blockingPipe(t testing.TB, end int) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[1-end], true); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

// A sourceEnd is fed by feed and read by Relay; content is what it gives.
type sourceEnd struct {
	name string
	// open returns the end to relay from, and feeds it with content, then ends it.
	open func(t testing.TB, content []byte) syscall.Conn
}

func feed(t testing.TB, w io.WriteCloser, content []byte) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.Write(content)
		_ = w.Close()
	}()
	t.Cleanup(func() { _ = w.Close(); <-done })
}

var sources = []sourceEnd{
	{"tcp", func(t testing.TB, content []byte) syscall.Conn {
		near, far := tcpPair(t)
		feed(t, far, content)
		return near
	}},
	{"unix", func(t testing.TB, content []byte) syscall.Conn {
		near, far := unixPair(t)
		feed(t, far, content)
		return near
	}},
	{"pipe", func(t testing.TB, content []byte) syscall.Conn {
		r, w := osPipe(t)
		feed(t, w, content)
		return r
	}},
	{"blocking pipe", func(t testing.TB, content []byte) syscall.Conn {
		r, w := blockingPipe(t, 0)
		feed(t, w, content)
		return r
	}},
	{"file", func(t testing.TB, content []byte) syscall.Conn { return fileOf(t, content) }},
	{"socket as a file", func(t testing.TB, content []byte) syscall.Conn {
		near, far := tcpPair(t)
		feed(t, far, content)
		return asFile(t, near)
	}},
}

func fileOf(t testing.TB, content []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func asFile(t testing.TB, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A targetEnd is written by Relay; what arrives is collected.
type targetEnd struct {
	name string
	open func(t testing.TB) (end syscall.Conn, arrived func() []byte)
}

// collect reads r to its end; arrived closes w first, as Relay does not.
func collect(t testing.TB, r io.Reader, w io.Closer) func() []byte {
	var got bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = got.ReadFrom(r)
	}()
	arrived := func() []byte {
		_ = w.Close()
		<-done
		return got.Bytes()
	}
	t.Cleanup(func() { arrived() })
	return arrived
}

var targets = []targetEnd{
	{"tcp", func(t testing.TB) (syscall.Conn, func() []byte) {
		near, far := tcpPair(t)
		return near, collect(t, far, near)
	}},
	{"unix", func(t testing.TB) (syscall.Conn, func() []byte) {
		near, far := unixPair(t)
		return near, collect(t, far, near)
	}},
	{"pipe", func(t testing.TB) (syscall.Conn, func() []byte) {
		r, w := osPipe(t)
		return w, collect(t, r, w)
	}},
	{"blocking pipe", func(t testing.TB) (syscall.Conn, func() []byte) {
		r, w := blockingPipe(t, 1)
		return w, collect(t, r, w)
	}},
	{"file", func(t testing.TB) (syscall.Conn, func() []byte) {
		f := fileOf(t, nil)
		return f, func() []byte { return contentOf(t, f) }
	}},
	{"append", func(t testing.TB) (syscall.Conn, func() []byte) {
		f, err := os.OpenFile(fileOf(t, nil).Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f, func() []byte { _ = f.Close(); return contentOf(t, f) }
	}},
}

func contentOf(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
