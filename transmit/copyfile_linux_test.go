package transmit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fileIn makes a file with that content in dir, open for reading and writing.
func fileIn(t testing.TB, dir string, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(); _ = os.Remove(f.Name()) })
	return f
}

var copyBackends = []Backend{"", CopyFileRange, Splice, Sendfile, ReadWrite}

var copySizes = []int64{1, 4095, 4096, 4097, 65535, 65536, 65537, copyBytes + 1, pipeBytes - 1, pipeBytes, pipeBytes + 1, copyChunk + 1}

// copyCases copies within dir, or from one directory to another, in every way.
func copyCases(t *testing.T, from, to string) {
	content := pattern(copyChunk + 4096)
	src := fileIn(t, from, content)
	for _, backend := range copyBackends {
		for _, size := range copySizes {
			for _, c := range []struct{ srcOff, dstOff, have int64 }{{0, 0, 0}, {4096, 8192, 100_000}, {17, 5, 4_000_000}} {
				if c.have > 0 && (size%4096 == 0 || size > pipeBytes) {
					continue
				}
				name := fmt.Sprintf("%q, %d bytes, %+v", backend, size, c)
				dst := fileIn(t, to, bytes.Repeat([]byte{'x'}, int(c.have)))
				res, err := CopyFile(t.Context(), dst, src, c.srcOff, c.dstOff, size, CopyOptions{Backend: backend, OnDowngrade: func(*Downgrade) {}})
				if err != nil || res.Bytes != size || res.PlainBytes+res.SharedBytes != size {
					t.Fatalf("%s: %+v, %v", name, res, err)
				}
				got := contentOf(t, dst)
				want := append(bytes.Repeat([]byte{'x'}, int(min(c.have, c.dstOff))), make([]byte, max(0, c.dstOff-c.have))...)
				want = append(want, content[c.srcOff:c.srcOff+size]...)
				want = append(want, bytes.Repeat([]byte{'x'}, int(max(0, c.have-c.dstOff-size)))...)
				sameContent(t, name, got, want)
				_ = dst.Close()
				_ = os.Remove(dst.Name())
			}
		}
	}
	if !bytes.Equal(contentOf(t, src), content) {
		t.Error("the source changed")
	}
}

func TestCopyFile(t *testing.T) {
	dir, shm := t.TempDir(), shmDir(t)
	t.Run("same file system", func(t *testing.T) { copyCases(t, dir, dir) })
	t.Run("tmpfs", func(t *testing.T) { copyCases(t, shm, shm) })
	t.Run("to another", func(t *testing.T) { copyCases(t, dir, shm) })
}

// shmDir is a directory on tmpfs.
func shmDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "zcprobe-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestCopyFileWays(t *testing.T) {
	dir := shmDir(t) // no reflinks there
	src := fileIn(t, dir, pattern(200_000))
	other := fileIn(t, t.TempDir(), nil)
	for name, c := range map[string]struct {
		dst  *os.File
		opts CopyOptions
		want Backend
		told error
	}{
		"best":          {fileIn(t, dir, nil), CopyOptions{}, CopyFileRange, nil},
		"own blocks":    {fileIn(t, dir, nil), CopyOptions{OwnBlocks: true}, Splice, nil},
		"sendfile":      {fileIn(t, dir, nil), CopyOptions{Backend: Sendfile}, Sendfile, nil},
		"read_write":    {fileIn(t, dir, nil), CopyOptions{Backend: ReadWrite}, ReadWrite, nil},
		"other devices": {other, CopyOptions{}, Splice, syscall.EXDEV},
	} {
		var told []*Downgrade
		c.opts.OnDowngrade = func(d *Downgrade) { told = append(told, d) }
		res, err := CopyFile(t.Context(), c.dst, src, 0, 0, -1, c.opts)
		if err != nil || res != (Result{Bytes: 200_000, PlainBytes: 200_000, Backend: c.want, Cause: res.Cause}) {
			t.Errorf("%s: %+v, %v; want %s", name, res, err, c.want)
		}
		if c.told == nil && (len(told) > 0 || res.Cause != "") || c.told != nil && (len(told) != 1 || !errors.Is(told[0], c.told) || res.Cause != "fast-path-refused") {
			t.Errorf("%s: told %v, cause %q; want %v", name, told, res.Cause, c.told)
		}
		sameContent(t, name, contentOf(t, c.dst), contentOf(t, src))
	}
}

