package transfer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

func dial(t *testing.T, a Address) Conn {
	t.Helper()
	c, err := Dial(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A peer that sends without end is stopped at the bound, whichever way its bytes
// take, and nothing of it is kept.
func TestMaxBytes(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, quiet := range []bool{false, true} {
			for _, keep := range []bool{false, true} {
				out, name := Discard(), ""
				if keep {
					out, name = output(t)
				}
				a, done := receiveOn(t, RecvOptions{Listen: address(t, network), NoChecksum: quiet, MaxBytes: 1_000_000}, out)
				c := dial(t, a)
				junk := make([]byte, 64<<10)
				var err error
				for i := 0; err == nil && i < 1<<14; i++ { // 1 GiB
					_, err = c.Write(junk)
				}
				if err == nil {
					t.Errorf("%s: a peer sent 1 GiB against a bound of 1 MB", network)
				}
				got := <-done
				if !errors.Is(got.err, ErrTooMuch) || got.r.ReceivedBytes != 1_000_000 || got.r.EndedBy != "max-bytes" || got.r.Complete {
					t.Errorf("%s quiet %v keep %v: %+v, %v", network, quiet, keep, got.r, got.err)
				}
				if keep {
					mustBeEmpty(t, filepath.Dir(name))
				}
			}
		}
	}
	// As much as is allowed is allowed.
	for _, quiet := range []bool{false, true} {
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet, MaxBytes: 1_000_000}, Discard())
		if _, err := Send(t.Context(), sendOptions(a, MemorySource(1_000_000, 1))); err != nil {
			t.Error(err)
		}
		if got := <-done; got.err != nil || !got.r.Complete {
			t.Errorf("%+v, %v", got.r, got.err)
		}
	}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

// A stream that is reset leaves no file; one that is resumed keeps what came, and
// goes on there.
func TestResume(t *testing.T) {
	want := content(3_000_000)
	name := filepath.Join(t.TempDir(), "out")
	for _, quiet := range []bool{false, true} {
		os.Remove(name)
		out, err := NewOutput(name, OutputOptions{Resume: true})
		if err != nil {
			t.Fatal(err)
		}
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet}, out)
		c := dial(t, a).(*net.TCPConn)
		if _, err := c.Write(want[:1_234_567]); err != nil {
			t.Fatal(err)
		}
		for size(name) < 1_234_567 { // the test's time bounds it
			time.Sleep(time.Millisecond)
		}
		c.SetLinger(0)
		c.Close()
		if got := <-done; !errors.Is(got.err, syscall.ECONNRESET) || got.r.Complete || got.r.ReceivedBytes != 1_234_567 {
			t.Fatalf("%+v, %v", got.r, got.err)
		}
		mustHave(t, name, want[:1_234_567])

		if out, err = NewOutput(name, OutputOptions{Resume: true}); err != nil {
			t.Fatal(err)
		}
		if out.Info().OffsetBytes != 1_234_567 {
			t.Fatalf("%+v", out.Info())
		}
		a, done = receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet}, out)
		s, err := OpenSource(t.Context(), file(t, want), out.Info().OffsetBytes, -1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Send(t.Context(), sendOptions(a, s))
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := <-done
		mustHave(t, name, want)
		if !quiet && (*got.r.SHA256 != *r.SHA256 || *got.r.FileSHA256 != sumOf(want)) {
			t.Errorf("checksums %+v, of the file %s", got.r, sumOf(want))
		}
	}
}

func size(name string) int64 {
	st, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return st.Size()
}

func TestResetLeavesNothing(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		out, name := output(t)
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet}, out)
		c := dial(t, a).(*net.TCPConn)
		c.Write(content(100_000))
		c.SetLinger(0)
		c.Close()
		if got := <-done; !errors.Is(got.err, syscall.ECONNRESET) || got.r.Complete {
			t.Errorf("%+v, %v", got.r, got.err)
		}
		mustBeEmpty(t, filepath.Dir(name))
	}
}

