package transmit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCopyBetweenEverything copies from every source to every target by Copy, and by
// the WriteTo and ReadFrom of Conns where an end is a connection.
func TestCopyBetweenEverything(t *testing.T) {
	content := pattern(300_003)
	for _, s := range sources {
		for _, d := range targets {
			for _, how := range []string{"Copy", "CopyN", "wrapped source", "wrapped both"} {
				t.Run(s.name+" to "+d.name+" "+how, func(t *testing.T) {
					src := s.open(t, content).(io.Reader)
					end, arrived := d.open(t)
					copyOneWay(t, how, end.(io.Writer), src, content, arrived)
				})
			}
		}
	}
}

func copyOneWay(t *testing.T, how string, dst io.Writer, src io.Reader, content []byte, arrived func() []byte) {
	var rep CopyReport
	var err error
	o := ConnOptions{OnCopy: func(r CopyReport) { rep = r }}
	want := content
	switch how {
	case "Copy":
		rep, err = Copy(dst, src)
	case "CopyN":
		want = part(content)
		l := &io.LimitedReader{R: src, N: int64(len(want))}
		if rep, err = Copy(struct{ io.Writer }{dst}, l); l.N != 0 {
			t.Errorf("%d bytes are left of the limit", l.N)
		}
	default:
		if nc, ok := src.(net.Conn); ok {
			if src, err = Wrap(nc, o); err != nil {
				t.Fatal(err)
			}
		}
		if nc, ok := dst.(net.Conn); ok && how == "wrapped both" {
			if dst, err = Wrap(nc, o); err != nil {
				t.Fatal(err)
			}
		}
		var n int64
		if n, err = io.Copy(dst, src); n != int64(len(content)) {
			t.Errorf("%d bytes", n)
		}
		if _, ok := src.(*Conn); !ok {
			rep.Bytes = n // a copy of package os and net
		}
	}
	if err != nil || rep.Bytes != int64(len(want)) {
		t.Errorf("%v, report %+v", err, rep)
	}
	if rep.Way == ReadWrite && rep.Reason == "" || rep.Way == Splice && rep.Reason != "" {
		t.Errorf("report %+v", rep)
	}
	if rep.Cause != "" {
		knownCause(t, rep.Cause)
	}
	sameContent(t, "copy", arrived(), want)
}