// Two ranges copied at a time must not get in each other's way, nor in that of who
// reads by position.
func TestCopyFileKeepsPositions(t *testing.T) {
	for _, backend := range copyBackends {
		dir := t.TempDir()
		src := sparseIn(t, dir, 1<<20, pattern(5000), 0, 300_000, 900_000)
		dst := fileIn(t, dir, nil)
		for _, f := range []*os.File{src, dst} {
			if _, err := f.Seek(123, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		if res, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{Backend: backend}); err != nil || res.Bytes != 1<<20 {
			t.Fatal(res, err)
		}
		for _, f := range []*os.File{src, dst} {
			if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 123 {
				t.Errorf("%s: position %d, %v", backend, at, err)
			}
		}
		sameContent(t, string(backend), contentOf(t, dst), contentOf(t, src))
	}
}

func TestCopyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	f, g := fileIn(t, dir, pattern(10_000)), fileIn(t, dir, nil)
	open := func(name string, flags int) *os.File {
		h, err := os.OpenFile(name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	again, app, wr, rd := open(f.Name(), os.O_RDWR), open(g.Name(), os.O_RDWR|os.O_APPEND), open(g.Name(), os.O_WRONLY), open(f.Name(), os.O_RDONLY)
	d, null := open(dir, os.O_RDONLY), open("/dev/null", os.O_RDWR)
	r, w := osPipe(t)
	near, _ := tcpPair(t)
	socket := asFile(t, near)
	closed := fileIn(t, dir, nil)
	_ = closed.Close()
	for name, c := range map[string]struct {
		dst, src          *os.File
		srcOff, dstOff, n int64
		opts              CopyOptions
		want              error
	}{
		"negative source":      {g, f, -1, 0, 1, CopyOptions{}, syscall.EINVAL},
		"negative destination": {g, f, 0, -1, 1, CopyOptions{}, syscall.EINVAL},
		"negative length":      {g, f, 0, 0, -2, CopyOptions{}, syscall.EINVAL},
		"overflow":             {g, f, math.MaxInt64, 0, 1, CopyOptions{}, syscall.EINVAL},
		"overflow behind":      {g, f, 0, math.MaxInt64 - 5, 6, CopyOptions{}, syscall.EINVAL},
		"overflow to the end":  {g, f, 0, math.MaxInt64 - 5, -1, CopyOptions{}, syscall.EINVAL},
		"overlap":              {again, f, 0, 9_999, 10_000, CopyOptions{}, syscall.EINVAL},
		"overlap backwards":    {again, f, 5000, 0, -1, CopyOptions{Backend: ReadWrite}, nil},
		"overlap to the end":   {f, f, 0, 100, -1, CopyOptions{}, syscall.EINVAL},
		"append":               {app, f, 0, 0, -1, CopyOptions{}, syscall.EINVAL},
		"write only source":    {fileIn(t, dir, nil), wr, 0, 0, 1, CopyOptions{Backend: CopyFileRange}, syscall.EBADF},
		"read only target":     {rd, g, 0, 0, -1, CopyOptions{}, nil}, // nothing to copy
		"read only target, n":  {rd, again, 0, 20_000, 100, CopyOptions{}, syscall.EBADF},
		"directory":            {g, d, 0, 0, -1, CopyOptions{}, syscall.EISDIR},
		"to a directory":       {d, f, 0, 0, -1, CopyOptions{}, syscall.EISDIR},
		"pipe":                 {g, r, 0, 0, -1, CopyOptions{}, errors.ErrUnsupported},
		"to a pipe":            {w, f, 0, 0, -1, CopyOptions{}, errors.ErrUnsupported},
		"socket":               {g, socket, 0, 0, -1, CopyOptions{}, errors.ErrUnsupported},
		"to a device":          {null, f, 0, 0, -1, CopyOptions{}, errors.ErrUnsupported},
		"closed source":        {g, closed, 0, 0, -1, CopyOptions{}, os.ErrClosed},
		"closed target":        {closed, f, 0, 0, -1, CopyOptions{}, os.ErrClosed},
		"backend of memory":    {g, f, 0, 0, -1, CopyOptions{Backend: MsgZerocopy}, errors.ErrUnsupported},
		"own blocks and not":   {g, f, 0, 0, -1, CopyOptions{Backend: CopyFileRange, OwnBlocks: true}, syscall.EINVAL},
	} {
		res, err := CopyFile(t.Context(), c.dst, c.src, c.srcOff, c.dstOff, c.n, c.opts)
		if !errors.Is(err, c.want) || err != nil && res.Bytes != 0 {
			t.Errorf("%s: %+v, %v; want %v", name, res, err, c.want)
		}
	}
}

func TestCopyFileWithinOneFile(t *testing.T) {
	f := fileIn(t, t.TempDir(), pattern(10_000))
	if res, err := CopyFile(t.Context(), f, f, 1000, 50_000, 9000, CopyOptions{}); err != nil || res.Bytes != 9000 {
		t.Fatal(res, err)
	}
	sameContent(t, "copy", contentOf(t, f)[50_000:], pattern(10_000)[1000:])
}

func TestCopyFileTruncated(t *testing.T) {
	dir := t.TempDir()
	for _, backend := range copyBackends {
		src := fileIn(t, dir, pattern(10_000))
		for _, c := range []struct{ off, n, sent int64 }{{0, 10_001, 10_000}, {5000, 1 << 40, 5000}, {10_000, 1, 0}, {20_000, 5, 0}} {
			dst := fileIn(t, dir, nil)
			var te *TruncatedError
			res, err := CopyFile(t.Context(), dst, src, c.off, 0, c.n, CopyOptions{Backend: backend, OnDowngrade: func(d *Downgrade) { t.Error(d) }})
			if !errors.As(err, &te) || te.Sent != c.sent || te.Want != c.n || res.Bytes != c.sent || te.ZeroBytes != 0 {
				t.Errorf("%s %+v: %+v, %v", backend, c, res, err)
			}
			sameContent(t, string(backend), contentOf(t, dst), pattern(10_000)[min(c.off, 10_000):])
		}
	}
}

// Files without a true size are copied to their end: it is known that
// copy_file_range and sendfile end them early.
func TestCopyFileSpecial(t *testing.T) {
	for _, name := range []string{"/proc/version", "/proc/self/limits", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/btf/vmlinux"} {
		want, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		src, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, backend := range copyBackends {
			dst := fileIn(t, t.TempDir(), nil)
			res, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{Backend: backend, OnDowngrade: func(*Downgrade) {}})
			got := contentOf(t, dst)
			if err != nil || res.Bytes != int64(len(got)) || len(got) == 0 || !strings.Contains(name, "cpuinfo") && !bytes.Equal(got, want) {
				t.Errorf("%s by %q: %+v, %v; %d bytes of %d", name, backend, res, err, len(got), len(want))
			}
		}
		_ = src.Close()
	}
}

func TestCopyFileContext(t *testing.T) {
	dir := t.TempDir()
	src := fileIn(t, dir, pattern(copyChunk))
	if _, err := CopyFile(t.Context(), src, src, 0, copyChunk, copyChunk, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, backend := range copyBackends {
		ctx, cancel := context.WithCancel(t.Context())
		c := &copier{pipes: &pipes, ctx: ctx, opts: CopyOptions{Backend: backend}}
		k := kernel
		c.calls = &k
		// The context ends within the first chunk.
		stop := func(n int, err error) (int, error) { cancel(); return n, err }
		k.CopyFileRange = func(in int, inOff *int64, out int, outOff *int64, n int) (int, error) {
			return stop(kernel.CopyFileRange(in, inOff, out, outOff, n))
		}
		k.Splice = func(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error) {
			return stop(kernel.Splice(in, inOff, out, outOff, n, flags))
		}
		k.Sendfile = func(out, in int, off *int64, n int) (int, error) { return stop(kernel.Sendfile(out, in, off, n)) }
		k.Pread = func(fd int, p []byte, off int64) (int, error) { return stop(kernel.Pread(fd, p, off)) }
		k.CloneRange = func(int, int64, int, int64, int64) error { return syscall.EOPNOTSUPP }
		dst := fileIn(t, dir, nil)
		res, err := c.run(dst, src, -1)
		if !errors.Is(err, context.Canceled) || res.Bytes != copyChunk {
			t.Errorf("%q: %+v, %v; want the end of the context after one chunk", backend, res, err)
		}
		sameFile(t, string(backend), dst, src, 0, 0, res.Bytes)
	}
}

func TestCopyBuffersFitDirectIO(t *testing.T) {
	dir := t.TempDir()
	src := fileIn(t, dir, pattern(1<<20))
	f, err := os.OpenFile(filepath.Join(dir, "direct"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Skip("needs a temporary directory that takes O_DIRECT")
	}
	defer f.Close()
	for _, backend := range copyBackends {
		if res, err := CopyFile(t.Context(), f, src, 0, 0, -1, CopyOptions{Backend: backend}); err != nil || res.Bytes != 1<<20 {
			t.Errorf("%q: %+v, %v", backend, res, err)
		}
		sameContent(t, string(backend), contentOf(t, f), pattern(1<<20))
	}
}