// An interrupt ends waiting for a connection, and waiting for bytes.
func TestReceiveInterrupted(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "udp"} {
		for _, quiet := range []bool{false, true} {
			for _, connected := range []bool{false, true} {
				out, name := output(t)
				l, err := Listen(t.Context(), RecvOptions{Listen: address(t, network), NoChecksum: quiet, Idle: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				if connected {
					a := l.o.Listen
					if network != "unix" {
						a.Addr = l.Address()
					}
					dial(t, a).Write([]byte("some"))
				}
				time.AfterFunc(50*time.Millisecond, cancel)
				r, err := l.Receive(ctx, out, true)
				if !errors.Is(err, context.Canceled) || r.Complete {
					t.Errorf("%s connected %v: %+v, %v", network, connected, r, err)
				}
				cancel()
				l.Close()
				mustBeEmpty(t, filepath.Dir(name))
			}
		}
	}
}

func TestDatagrams(t *testing.T) {
	want := content(100_001)
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		for name, s := range map[string]Source{"file": fileSource(t, file(t, want)), "pipe": pipeSource(t, want), "memory": MemorySource(100_001, 1)} {
			t.Run(network+"/"+name, func(t *testing.T) {
				out, to := output(t)
				a, done := receiveOn(t, RecvOptions{Listen: Address{"udp", network}}, out)
				o := sendOptions(a, s)
				if name == "pipe" {
					o.DatagramBytes = 9000
				}
				r, err := Send(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				got := <-done
				if got.err != nil {
					t.Fatal(got.err)
				}
				b, err := os.ReadFile(to)
				if err != nil || len(b) != 100_001 || sumOf(b) != *r.SHA256 || *got.r.SHA256 != *r.SHA256 {
					t.Errorf("%d bytes, %v; sent %+v\nreceived %+v", len(b), err, r, got.r)
				}
				n := (100_001 + *r.DatagramBytes - 1) / *r.DatagramBytes
				if *r.Datagrams != n || *got.r.Datagrams != n || *got.r.Dropped != 0 || got.r.EndedBy != "end" {
					t.Errorf("%d datagrams; sent %+v\nreceived %+v", n, r, got.r)
				}
			})
		}
	}
}

// A backend that is asked for by name moves datagrams, too, where it can.
func TestDatagramsByBackend(t *testing.T) {
	for _, b := range []transmit.Backend{transmit.Write, transmit.MsgZerocopy, transmit.IoUringSend, transmit.IoUringSendZC} {
		t.Run(string(b), func(t *testing.T) {
			out, name := output(t)
			a, done := receiveOn(t, RecvOptions{Listen: Address{"udp", "127.0.0.1:0"}}, out)
			o := sendOptions(a, MemorySource(100_001, 1))
			o.Backend = b
			r, err := Send(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if got := <-done; got.err != nil {
				t.Fatal(got.err)
			}
			want := make([]byte, 100_001)
			fill(want, 0)
			mustHave(t, name, want)
			if r.Backend != string(b) || b.Notifies() != (r.ZerocopySends > 0) || r.NotifiedSends != r.ZerocopySends {
				t.Errorf("went by %s: %+v", r.Backend, r)
			}
		})
	}
}

// Over UDP anyone can send: only the first sender is heard.
func TestForeignDatagrams(t *testing.T) {
	a, done := receiveOn(t, RecvOptions{Listen: address(t, "udp"), Idle: 200 * time.Millisecond}, Discard())
	first, other := dial(t, a), dial(t, a)
	first.Write(nil) // the end of something before
	first.Write([]byte("one"))
	for range 3 {
		other.Write([]byte("junk"))
		other.Write(nil)
	}
	first.Write([]byte("two"))
	got := <-done
	if got.err != nil || got.r.ReceivedBytes != 6 || *got.r.Foreign != 6 || *got.r.Datagrams != 2 || got.r.EndedBy != "idle" ||
		*got.r.SHA256 != sumOf([]byte("onetwo")) || got.r.Peer != first.LocalAddr().String() {
		t.Errorf("%+v, %v", got.r, got.err)
	}
	a, done = receiveOn(t, RecvOptions{Listen: address(t, "udp"), MaxBytes: 5}, Discard())
	c := dial(t, a)
	c.Write([]byte("1234"))
	c.Write([]byte("56"))
	if got := <-done; !errors.Is(got.err, ErrTooMuch) || got.r.ReceivedBytes != 4 {
		t.Errorf("%+v, %v", got.r, got.err)
	}
}

// Nobody at the other end of a datagram socket is an error, as far as it shows.
func TestDatagramsRefused(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := Address{"udp", l.LocalAddr().String()}
	l.Close()
	_, err = Send(t.Context(), sendOptions(a, MemorySource(100, 1)))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
}

// After the last connection nobody else is made to wait.
func TestLastConnectionClosesTheDoor(t *testing.T) {
	a, done := receiveOn(t, RecvOptions{Listen: address(t, "unix")}, Discard())
	c := dial(t, a)
	c.Write([]byte("x"))
	time.Sleep(50 * time.Millisecond)
	if _, err := Dial(t.Context(), a); err == nil {
		t.Error("a second peer could connect")
	}
	c.Close()
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
	if _, err := os.Lstat(a.Addr); err == nil {
		t.Error("the socket's file was left behind")
	}
}

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, what string, mode os.FileMode) {
		if err := os.WriteFile(path(name), []byte(what), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("there", "old", 0o640)
	if err := os.Symlink("there", path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path("dangling")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    OutputOptions
		want string
	}{
		{"there", OutputOptions{}, "exists"},
		{"link", OutputOptions{}, "exists"},
		{"dangling", OutputOptions{Force: true}, "link to nothing"},
		{".", OutputOptions{Force: true}, "is a directory"},
		{"no/such/dir", OutputOptions{}, "no such file"},
	} {
		_, err := NewOutput(path(c.name), c.o)
		if f, ok := errors.AsType[*FileError](err); !ok || !strings.Contains(f.Err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := NewOutput("/dev/null", OutputOptions{Resume: true}); err == nil {
		t.Error("/dev/null is resumed")
	}
	// A link stays one, and the mode of what is replaced.
	out, err := NewOutput(path("link"), OutputOptions{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(out.file, "new")
	mustHave(t, path("there"), []byte("old"))
	if err := out.Commit(); err != nil {
		t.Fatal(err)
	}
	mustHave(t, path("there"), []byte("new"))
	if st, err := os.Lstat(path("link")); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", st, err)
	}
	if st, err := os.Stat(path("there")); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st, err)
	}
	// Whoever made the name meanwhile keeps it.
	if out, err = NewOutput(path("race"), OutputOptions{}); err != nil {
		t.Fatal(err)
	}
	put("race", "theirs", 0o600)
	if err := out.Commit(); err == nil || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("%v", err)
	}
	mustHave(t, path("race"), []byte("theirs"))
	// A device is written to, and not replaced.
	before, err := os.Lstat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if out, err = NewOutput("/dev/null", OutputOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(out.file, "gone")
	if err := out.Commit(); err != nil {
		t.Error(err)
	}
	if after, err := os.Lstat("/dev/null"); err != nil || !os.SameFile(before, after) {
		t.Errorf("/dev/null was replaced: %v, %v", after, err)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".part") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// A full disk is an error with the name of the file.
func TestOutputFull(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		out, err := NewOutput("/dev/full", OutputOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a, done := receiveOn(t, RecvOptions{Listen: address(t, "tcp"), NoChecksum: quiet}, out)
		o := sendOptions(a, MemorySource(1000, 1))
		Send(t.Context(), o) // may or may not notice
		got := <-done
		if !errors.Is(got.err, syscall.ENOSPC) || got.r.Complete {
			t.Errorf("%+v, %v", got.r, got.err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"127.0.0.1:80": {"tcp", "127.0.0.1:80"}, ":80": {"tcp", "127.0.0.1:80"}, "[::]:0": {"tcp", "[::]:0"},
		"host:http": {"tcp", "host:http"}, "unix:/a b": {"unix", "/a b"}, "unix:@x": {"unix", "@x"},
	} {
		if got, err := ParseAddress(in, false); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "80", "host", "host:", "unix:", "unix:@", "unix:/a\x00b", "unix:" + strings.Repeat("x", 108), "::1:80"} {
		if got, err := ParseAddress(in, false); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
	if _, err := ParseAddress("unix:/a", true); err == nil {
		t.Error("datagrams to a stream socket")
	}
	if got, err := ParseAddress(":5", true); err != nil || got != (Address{"udp", "127.0.0.1:5"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("127.0.0.1:80", false)
	f.Add("unix:/run/x", true)
	f.Add("[fe80::1%eth0]:1", false)
	f.Fuzz(func(t *testing.T, s string, udp bool) {
		a, err := ParseAddress(s, udp)
		if err != nil {
			if a != (Address{}) {
				t.Errorf("%+v with %v", a, err)
			}
			return
		}
		// What is understood is written so that it means the same.
		if b, err := ParseAddress(a.String(), udp); err != nil || b != a {
			t.Errorf("%q: %+v, then %+v, %v", s, a, b, err)
		}
		if host, _, err := net.SplitHostPort(a.Addr); a.Network != "unix" && (err != nil || host == "") {
			t.Errorf("%q listens everywhere: %+v", s, a)
		}
	})
}

// The generated stream differs everywhere, whatever the size of the pieces.
func TestPattern(t *testing.T) {
	a, b := make([]byte, 1<<16), make([]byte, 1<<16)
	fill(a, 0)
	for at := 0; at < len(b); at += 24 {
		fill(b[at:min(at+24, len(b))], int64(at))
	}
	if string(a) != string(b) {
		t.Error("pieces differ from the whole")
	}
	seen := map[string]bool{}
	for at := 0; at < len(a); at += 8 {
		if seen[string(a[at:at+8])] {
			t.Fatalf("repeats at %d", at)
		}
		seen[string(a[at:at+8])] = true
	}
}
