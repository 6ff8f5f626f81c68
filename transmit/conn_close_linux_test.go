package transmit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// narrowPair returns the ends of a TCP connection of which the far one takes little
// before it is read from, and the near one much.
func narrowPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = p.Close() })
	near, far = c.(*net.TCPConn), p.(*net.TCPConn)
	if err := near.SetWriteBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// lentConn returns a Conn that has lent a body to a peer that does not read.
func lentConn(t *testing.T, o Options) (c *Conn, far *net.TCPConn, b *Body, content []byte) {
	near, far := narrowPair(t)
	o.Backend = MsgZerocopy
	c, err := Wrap(near, ConnOptions{Sender: o})
	if err != nil {
		t.Fatal(err)
	}
	content = pattern(96 << 10)
	b = NewBody(content)
	r := b.NewReader()
	if n, err := io.Copy(c, r); n != int64(len(content)) || err != nil {
		t.Fatalf("%d bytes and %v", n, err)
	}
	_ = r.Close()
	if s := c.sender.Load(); s.Stats().ZerocopySends == 0 && os.Getuid() != 0 {
		t.Skip("needs locked memory for 96 KiB")
	}
	if held(t, b) == nil {
		t.Fatal("nothing is lent: the test tests nothing")
	}
	return c, far, b, content
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// held returns an error if somebody has the body.
func held(t *testing.T, b *Body) error {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	return b.Release(ctx)
}

// TestConnCloseWhileLent closes a connection with memory lent: Close returns, the
// peer gets all, and the memory comes back.
func TestConnCloseWhileLent(t *testing.T) {
	fds := openFDs(t)
	c, far, b, content := lentConn(t, Options{})
	if _, err := c.Write([]byte("after")); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := held(t, b); err == nil {
		t.Error("the memory was given back while it was lent")
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that waited says %v", err)
	}
	checkClosed(t, c)
	got, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	sameContent(t, "stream", got, append(bytes.Clone(content), "after"...))
	if err := b.Release(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	_ = far.Close()
	for end := time.Now().Add(5 * time.Second); openFDs(t) > fds && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := openFDs(t); n > fds {
		t.Errorf("%d descriptors were open, %d are", fds, n)
	}
}

func checkClosed(t *testing.T, c *Conn) {
	t.Helper()
	_, rerr := c.Read(make([]byte, 1))
	_, werr := c.Write([]byte{1})
	_, ferr := c.ReadFrom(bytes.NewReader([]byte{1}))
	_, terr := c.WriteTo(io.Discard)
	for what, err := range map[string]error{"Read": rerr, "Write": werr, "ReadFrom": ferr, "WriteTo": terr,
		"SetDeadline": c.SetDeadline(time.Time{}), "Close": c.Close()} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s of a closed connection says %v", what, err)
		}
	}
}

// TestConnGivesUp closes connections of which the peer never reads, or that are to be
// reset: what they lent is told to be abandoned.
func TestConnGivesUp(t *testing.T) {
	for name, prepare := range map[string]func(c *Conn) error{
		"timeout": func(*Conn) error { return nil },
		"reset":   func(c *Conn) error { return c.SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			c, _, b, _ := lentConn(t, Options{DrainTimeout: 100 * time.Millisecond})
			if err := prepare(c); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := b.Release(within(t, 10*time.Second)); !errors.Is(err, ErrAbandoned) {
				t.Errorf("the body says %v", err)
			}
			checkClosed(t, c)
		})
	}
}

// TestConnCloseWithoutLoans closes connections that sent files by the Sender, which
// lends no memory of the application's.
func TestConnCloseWithoutLoans(t *testing.T) {
	near, far := narrowPair(t)
	c, err := Wrap(near, ConnOptions{Sender: Options{Backend: Sendfile}})
	if err != nil {
		t.Fatal(err)
	}
	content := pattern(96 << 10)
	if n, err := io.Copy(c, fileOf(t, content)); n != int64(len(content)) || err != nil {
		t.Fatalf("%d bytes and %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("what it wraps is still open: %v", err)
	}
	checkClosed(t, c)
	got, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	sameContent(t, "stream", got, content)
}

// TestConnFileOptions sends files by the Sender.
func TestConnFileOptions(t *testing.T) {
	content := pattern(900_001)
	mappings := testMappings(t, MappingsOptions{MaxBytes: 16 << 20})
	for _, o := range []struct {
		name string
		o    ConnOptions
		way  Backend
	}{
		{"snapshot", ConnOptions{File: FileOptions{Snapshot: true}}, ReadWrite},
		{"mappings", ConnOptions{File: FileOptions{Mappings: mappings}}, Sendfile}, // the peer is local
		{"mmap_zerocopy", ConnOptions{File: FileOptions{Mappings: mappings}, Sender: Options{Backend: MmapZerocopy}}, MmapZerocopy},
		{"write", ConnOptions{Sender: Options{Backend: Write}}, ReadWrite},
		{"lease", ConnOptions{File: FileOptions{Lease: true}}, Sendfile},
		{"header is left out", ConnOptions{File: FileOptions{Header: [][]byte{[]byte("header")}, Snapshot: true}}, ReadWrite},
	} {
		shapes := fileShapes[:12]
		if o.name == "lease" {
			shapes = shapes[:2] // those that are a file, which is opened again
		}
		for _, s := range shapes {
			t.Run(o.name+" "+s.name, func(t *testing.T) {
				var rep CopyReport
				o.o.OnCopy = func(r CopyReport) {
					if r.Bytes >= rep.Bytes {
						rep = r
					}
				}
				plain, want, plainAfter := s.open(t, content)
				if _, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{plain}); err != nil {
					t.Fatal(err)
				}
				r, _, after := s.open(t, content)
				if o.name == "lease" {
					r, after = readOnly(t, r, after)
				}
				c, arrived := connTo(t, "tcp", o.o)
				n, err := io.Copy(c, r)
				limited := os.Getuid() != 0 && rep.Cause == "memlock-limit" ||
					o.way == Sendfile && rep.Way == ReadWrite && rep.Cause == "loopback-delivery" // a kernel without sock_diag
				if n != int64(len(want)) || err != nil || rep.Way != o.way && !limited {
					t.Errorf("%d bytes and %v, want %d by %s; report %+v", n, err, len(want), o.way, rep)
				}
				sameContent(t, "copy", arrived(), want)
				if got := after(); o.name != "lease" && got != plainAfter() {
					t.Errorf("what was read is at %v, want %v", got, plainAfter())
				}
			})
		}
	}
}

// readOnly opens a file again: with a lease nobody may have it open for writing.
func readOnly(t *testing.T, r io.Reader, after func() any) (io.Reader, func() any) {
	f := r.(*os.File)
	again := openFile(t, f.Name(), os.O_RDONLY)
	pos, _ := f.Seek(0, io.SeekCurrent)
	_, _ = again.Seek(pos, io.SeekStart)
	_ = f.Close()
	return again, after
}
