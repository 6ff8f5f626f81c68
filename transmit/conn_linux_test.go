package transmit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A shape is a way to hand an io.Reader to io.Copy.
type shape struct {
	name string
	way  Backend // of the copy through a Conn
	// open returns the reader, what it should give, and what is to be the same in the
	// reader after the copy as after one by a loop of Read and Write.
	open func(t testing.TB, content []byte) (r io.Reader, want []byte, after func() any)
}

// at returns the position of a file.
func at(f io.Seeker) func() any {
	return func() any {
		n, err := f.Seek(0, io.SeekCurrent)
		return [2]any{n, err}
	}
}

// partShare is what most shapes with a limit take of the content.
const partShare = 3

func part(content []byte) []byte { return content[:len(content)/partShare] }

// fileShapes hide a file.
var fileShapes = []shape{
	{"file", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		return f, c, at(f)
	}},
	{"file from a position", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		_, _ = f.Seek(1001, io.SeekStart)
		return f, c[1001:], at(f)
	}},
	{"LimitReader", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		l := &io.LimitedReader{R: f, N: int64(len(part(c)))}
		return l, part(c), func() any { return [2]any{at(f)(), l.N} }
	}},
	{"LimitReader longer than the file", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		l := &io.LimitedReader{R: f, N: int64(len(c)) + 77}
		return l, c, func() any { return [2]any{at(f)(), l.N} }
	}},
	{"LimitReader of LimitReader", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		in := &io.LimitedReader{R: f, N: int64(len(part(c))) + 99}
		out := &io.LimitedReader{R: in, N: int64(len(part(c)))}
		return out, part(c), func() any { return [3]any{at(f)(), in.N, out.N} }
	}},
	{"SectionReader", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		s := io.NewSectionReader(f, 4099, int64(len(part(c))))
		_, _ = s.Seek(17, io.SeekStart)
		return s, c[4099+17:][:len(part(c))-17], func() any { return [2]any{at(f)(), at(s)()} }
	}},
	{"SectionReader of SectionReader, limited", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		s := io.NewSectionReader(io.NewSectionReader(f, 4099, int64(len(c))), 5, int64(len(part(c))))
		l := &io.LimitedReader{R: s, N: int64(len(part(c))) - 100}
		return l, c[4104:][:l.N], func() any { return [3]any{at(f)(), at(s)(), l.N} }
	}},
	{"NopCloser", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		return io.NopCloser(f), c, at(f)
	}},
	{"NopCloser of a limit", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		return io.NopCloser(io.LimitReader(f, int64(len(part(c))))), part(c), at(f)
	}},
	{"bufio.Reader", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		b := bufio.NewReader(fileOf(t, c))
		_, _ = b.ReadByte()
		return b, c[1:], func() any { return b.Buffered() }
	}},
	{"bufio.Reader, limited", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		b := bufio.NewReader(fileOf(t, c))
		_, _ = b.ReadByte()
		l := &io.LimitedReader{R: b, N: int64(len(part(c)))}
		return l, c[1:][:len(part(c))], func() any {
			next, err := b.Peek(10)
			return [3]any{l.N, string(next), err}
		}
	}},
	{"MultiReader", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		m := io.MultiReader(strings.NewReader("header"), f, bytes.NewReader([]byte("trailer")))
		return m, bytes.Join([][]byte{[]byte("header"), c, []byte("trailer")}, nil), at(f)
	}},
	{"MultiReader, limited", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		m := io.MultiReader(strings.NewReader("header"), io.LimitReader(f, 100), f, strings.NewReader("trailer"))
		l := &io.LimitedReader{R: m, N: 6 + int64(len(part(c)))}
		return l, append([]byte("header"), part(c)...), func() any {
			rest, err := io.ReadAll(m)
			return [3]any{l.N, string(rest), err}
		}
	}},
	{"struct{io.Reader}", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		return struct{ io.Reader }{f}, c, at(f)
	}},
	{"struct{io.Reader; io.Closer} of a limit", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		l := &io.LimitedReader{R: f, N: int64(len(part(c)))}
		return &struct {
			io.Reader
			io.Closer
		}{l, f}, part(c), func() any { return [2]any{at(f)(), l.N} }
	}},
	{"os.DirFS", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f, err := os.DirFS(filepath.Dir(fileOf(t, c).Name())).Open("f")
		if err != nil {
			t.Fatal(err)
		}
		return f, c, at(f.(io.Seeker))
	}},
	{"http.FS of os.DirFS, limited", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f, err := http.FS(os.DirFS(filepath.Dir(fileOf(t, c).Name()))).Open("f")
		if err != nil {
			t.Fatal(err)
		}
		l := &io.LimitedReader{R: f, N: int64(len(part(c)))}
		return l, part(c), func() any { return [2]any{at(f)(), l.N} }
	}},
	{"http.Dir", Sendfile, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f, err := http.Dir(filepath.Dir(fileOf(t, c).Name())).Open("/f")
		if err != nil {
			t.Fatal(err)
		}
		return f, c, at(f)
	}},
	{"fs.File that looks", ReadWrite, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		want := bytes.Clone(c)
		invert(want)
		return flipped{f}, want, at(f)
	}},
	{"TeeReader", ReadWrite, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		f := fileOf(t, c)
		var seen bytes.Buffer
		return io.TeeReader(f, &seen), c, func() any { return [2]any{at(f)(), seen.String()} }
	}},
	{"strings.Reader", Write, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		s := strings.NewReader(string(c))
		return io.LimitReader(s, int64(len(part(c)))), part(c), func() any { return s.Len() }
	}},
	{"procfs", ReadWrite, func(t testing.TB, _ []byte) (io.Reader, []byte, func() any) {
		want, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open("/proc/filesystems")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f, want, at(f)
	}},
	{"sysfs", Sendfile, func(t testing.TB, _ []byte) (io.Reader, []byte, func() any) {
		f, err := os.Open("/sys/kernel/mm/transparent_hugepage/enabled")
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("needs transparent huge pages")
		}
		want, _ := os.ReadFile(f.Name())
		t.Cleanup(func() { _ = f.Close() })
		return f, want, at(f)
	}},
}

