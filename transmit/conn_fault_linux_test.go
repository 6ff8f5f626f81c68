package transmit

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// faultyConn returns a Conn whose calls on files are changed, and what its peer got.
func faultyConn(t *testing.T, kind string, o ConnOptions, change func(k *calls)) (*Conn, func() []byte) {
	c, arrived := connTo(t, kind, o)
	k := kernel
	change(&k)
	c.stream.calls = &k
	return c, arrived
}

// TestConnFileFaults has sendfile fail in all ways, at once and in the middle: the
// copy goes on from the byte where it stopped.
func TestConnFileFaults(t *testing.T) {
	content := pattern(600_000)
	for _, f := range []struct {
		name  string
		err   error // of every call after some
		after int
		way   Backend
		cause string
		fails error
	}{
		{"EINVAL at once", syscall.EINVAL, 0, ReadWrite, "fast-path-refused", nil},
		{"EINVAL later", syscall.EINVAL, 2, ReadWrite, "fast-path-refused", nil},
		{"ENOSYS", syscall.ENOSYS, 0, ReadWrite, "fast-path-refused", nil},
		{"EPERM of a filter that came later", syscall.EPERM, 1, ReadWrite, "fast-path-refused", nil},
		{"EOPNOTSUPP", syscall.EOPNOTSUPP, 0, ReadWrite, "fast-path-refused", nil},
		{"ENOMEM", syscall.ENOMEM, 1, ReadWrite, "fast-path-refused", nil},
		{"EIO", syscall.EIO, 3, ReadWrite, "fast-path-refused", nil},
		{"EPIPE", syscall.EPIPE, 1, Sendfile, "", syscall.EPIPE},
		{"EINTR", syscall.EINTR, -3, Sendfile, "", nil},
		{"EAGAIN", syscall.EAGAIN, -3, Sendfile, "", nil},
		{"EAGAIN for ever", syscall.EAGAIN, 1, ReadWrite, "fast-path-refused", nil},
		{"short", nil, 0, Sendfile, "", nil},
	} {
		for _, s := range fileShapes[:15] {
			t.Run(f.name+" "+s.name, func(t *testing.T) {
				r, want, after := s.open(t, content)
				plain, _, plainAfter := s.open(t, content)
				if _, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{plain}); err != nil {
					t.Fatal(err)
				}
				var rep CopyReport
				made := 0
				c, arrived := faultyConn(t, "tcp", ConnOptions{OnCopy: func(r CopyReport) {
					if r.Bytes > rep.Bytes || r.Err != nil {
						rep = r
					}
				}}, func(k *calls) {
					k.Sendfile = func(out, in int, off *int64, n int) (int, error) {
						made++
						if f.after < 0 && made%-f.after == 1 || f.after >= 0 && made > f.after && f.err != nil {
							return 0, f.err
						}
						return sys.Sendfile(out, in, off, min(n, 70_001))
					}
				})
				n, err := io.Copy(c, r)
				if !errors.Is(err, f.fails) {
					t.Errorf("error %v, want %v", err, f.fails)
				}
				got := arrived()
				sameContent(t, "copy", got, want[:n])
				if f.fails != nil {
					return
				}
				if n != int64(len(want)) || after() != plainAfter() {
					t.Errorf("%d bytes, want %d; what was read is at %v, want %v", n, len(want), after(), plainAfter())
				}
				if rep.Way != f.way && f.after == 0 || f.cause != "" && rep.Way == ReadWrite && rep.Cause != f.cause {
					t.Errorf("report %+v", rep)
				}
			})
		}
	}
}

// TestConnLooksAtFiles checks that files are not sent from a page cache that may be
// old, and that the file system is asked once.
func TestConnLooksAtFiles(t *testing.T) {
	content := pattern(100_000)
	var rep CopyReport
	asked := 0
	c, arrived := faultyConn(t, "unix", ConnOptions{OnCopy: func(r CopyReport) { rep = r }}, func(k *calls) {
		k.FSMagic = func(int) (int64, error) { asked++; return 0x65735546, nil }
	})
	dir := t.TempDir()
	for range 3 {
		if n, err := io.Copy(c, fileIn(t, dir, content)); n != int64(len(content)) || err != nil {
			t.Errorf("%d bytes and %v", n, err)
		}
		if rep.Way != ReadWrite || rep.Cause != "stale-source" || rep.Reason == "" {
			t.Errorf("report %+v", rep)
		}
	}
	if asked != 1 {
		t.Errorf("the file system was asked %d times", asked)
	}
	sameContent(t, "copy", arrived(), []byte(strings.Repeat(string(content), 3)))
}

// TestConnCopyAllocates compares with package net what a copy allocates.
func TestConnCopyAllocates(t *testing.T) {
	near, far := tcpPair(t)
	c, err := Wrap(near, ConnOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, far) }()
	f := fileOf(t, pattern(1000))
	for name, read := range map[string]func(w io.Writer) error{
		"Copy":  func(w io.Writer) error { _, err := io.Copy(w, f); return err },
		"CopyN": func(w io.Writer) error { _, err := io.CopyN(w, f, 1000); return err },
	} {
		count := func(w io.Writer) float64 {
			return testing.AllocsPerRun(200, func() {
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					t.Error(err)
				}
				if err := read(w); err != nil {
					t.Error(err)
				}
			})
		}
		theirs, ours := count(near), count(c)
		if ours > theirs {
			t.Errorf("%s allocates %v times, package net %v", name, ours, theirs)
		}
	}
}