// TestCopyOfMishaps compares what a copy returns with what package net does.
func TestCopyOfMishaps(t *testing.T) {
	content := pattern(2 << 20)
	odd := errors.New("an odd error")
	for _, m := range []struct {
		name string
		// do makes the mishap around a connection, and returns what is copied to it.
		do   func(t *testing.T, near, far net.Conn) io.Reader
		want error
	}{
		{"peer gone", func(t *testing.T, near, far net.Conn) io.Reader {
			_ = far.(*net.TCPConn).SetLinger(0)
			_ = far.Close()
			time.Sleep(20 * time.Millisecond)
			return fileOf(t, content)
		}, syscall.ECONNRESET},
		{"closed", func(t *testing.T, near, far net.Conn) io.Reader { _ = near.Close(); return fileOf(t, content) }, net.ErrClosed},
		{"closed during the copy", func(t *testing.T, near, far net.Conn) io.Reader {
			time.AfterFunc(50*time.Millisecond, func() { _ = near.Close() })
			return fileOf(t, bytes.Repeat(content, 8))
		}, net.ErrClosed},
		{"deadline", func(t *testing.T, near, far net.Conn) io.Reader {
			_ = near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			return fileOf(t, bytes.Repeat(content, 8))
		}, os.ErrDeadlineExceeded},
		{"deadline of a relay", func(t *testing.T, near, far net.Conn) io.Reader {
			_ = near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			from, peer := tcpPair(t)
			feed(t, peer, bytes.Repeat(content, 8))
			return from
		}, os.ErrDeadlineExceeded},
		{"closed file", func(t *testing.T, near, far net.Conn) io.Reader {
			f := fileOf(t, content)
			_ = f.Close()
			return f
		}, os.ErrClosed},
		{"directory", func(t *testing.T, near, far net.Conn) io.Reader {
			f, err := os.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		}, syscall.EISDIR},
		{"file not open for reading", func(t *testing.T, near, far net.Conn) io.Reader {
			f, err := os.OpenFile(fileOf(t, content).Name(), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		}, syscall.EBADF},
		{"error of the reader", func(t *testing.T, near, far net.Conn) io.Reader {
			return io.MultiReader(strings.NewReader("before"), fileOf(t, content[:1000]), brokenReader{odd})
		}, odd},
		{"section before the start", func(t *testing.T, near, far net.Conn) io.Reader {
			return io.NewSectionReader(fileOf(t, content), -5, 100)
		}, nil},
		{"section beyond the end", func(t *testing.T, near, far net.Conn) io.Reader {
			return io.NewSectionReader(fileOf(t, content[:500]), 100, 1000)
		}, nil},
		{"negative limit", func(t *testing.T, near, far net.Conn) io.Reader {
			return io.LimitReader(fileOf(t, content), -5)
		}, nil},
	} {
		t.Run(m.name, func(t *testing.T) {
			run := func(wrap bool) (int64, error) {
				near, far := tcpPair(t)
				var c net.Conn = near
				if wrap {
					w, err := Wrap(near, ConnOptions{})
					if err != nil {
						t.Fatal(err)
					}
					c = w
				}
				return io.Copy(c, m.do(t, c, far))
			}
			n1, err1 := run(false)
			n2, err2 := run(true)
			if (err1 == nil) != (err2 == nil) {
				t.Errorf("package net says %v, Conn %v", err1, err2)
			}
			if m.want != nil && (!errors.Is(err1, m.want) || !errors.Is(err2, m.want)) {
				t.Errorf("package net says %v, Conn %v, want %v", err1, err2, m.want)
			}
			var ne net.Error
			if errors.As(err1, &ne) && (!errors.As(err2, &ne) || ne.Timeout() != errors.Is(err1, os.ErrDeadlineExceeded)) {
				t.Errorf("no net.Error, or one that is not the same: %v, %v", err1, err2)
			}
			// How much fits into the buffers depends on when the peer's grow.
			if n1 != n2 && !errors.Is(err1, net.ErrClosed) && !errors.Is(err1, os.ErrDeadlineExceeded) {
				t.Errorf("package net copied %d bytes, Conn %d", n1, n2)
			}
		})
	}
}

// A brokenReader is a reader that fails.
type brokenReader struct{ err error }

func (f brokenReader) Read([]byte) (int, error) { return 0, f.err }

// liar is a reader that claims to have read more than there was room for.
type liar struct{}

func (liar) Read(p []byte) (int, error) { return len(p) + 1, nil }

func TestCopyOfALiar(t *testing.T) {
	c, _ := connTo(t, "tcp", ConnOptions{})
	defer func() {
		if recover() == nil {
			t.Error("a reader that lies was believed")
		}
	}()
	_, _ = io.Copy(c, liar{})
}

// TestCopyChangingFiles has files grow and shrink while they are copied.
func TestCopyChangingFiles(t *testing.T) {
	content := pattern(12 << 20)
	for name, change := range map[string]func(f *os.File) error{
		"grows": func(f *os.File) error {
			_, err := f.WriteAt(content[8<<20:], 8<<20)
			return err
		},
		"shrinks": func(f *os.File) error { return f.Truncate(7 << 20) },
	} {
		t.Run(name, func(t *testing.T) {
			f := fileOf(t, content[:8<<20])
			near, far := tcpPair(t)
			c, err := Wrap(near, ConnOptions{})
			if err != nil {
				t.Fatal(err)
			}
			type result struct {
				n   int64
				err error
			}
			done := make(chan result)
			go func() {
				n, err := io.Copy(c, f)
				_ = c.Close()
				done <- result{n, err}
			}()
			first := make([]byte, 1000)
			if _, err := io.ReadFull(far, first); err != nil {
				t.Fatal(err)
			}
			if err := change(f); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(far)
			if err != nil {
				t.Fatal(err)
			}
			st, _ := f.Stat()
			r := <-done
			if r.err != nil || r.n != st.Size() {
				t.Errorf("copied %d bytes of %d, and %v", r.n, st.Size(), r.err)
			}
			sameContent(t, "copy", append(first, rest...), content[:st.Size()])
		})
	}
}

// ownWriterTo writes itself by a copy that hides its WriteTo, as many do.
type ownWriterTo struct{ io.Reader }

func (o *ownWriterTo) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{o})
}

func TestCopyEndsWhereReadersCallBack(t *testing.T) {
	content := pattern(100_000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"alone":    func(r io.Reader) io.Reader { return &ownWriterTo{r} },
		"in parts": func(r io.Reader) io.Reader { return io.MultiReader(&ownWriterTo{r}, strings.NewReader("")) },
		"limited parts": func(r io.Reader) io.Reader {
			return io.LimitReader(io.MultiReader(&ownWriterTo{r}), 1<<20)
		},
		"buffered": func(r io.Reader) io.Reader { return bufio.NewReader(&ownWriterTo{r}) },
	} {
		t.Run(name, func(t *testing.T) {
			c, arrived := connTo(t, "unix", ConnOptions{})
			n, err := io.Copy(c, wrap(fileOf(t, content)))
			if n != int64(len(content)) || err != nil {
				t.Errorf("%d bytes and %v", n, err)
			}
			sameContent(t, "copy", arrived(), content)
		})
	}
}

// TestConnWriteTo copies from a Conn to writers of all kinds.
func TestConnWriteTo(t *testing.T) {
	content := pattern(200_000)
	for _, way := range []Backend{"", ReadWrite} {
		from, peer := tcpPair(t)
		feed(t, peer, content)
		var rep CopyReport
		c, err := Wrap(from, ConnOptions{OnCopy: func(r CopyReport) { rep = r }})
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		var w io.Writer = &got // has a ReadFrom
		if way != "" {
			w = ownWriter{&got}
		}
		n, err := io.Copy(w, c)
		if n != int64(len(content)) || err != nil || rep.Way != way || rep.Reason == "" || rep.Source != "tcp" {
			t.Errorf("%d bytes and %v, report %+v", n, err, rep)
		}
		sameContent(t, "copy", got.Bytes(), content)
	}
}

// An ownWriter may look at what is written to it.
type ownWriter struct{ w io.Writer }

func (n ownWriter) Write(p []byte) (int, error) { return n.w.Write(p) }