// flipped changes the bytes that pass it.
type flipped struct{ fs.File }

func (f flipped) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	invert(p[:n])
	return n, err
}

func invert(p []byte) {
	for i := range p {
		p[i] ^= 0x55
	}
}

// streamShapes hide what has no positions.
var streamShapes = []shape{
	streamShape("tcp", func(r io.Reader) io.Reader { return r }),
	streamShape("unix", func(r io.Reader) io.Reader { return r }),
	streamShape("pipe", func(r io.Reader) io.Reader { return r }),
	streamShape("tcp", func(r io.Reader) io.Reader { return struct{ net.Conn }{r.(net.Conn)} }),
	streamShape("tcp", func(r io.Reader) io.Reader { return io.NopCloser(bufio.NewReader(r)) }),
	streamShape("unix", func(r io.Reader) io.Reader { return io.LimitReader(io.LimitReader(r, 1<<40), 1<<40) }),
	streamShape("pipe", func(r io.Reader) io.Reader { return io.LimitReader(r, 1<<40) }),
	{"exec.Cmd", Splice, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		cmd := exec.Command("cat", fileOf(t, c).Name())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() })
		return out, c, func() any { return nil }
	}},
}

func streamShape(kind string, wrap func(io.Reader) io.Reader) shape {
	return shape{kind, Splice, func(t testing.TB, c []byte) (io.Reader, []byte, func() any) {
		for _, s := range sources {
			if s.name == kind {
				return wrap(s.open(t, c).(io.Reader)), c, func() any { return nil }
			}
		}
		t.Fatal("no source ", kind)
		return nil, nil, nil
	}}
}

// TestEveryShape copies every shape to every kind of connection, and compares with a
// loop of Read and Write.
func TestEveryShape(t *testing.T) {
	content := pattern(700_001)
	for _, s := range append(fileShapes[:len(fileShapes):len(fileShapes)], streamShapes...) {
		for _, to := range []string{"tcp", "unix"} {
			t.Run(s.name+" to "+to, func(t *testing.T) {
				plain, _, plainAfter := s.open(t, content)
				n, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{plain})
				wantN, wantAfter := n, plainAfter()
				if err != nil {
					t.Fatal(err)
				}
				r, want, after := s.open(t, content)
				var rep CopyReport
				c, arrived := connTo(t, to, ConnOptions{OnCopy: func(r CopyReport) {
					if r.Bytes > rep.Bytes {
						rep = r
					}
				}})
				n, err = io.Copy(c, r)
				if n != wantN || err != nil {
					t.Errorf("%d bytes and %v, want %d", n, err, wantN)
				}
				sameContent(t, "copy", arrived(), want)
				if got := after(); got != wantAfter {
					t.Errorf("what was read is at %v, want %v", got, wantAfter)
				}
				checkReport(t, rep, s.way, to)
			})
		}
	}
}

func checkReport(t *testing.T, r CopyReport, way Backend, to string) {
	t.Helper()
	if r.Way != way || r.Backend != way || r.Target != to || r.Source == "" || r.Err != nil {
		t.Errorf("report %+v, want %s to %s", r, way, to)
	}
	if better := r.Way == Sendfile || r.Way == Splice; better == (r.Reason != "") {
		t.Errorf("report %+v: the reason does not fit the way", r)
	}
	if r.Cause != "" {
		knownCause(t, r.Cause)
	}
}

// connTo returns a Conn of a kind, and what its peer got.
func connTo(t testing.TB, kind string, o ConnOptions) (*Conn, func() []byte) {
	t.Helper()
	for _, e := range targets {
		if e.name != kind {
			continue
		}
		end, arrived := e.open(t)
		c, err := Wrap(end.(net.Conn), o)
		if err != nil {
			t.Fatal(err)
		}
		return c, arrived
	}
	t.Fatal("no target ", kind)
	return nil, nil
}
