package transmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/probe"
)

// sourceFile returns a file with the given content.
func sourceFile(t testing.TB, dir string, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, "source")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(); _ = os.Remove(f.Name()) })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func memfd(t testing.TB, content []byte) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("source", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	return f
}

// fileWays are the backends that send files.
func fileWays() []Backend { return append([]Backend{""}, order[:]...) }

// sizes are around every boundary that a way has: a page, a pipe of 64 KiB and of
// 1 MiB, our buffers, our pieces.
var sizes = []int{0, 1, 4095, 4096, 4097, 65535, 65536, 65537, copyBytes - 1, copyBytes + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, pieceBytes + 1}

// A fileTarget makes something to send to, with what comes out at the other end.
type fileTarget struct {
	name string
	make func(t testing.TB) (syscall.Conn, io.Reader)
}

func fileTargets() []fileTarget {
	return []fileTarget{
		{"tcp", func(t testing.TB) (syscall.Conn, io.Reader) { a, b := tcpPair(t); return a, b }},
		{"unix", func(t testing.TB) (syscall.Conn, io.Reader) { a, b := unixPair(t); return a, b }},
		{"pipe", func(t testing.TB) (syscall.Conn, io.Reader) { r, w := osPipe(t); return w, r }},
		{"blocking pipe", func(t testing.TB) (syscall.Conn, io.Reader) {
			r, w := osPipe(t)
			w.Fd() // makes it blocking, and the runtime does not watch it
			return w, r
		}},
	}
}

// closeWrite ends the stream.
func closeWrite(t testing.TB, s *Sender) {
	t.Helper()
	if _, err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// arrived hashes a stream to its end, beside.
func arrived(r io.Reader) <-chan [32]byte {
	sum := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		_, _ = io.Copy(h, r)
		sum <- [32]byte(h.Sum(nil))
	}()
	return sum
}

// TestSendFileArrives sends every source by every way to every target: whole, the
// middle, with a header and a trailer.
func TestSendFileArrives(t *testing.T) {
	big := pattern(slices.Max(sizes) + 2*4096)
	sources := map[string]*os.File{"disk": sourceFile(t, t.TempDir(), big), "memfd": memfd(t, big)}
	header, trailer := []byte("header of 21 bytes..\n"), bytes.Repeat([]byte("trailer"), 9)
	for _, target := range fileTargets() {
		for name, f := range sources {
			for _, way := range fileWays() {
				t.Run(fmt.Sprintf("%s/%s/%s", target.name, name, way), func(t *testing.T) {
					out, in := target.make(t)
					lends := target.name == "tcp" || way != MmapZerocopy
					s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) {
						if lends {
							t.Error(d)
						}
					}})
					if err != nil {
						t.Fatal(err)
					}
					want := sha256.New()
					got := arrived(in)
					var last Completion
					for i, size := range sizes {
						off := []int{0, 1, 4096, 4095}[i%4]
						var o FileOptions
						if i%3 > 0 {
							o.Header = [][]byte{header[:5], nil, header[5:]}
							want.Write(header)
						}
						want.Write(big[off : off+size])
						if i%3 > 1 {
							o.Trailer = [][]byte{trailer}
							want.Write(trailer)
						}
						if last, err = s.SendFile(t.Context(), f, int64(off), int64(size), o); err != nil {
							t.Fatalf("%d bytes at %d: %v", size, off, err)
						}
						if size > smallFile && way != "" && lends && last.Backend() != way {
							t.Errorf("went by %s", last.Backend())
						}
					}
					if _, err := last.Wait(t.Context()); err != nil {
						t.Error(err)
					}
					if pos, err := f.Seek(0, io.SeekCurrent); err != nil || pos != int64(len(big)) {
						t.Errorf("the file is at %d: %v", pos, err)
					}
					closeWrite(t, s)
					if <-got != [32]byte(want.Sum(nil)) {
						t.Error("something else arrived")
					}
				})
			}
		}
	}
}

