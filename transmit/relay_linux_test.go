package transmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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

// blockingPipe is a pipe as a shell hands it to a program: Go's poller does not
// watch it.
func blockingPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
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
		r, w := blockingPipe(t)
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
		r, w := blockingPipe(t)
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

// relaySizes are at every boundary that the relay or the kernel knows.
var relaySizes = []int{
	0, 1, 4095, 4096, 4097, 65535, 65536, 65537, copyBytes - 1, copyBytes + 1, pipeBytes - 1, pipeBytes, pipeBytes + 1, 3<<20 + 7,
}

func sameContent(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if sha256.Sum256(got) == sha256.Sum256(want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s: got %d bytes, want %d; they differ at %d", what, len(got), len(want), at)
}

func TestRelay(t *testing.T) {
	content := pattern(relaySizes[len(relaySizes)-1])
	for _, src := range sources {
		for _, dst := range targets {
			for _, backend := range []Backend{"", ReadWrite} {
				t.Run(fmt.Sprintf("%s to %s %s", src.name, dst.name, backend), func(t *testing.T) {
					t.Parallel()
					for _, size := range relaySizes {
						// To the end, and only so many bytes of a longer stream.
						for _, n := range []int64{-1, int64(size)} {
							fed := content[:size]
							if n >= 0 {
								fed = content[:min(size+4097, len(content))]
							}
							from := src.open(t, fed)
							to, arrived := dst.open(t)
							var told []*Downgrade
							res, err := Relay(t.Context(), to, from, n, RelayOptions{Backend: backend, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
							if err != nil || res.Bytes != int64(size) {
								t.Fatalf("relay of %d bytes, n %d: %+v, %v", size, n, res, err)
							}
							sameContent(t, fmt.Sprintf("%d bytes, n %d", size, n), arrived(), content[:size])
							checkWay(t, dst.name, backend, size, res, told)
						}
					}
				})
			}
		}
	}
}

// checkWay compares what the relay says of its way with what the kernel can do.
func checkWay(t *testing.T, dst string, asked Backend, size int, res Result, told []*Downgrade) {
	t.Helper()
	spliced := asked != ReadWrite && dst != "append"
	switch {
	case size == 0:
	case spliced && (res.Backend != Splice || res.PlainBytes != 0 || len(told) != 0):
		t.Errorf("%d bytes went %+v, told %v; want splice for all", size, res, told)
	case !spliced && (res.Backend != ReadWrite || res.PlainBytes != res.Bytes):
		t.Errorf("%d bytes went %+v; want read_write for all", size, res)
	case asked != ReadWrite && dst == "append" && (len(told) != 1 || res.Cause != "fast-path-refused" || !errors.Is(told[0], syscall.EINVAL)):
		t.Errorf("%d bytes: told %v, cause %q; want one EINVAL", size, told, res.Cause)
	}
}

func TestRelayLeavesTheRest(t *testing.T) {
	content := pattern(200_000)
	for _, src := range sources {
		t.Run(src.name, func(t *testing.T) {
			from := src.open(t, content)
			to, arrived := targets[0].open(t)
			if res, err := Relay(t.Context(), to, from, 70_001, RelayOptions{}); err != nil || res.Bytes != 70_001 {
				t.Fatal(res, err)
			}
			sameContent(t, "relayed", arrived(), content[:70_001])
			rest, err := io.ReadAll(from.(io.Reader))
			if err != nil {
				t.Fatal(err)
			}
			sameContent(t, "the rest", rest, content[70_001:])
		})
	}
}

func TestRelayShortSource(t *testing.T) {
	for _, src := range sources {
		to, arrived := targets[0].open(t)
		res, err := Relay(t.Context(), to, src.open(t, pattern(5000)), 5001, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.As(err, &re) || re.Read != 5000 || re.Written != 5000 || res.Bytes != 5000 {
			t.Errorf("%s: %+v, %v; want an unexpected end after 5000", src.name, res, err)
		}
		sameContent(t, src.name, arrived(), pattern(5000))
	}
}

func TestRelayRefuses(t *testing.T) {
	tcp, _ := tcpPair(t)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	packets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	packet := os.NewFile(uintptr(packets[0]), "seqpacket")
	defer packet.Close()
	defer unix.Close(packets[1])
	conn, err := net.FileConn(packet)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, w := osPipe(t)
	closed := fileOf(t, nil)
	_ = closed.Close()
	type embedded struct{ *net.TCPConn }
	f := fileOf(t, []byte("content"))
	for name, c := range map[string]struct {
		dst, src syscall.Conn
		n        int64
		opts     RelayOptions
		want     error
	}{
		"datagrams":         {tcp, udp, -1, RelayOptions{}, errors.ErrUnsupported},
		"to datagrams":      {udp, tcp, -1, RelayOptions{}, errors.ErrUnsupported},
		"seqpacket file":    {tcp, packet, -1, RelayOptions{}, errors.ErrUnsupported},
		"seqpacket conn":    {tcp, conn.(*net.UnixConn), -1, RelayOptions{}, errors.ErrUnsupported},
		"what may buffer":   {tcp, embedded{tcp}, -1, RelayOptions{}, errors.ErrUnsupported},
		"directory":         {tcp, dir, -1, RelayOptions{}, syscall.EISDIR},
		"a pipe to itself":  {w, r, -1, RelayOptions{}, syscall.EINVAL},
		"a file to itself":  {f, f, -1, RelayOptions{}, syscall.EINVAL},
		"closed":            {tcp, closed, -1, RelayOptions{}, os.ErrClosed},
		"negative":          {tcp, r, -2, RelayOptions{}, syscall.EINVAL},
		"backend of memory": {tcp, r, -1, RelayOptions{Backend: MsgZerocopy}, errors.ErrUnsupported},
	} {
		if res, err := Relay(t.Context(), c.dst, c.src, c.n, c.opts); !errors.Is(err, c.want) || res.Bytes != 0 {
			t.Errorf("%s: %+v, %v; want %v", name, res, err, c.want)
		}
	}
}

func TestRelayFilePositions(t *testing.T) {
	content := pattern(3 << 20)
	src, dst := fileOf(t, content), fileOf(t, nil)
	if _, err := src.Seek(5, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if res, err := Relay(t.Context(), dst, src, 2<<20, RelayOptions{}); err != nil || res.Bytes != 2<<20 || res.Backend != Splice {
		t.Fatal(res, err)
	}
	sameContent(t, "file", contentOf(t, dst), append(make([]byte, 7), content[5:5+2<<20]...))
	at, _ := src.Seek(0, io.SeekCurrent)
	to, _ := dst.Seek(0, io.SeekCurrent)
	if at != 5+2<<20 || to != 7+2<<20 {
		t.Errorf("positions %d and %d", at, to)
	}
}

// A file that has no size before it is read is read to its end all the same.
func TestRelayFromProcfs(t *testing.T) {
	for _, name := range []string{"/proc/version", "/proc/self/limits", "/proc/cpuinfo"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		to, arrived := targets[0].open(t)
		res, err := Relay(t.Context(), to, f, -1, RelayOptions{OnDowngrade: func(*Downgrade) {}})
		_ = f.Close()
		got := arrived()
		if err != nil || res.Bytes != int64(len(got)) || len(got) < len(want)/2 || len(got) == 0 {
			t.Errorf("%s: %d bytes, %+v, %v; read gives %d", name, len(got), res, err, len(want))
		}
	}
}

func TestRelayContext(t *testing.T) {
	for _, backend := range []Backend{"", ReadWrite} {
		for _, src := range sources {
			if src.name == "file" {
				continue // never waits
			}
			t.Run(fmt.Sprintf("%s stalls %s", src.name, backend), func(t *testing.T) {
				t.Parallel()
				relayStalls(t, src, backend)
			})
		}
		for _, dst := range targets {
			if dst.name == "file" || dst.name == "append" {
				continue
			}
			t.Run(fmt.Sprintf("%s takes nothing %s", dst.name, backend), func(t *testing.T) {
				t.Parallel()
				relayBlocks(t, dst.name, backend)
			})
		}
	}
}

// relayStalls ends the context while the source has nothing.
func relayStalls(t *testing.T, src sourceEnd, backend Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	from, more := stalling(t, src.name, []byte("before"), hold)
	to, arrived := targets[0].open(t)
	go func() {
		<-hold
		time.Sleep(20 * time.Millisecond) // most probably waiting by now; right in any case
		cancel()
	}()
	res, err := Relay(ctx, to, from, -1, RelayOptions{Backend: backend})
	if !errors.Is(err, context.Canceled) || res.Bytes != 6 {
		t.Fatalf("%+v, %v; want the end of the context after 6 bytes", res, err)
	}
	// The ends are as they were: a second relay goes on.
	feed(t, more, []byte(" after"))
	if res, err := Relay(t.Context(), to, from, -1, RelayOptions{Backend: backend}); err != nil || res.Bytes != 6 {
		t.Fatalf("afterwards: %+v, %v", res, err)
	}
	sameContent(t, "both", arrived(), []byte("before after"))
}

// stalling opens a source that has content and then nothing; ready is closed when it
// is there.
func stalling(t *testing.T, kind string, content []byte, ready chan struct{}) (syscall.Conn, io.WriteCloser) {
	var from syscall.Conn
	var more io.WriteCloser
	switch kind {
	case "tcp":
		from, more = tcpPair(t)
	case "unix":
		from, more = unixPair(t)
	case "pipe":
		from, more = osPipe(t)
	case "blocking pipe":
		from, more = blockingPipe(t)
	case "socket as a file":
		near, far := tcpPair(t)
		from, more = asFile(t, near), far
	}
	if _, err := more.Write(content); err != nil {
		t.Fatal(err)
	}
	close(ready)
	return from, more
}

// relayBlocks ends the context while the destination takes nothing, and looks at
// what is said of the bytes between.
func relayBlocks(t *testing.T, kind string, backend Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	var to syscall.Conn
	var reader io.Reader
	var closer io.Closer
	switch kind {
	case "tcp":
		near, far := tcpPair(t)
		to, reader, closer = near, far, near
	case "unix":
		near, far := unixPair(t)
		to, reader, closer = near, far, near
	case "pipe":
		r, w := osPipe(t)
		to, reader, closer = w, r, w
	case "blocking pipe":
		r, w := blockingPipe(t)
		to, reader, closer = w, r, w
	}
	const size = 64 << 20 // more than the buffers of both connections
	content := pattern(1 << 20)
	near, far := tcpPair(t)
	go func() {
		for range size >> 20 {
			if _, err := far.Write(content); err != nil {
				return
			}
		}
	}()
	go func() {
		// It stalls once nothing goes any more.
		time.Sleep(300 * time.Millisecond)
		cancel()
	}()
	res, err := Relay(ctx, to, near, -1, RelayOptions{Backend: backend})
	var re *RelayError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &re) || re.Written != res.Bytes || re.Read < re.Written || re.Read-re.Written > pipeBytes {
		t.Fatalf("%+v, %v", res, err)
	}
	_ = closer.Close()
	got, err := io.Copy(io.Discard, reader)
	if err != nil || got != res.Bytes {
		t.Errorf("%d bytes arrived, %v; the relay says %d", got, err, res.Bytes)
	}
	// What was not read is still there.
	_ = far.SetWriteDeadline(time.Now())
	rest := make([]byte, 1)
	if _, err := io.ReadFull(near, rest); err != nil || rest[0] != content[re.Read%(1<<20)] {
		t.Errorf("after %d bytes comes %x, %v; want %x", re.Read, rest, err, content[re.Read%(1<<20)])
	}
}

func TestRelayDeadlines(t *testing.T) {
	near, _ := tcpPair(t)
	to, _ := tcpPair(t)
	if err := near.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := Relay(t.Context(), to, near, -1, RelayOptions{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("source: %v; want the deadline", err)
	}
	near, far := tcpPair(t)
	feed(t, far, pattern(1000))
	if err := to.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, err := Relay(t.Context(), to, near, -1, RelayOptions{})
	var re *RelayError
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &re) || re.Read == 0 || re.Written != 0 {
		t.Errorf("destination: %v; want the deadline, with what was read", err)
	}
}

func TestRelayEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, far := tcpPair(t)
	to, arrived := targets[0].open(t)
	feed(t, far, []byte("kept"))
	if _, err := Relay(ctx, to, near, -1, RelayOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if res, err := Relay(t.Context(), to, near, -1, RelayOptions{}); err != nil || res.Bytes != 4 {
		t.Error(res, err)
	}
	sameContent(t, "afterwards", arrived(), []byte("kept"))
}

func TestRelayPeers(t *testing.T) {
	t.Run("source resets", func(t *testing.T) {
		near, far := tcpPair(t)
		to, arrived := targets[0].open(t)
		go func() {
			_, _ = far.Write(pattern(100_000))
			_ = far.SetLinger(0)
			_ = far.Close()
		}()
		res, err := Relay(t.Context(), to, near, -1, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &re) || re.Read != re.Written {
			t.Errorf("%+v, %v", res, err)
		}
		sameContent(t, "before the reset", arrived(), pattern(100_000)[:res.Bytes])
	})
	t.Run("destination resets", func(t *testing.T) {
		near, far := tcpPair(t)
		to, peer := tcpPair(t)
		go func() {
			_, _ = io.CopyN(io.Discard, peer, 1<<20)
			_ = peer.SetLinger(0)
			_ = peer.Close()
		}()
		feed(t, far, pattern(32<<20))
		res, err := Relay(t.Context(), to, near, -1, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) || !errors.As(err, &re) || re.Written < 1<<20 {
			t.Errorf("%+v, %v", res, err)
		}
		_ = near.Close()
	})
	t.Run("pipe without a reader", func(t *testing.T) {
		near, far := tcpPair(t)
		r, w := osPipe(t)
		_ = r.Close()
		feed(t, far, pattern(1000))
		if res, err := Relay(t.Context(), w, near, -1, RelayOptions{}); !errors.Is(err, syscall.EPIPE) || res.Bytes != 0 {
			t.Errorf("%+v, %v; want EPIPE", res, err)
		}
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		for _, src := range sources {
			if src.name == "file" {
				continue
			}
			ready := make(chan struct{})
			from, _ := stalling(t, src.name, []byte("x"), ready)
			to, _ := tcpPair(t)
			time.AfterFunc(20*time.Millisecond, func() { _ = from.(io.Closer).Close() })
			if _, err := Relay(t.Context(), to, from, -1, RelayOptions{}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s: %v; want that it is closed", src.name, err)
			}
		}
	})
	t.Run("half close", func(t *testing.T) {
		near, far := tcpPair(t)
		to, peer := tcpPair(t)
		_ = far.CloseWrite()
		if _, err := Relay(t.Context(), to, near, -1, RelayOptions{}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := to.Write([]byte("a")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(peer, b); err != nil {
			t.Error(err)
		}
	})
}