// TestSendFileToEnd sends to the end of what has a size and of what has none, or a
// wrong one.
func TestSendFileToEnd(t *testing.T) {
	content := pattern(10000)
	disk := sourceFile(t, t.TempDir(), content)
	open := func(name string, flags int) *os.File {
		f, err := os.OpenFile(name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const proc, sysfs = "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"
	for name, c := range map[string]struct {
		f              *os.File
		offset, length int64
		want           []byte
	}{
		"rest":         {disk, 9000, -1, content[9000:]},
		"nothing":      {disk, 10000, -1, nil},
		"append":       {open(disk.Name(), os.O_RDWR|os.O_APPEND), 0, -1, content},
		"empty":        {sourceFile(t, t.TempDir(), nil), 0, -1, nil},
		"proc":         {open(proc, os.O_RDONLY), 0, -1, read(proc)},
		"part of proc": {open(proc, os.O_RDONLY), 3, 10, read(proc)[3:13]},
		"sysfs":        {open(sysfs, os.O_RDONLY), 0, -1, read(sysfs)},
		"zero":         {open("/dev/zero", os.O_RDONLY), 5, 100000, make([]byte, 100000)},
	} {
		for _, way := range fileWays() {
			for _, edge := range []string{"", "edge"} {
				t.Run(fmt.Sprintf("%s/%s/%s", name, way, edge), func(t *testing.T) {
					out, in := tcpPair(t)
					got := received(in)
					s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Log(d) }})
					if err != nil {
						t.Fatal(err)
					}
					around := [][]byte{[]byte(edge)}
					if _, err := s.SendFile(t.Context(), c.f, c.offset, c.length, FileOptions{Header: around, Trailer: around}); err != nil {
						t.Fatal(err)
					}
					closeWrite(t, s)
					if b, want := <-got, edge+string(c.want)+edge; string(b) != want {
						t.Errorf("%d bytes arrived, want %d", len(b), len(want))
					}
				})
			}
		}
	}
}

// TestSendFileRefuses is about ranges and sources that cannot be sent: nothing is.
func TestSendFileRefuses(t *testing.T) {
	disk := sourceFile(t, t.TempDir(), pattern(5000))
	writeOnly, err := os.OpenFile(disk.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writeOnly.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	pipe, _ := osPipe(t)
	closed := sourceFile(t, t.TempDir(), nil)
	closed.Close()
	a, _ := unixPair(t)
	sock, err := a.File()
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	const most = 1<<63 - 1
	out, in := tcpPair(t)
	got := received(in)
	s, err := NewSender(out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		f              *os.File
		offset, length int64
		want           error
	}{
		"negative offset":  {disk, -1, 1, syscall.EINVAL},
		"negative length":  {disk, 0, -2, syscall.EINVAL},
		"overflow":         {disk, most, 1, syscall.EINVAL},
		"far past the end": {disk, most, -1, syscall.EINVAL},
		"past the end":     {disk, 5001, -1, syscall.EINVAL},
		"directory":        {dir, 0, -1, syscall.EISDIR},
		"write-only":       {writeOnly, 0, -1, syscall.EBADF},
		"pipe":             {pipe, 0, -1, errors.ErrUnsupported},
		"socket":           {sock, 0, -1, errors.ErrUnsupported},
		"nil":              {nil, 0, -1, os.ErrInvalid},
		"closed":           {closed, 0, -1, os.ErrClosed},
	} {
		c2, err := s.SendFile(t.Context(), c.f, c.offset, c.length, FileOptions{Header: [][]byte{[]byte("header")}})
		if !errors.Is(err, c.want) || c2.Bytes() != 0 || !c2.Released() {
			t.Errorf("%s: %v, %d bytes", name, err, c2.Bytes())
		}
	}
	for _, r := range [][2]int64{{0, 5001}, {4999, 2}, {5000, 1}, {6000, 1}, {0, most}} {
		_, err := s.SendFile(t.Context(), disk, r[0], r[1], FileOptions{Header: [][]byte{[]byte("header")}})
		if e, ok := errors.AsType[*TruncatedError](err); !ok || e.Sent != 0 || e.Want != r[1] {
			t.Errorf("%v: %v", r, err)
		}
	}
	if st := s.Stats(); st.Outstanding != 0 || st.Transfers != 0 {
		t.Errorf("%+v", st)
	}
	closeWrite(t, s)
	if b := <-got; len(b) != 0 {
		t.Errorf("%q arrived", b)
	}
}

// fill sends to a peer that does not read.
func fill(t testing.TB, s *Sender, f *os.File, n int64, o FileOptions) (Completion, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	return s.SendFile(ctx, f, 0, n, o)
}

// TestSendFileTruncated makes a file shorter while the peer does not read.
func TestSendFileTruncated(t *testing.T) {
	for _, way := range fileWays() {
		for _, length := range []int64{-1, 64 << 20} {
			t.Run(fmt.Sprintf("%s/%d", way, length), func(t *testing.T) {
				const size, cut = 64 << 20, 40<<20 + 100
				f := memfd(t, nil)
				if err := f.Truncate(size); err != nil {
					t.Fatal(err)
				}
				out, in := tcpPair(t)
				s, err := NewSender(out, Options{Backend: way})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				var c Completion
				go func() {
					var err error
					c, err = s.SendFile(context.Background(), f, 0, length, FileOptions{Header: [][]byte{[]byte("head")}, Trailer: [][]byte{[]byte("tail")}})
					done <- err
				}()
				if _, err := io.ReadFull(in, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
				if err := f.Truncate(cut); err != nil {
					t.Fatal(err)
				}
				rest := make(chan int64, 1)
				go func() { n, _ := io.Copy(io.Discard, in); rest <- n }()
				err = <-done
				e, ok := errors.AsType[*TruncatedError](err)
				if !ok || e.Want != size || e.Sent-e.ZeroBytes != cut || e.ZeroBytes >= 4096 || c.Bytes() != e.Sent+4 {
					t.Errorf("%v, %+v after %d bytes", err, e, c.Bytes())
				}
				closeWrite(t, s)
				if n := 1<<20 + <-rest; n != c.Bytes() {
					t.Errorf("%d bytes arrived of %d", n, c.Bytes())
				}
			})
		}
	}
}

// TestSendFileGrows: what is added meanwhile is not sent.
func TestSendFileGrows(t *testing.T) {
	for _, way := range fileWays() {
		f := sourceFile(t, t.TempDir(), pattern(32<<20))
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Backend: way})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.SendFile(context.Background(), f, 0, -1, FileOptions{})
			done <- err
		}()
		if _, err := io.ReadFull(in, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(pattern(1 << 20)); err != nil {
			t.Fatal(err)
		}
		rest := make(chan int64, 1)
		go func() { n, _ := io.Copy(io.Discard, in); rest <- n }()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closeWrite(t, s)
		if n := <-rest; n != 31<<20 {
			t.Errorf("%s: %d bytes arrived", way, n)
		}
	}
}

// TestSendFileReleases overwrites the file as soon as it is released, by a peer on this
// machine that reads slowly: it gets what was sent.
func TestSendFileReleases(t *testing.T) {
	for _, target := range fileTargets() {
		for _, way := range fileWays() {
			t.Run(fmt.Sprintf("%s/%s", target.name, way), func(t *testing.T) {
				out, in := target.make(t)
				s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(*Downgrade) {}})
				if err != nil {
					t.Fatal(err)
				}
				const size, rounds = 100 << 10, 20
				p := make([]byte, size)
				f := memfd(t, p)
				got := arrived(slow{in})
				want := sha256.New()
				for i := range rounds {
					for k := range p {
						p[k] = byte(i + k>>12)
					}
					if _, err := f.WriteAt(p, 0); err != nil {
						t.Fatal(err)
					}
					want.Write(p)
					c, err := s.SendFile(t.Context(), f, 0, -1, FileOptions{})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := c.Wait(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				closeWrite(t, s)
				if <-got != [32]byte(want.Sum(nil)) {
					t.Error("something else arrived: the file was released too early")
				}
			})
		}
	}
}

// TestSendFileStopped ends the context while the peer does not read: what was taken
// is said, and no more goes.
func TestSendFileStopped(t *testing.T) {
	content := pattern(32 << 20)
	f := sourceFile(t, t.TempDir(), content)
	for _, target := range fileTargets() {
		for _, way := range fileWays() {
			t.Run(fmt.Sprintf("%s/%s", target.name, way), func(t *testing.T) {
				out, in := target.make(t)
				s, err := NewSender(out, Options{Backend: way, DrainTimeout: 10 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				c, err := fill(t, s, f, -1, FileOptions{Header: [][]byte{content[:100]}})
				if !errors.Is(err, context.DeadlineExceeded) || c.Bytes() == 0 || c.Bytes() > int64(len(content)) {
					t.Fatalf("%d bytes, %v", c.Bytes(), err)
				}
				if !way.Copies() && way != "" && c.Released() {
					t.Error("released, and nobody has read it")
				}
				got := arrived(in)
				// The connection goes on.
				c2, err := s.SendFile(t.Context(), f, 5, 10, FileOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := c2.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				closeWrite(t, s)
				want := sha256.New()
				want.Write(content[:100])
				want.Write(content[:c.Bytes()-100])
				want.Write(content[5:15])
				if <-got != [32]byte(want.Sum(nil)) {
					t.Error("something else arrived")
				}
			})
		}
	}
}

// TestSendFileReset resets the connection in the middle.
func TestSendFileReset(t *testing.T) {
	f := sourceFile(t, t.TempDir(), pattern(32<<20))
	for _, way := range fileWays() {
		out, in := tcpPair(t)
		s, err := NewSender(out, Options{Backend: way})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.ReadFull(in, make([]byte, 1<<20))
			_ = in.SetLinger(0)
			_ = in.Close()
		}()
		c, err := s.SendFile(t.Context(), f, 0, -1, FileOptions{})
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: %v", way, err)
		}
		if c.Bytes() < 1<<20 {
			t.Errorf("%s: %d bytes", way, c.Bytes())
		}
		if _, err := c.Wait(t.Context()); err != nil && !errors.Is(err, ErrUnacknowledged) {
			t.Errorf("%s: %v", way, err)
		}
		closeWrite(t, s)
	}
}

// TestSendFileDatagram sends files as datagrams: whole or not at all.
func TestSendFileDatagram(t *testing.T) {
	content := pattern(100 << 10)
	f := sourceFile(t, t.TempDir(), content)
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, way := range fileWays() {
		out, err := net.DialUDP("udp4", nil, in.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Log(d) }})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<17)
		for _, r := range [][2]int64{{0, 1}, {0, 0}, {1, 8192}, {3, 1471}, {1, 65507}, {0, 65507}, {0, 65508}, {0, -1}, {99 << 10, -1}, {0, 100<<10 + 1}} {
			for _, edge := range []string{"", "edge"} {
				length := r[1]
				if length < 0 {
					length = int64(len(content)) - r[0]
				}
				around := [][]byte{[]byte(edge)}
				c, err := s.SendFile(t.Context(), f, r[0], r[1], FileOptions{Header: around, Trailer: around})
				if total := length + 2*int64(len(edge)); total > 65507 {
					if e, ok := errors.AsType[*TruncatedError](err); !errors.Is(err, syscall.EMSGSIZE) && !ok || c.Bytes() != 0 {
						t.Errorf("%s: %v: %d bytes, %v, %v", way, r, c.Bytes(), err, e)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v: %v", way, r, err)
					continue
				}
				_ = in.SetReadDeadline(time.Now().Add(5 * time.Second))
				n, err := in.Read(b)
				want := edge + string(content[r[0]:r[0]+length]) + edge
				if err != nil || string(b[:n]) != want {
					t.Errorf("%s: %v: %d bytes arrived, %v", way, r, n, err)
				}
				if _, err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		closeWrite(t, s)
	}
	_ = in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := in.Read(make([]byte, 10)); err == nil {
		t.Errorf("%d bytes more", n)
	}
}

// TestSendFileUDPByName: sendfile to UDP is done only where it loses nothing, and what
// arrives is the file either way.
func TestSendFileUDPByName(t *testing.T) {
	k, err := probe.Kernel(t.Context(), "hazard.udp-sendfile-loss", "hazard.udp-splice-csum-loss")
	if err != nil {
		t.Fatal(err)
	}
	loss, _ := k.Hazard("udp-sendfile-loss")
	sums, _ := k.Hazard("udp-splice-csum-loss")
	safe := loss.Status == probe.Pass && sums.Status == probe.Pass
	t.Logf("this kernel: %s, %s", loss.Detail, sums.Detail)
	content := pattern(70000)
	f := sourceFile(t, t.TempDir(), content)
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := net.DialUDP("udp4", nil, in.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	var told []*Downgrade
	s, err := NewSender(out, Options{Backend: Sendfile, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<17)
	for _, immutable := range []bool{true, false} {
		for _, r := range [][2]int64{{0, 1}, {1, 8192}, {3, 1471}, {1, 65507}, {4096, 20001}} {
			c, err := s.SendFile(t.Context(), f, r[0], r[1], FileOptions{Immutable: immutable})
			if err != nil {
				t.Fatal(err)
			}
			_ = in.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := in.Read(b)
			if err != nil || !bytes.Equal(b[:n], content[r[0]:r[0]+r[1]]) {
				t.Errorf("%v: %d bytes arrived, %v", r, n, err)
			}
			if want := map[bool]Backend{true: Sendfile, false: ReadWrite}[safe && immutable]; c.Backend() != want {
				t.Errorf("%v went by %s, want %s", r, c.Backend(), want)
			}
			if _, err := c.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if len(told) == 0 {
		t.Error("nothing told")
	}
	closeWrite(t, s)
}

// TestSendFileUnixDatagram sends files as messages of a unix socket.
func TestSendFileUnixDatagram(t *testing.T) {
	content := pattern(150 << 10)
	f := sourceFile(t, t.TempDir(), content)
	name := filepath.Join(t.TempDir(), "in")
	in, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, way := range fileWays() {
		out, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Log(d) }})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<20)
		for _, size := range []int64{1, 20000, -1} {
			if _, err := s.SendFile(t.Context(), f, 0, size, FileOptions{}); err != nil {
				t.Fatal(err)
			}
			if size < 0 {
				size = int64(len(content))
			}
			n, err := in.Read(b)
			if err != nil || !bytes.Equal(b[:n], content[:size]) {
				t.Errorf("%s: %d bytes arrived of %d, %v", way, n, size, err)
			}
		}
		closeWrite(t, s)
	}
}
