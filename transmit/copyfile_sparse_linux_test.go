package transmit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sparseIn makes a file of size bytes in dir, with content at each of these offsets
// and holes between.
func sparseIn(t testing.TB, dir string, size int64, content []byte, at ...int64) *os.File {
	t.Helper()
	f := fileIn(t, dir, nil)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, off := range at {
		if _, err := f.WriteAt(content[:min(int64(len(content)), size-off)], off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// A span is a range of a file that is no hole.
type span struct{ from, to int64 }

func spansOf(t testing.TB, f *os.File) (s []span) {
	t.Helper()
	g, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for at := int64(0); ; {
		from, err := unix.Seek(int(g.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		if at, err = unix.Seek(int(g.Fd()), from, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		s = append(s, span{from, at})
	}
}

// sameFile compares ranges of two files; holes of both are equal without reading.
func sameFile(t testing.TB, what string, got, want *os.File, gotOff, wantOff, n int64) {
	t.Helper()
	ranges := []span{}
	for _, s := range spansOf(t, want) {
		ranges = append(ranges, span{s.from - wantOff, s.to - wantOff})
	}
	for _, s := range spansOf(t, got) {
		ranges = append(ranges, span{s.from - gotOff, s.to - gotOff})
	}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, r := range ranges {
		for at := max(r.from, 0); at < min(r.to, n); {
			m := min(int64(len(a)), r.to-at, n-at)
			if _, err := want.ReadAt(a[:m], wantOff+at); err != nil {
				t.Fatalf("%s: source at %d: %v", what, at, err)
			}
			if k, err := got.ReadAt(b[:m], gotOff+at); err != nil {
				t.Fatalf("%s: copy at %d: %d of %d bytes, %v", what, at, k, m, err)
			}
			if !bytes.Equal(a[:m], b[:m]) {
				t.Fatalf("%s: differs between %d and %d", what, at, at+m)
			}
			at += m
		}
	}
}

func TestCopyFileSparse(t *testing.T) {
	for _, dir := range []string{t.TempDir(), shmDir(t)} {
		sparseCases(t, dir)
	}
}

// sparseCases copies files with holes in dir, around 2 GiB and 4 GiB as well.
func sparseCases(t *testing.T, dir string) {
	const gib = 1 << 30
	data := pattern(9001)
	for _, backend := range copyBackends {
		for _, c := range []struct {
			size int64
			at   []int64
		}{
			{1 << 20, nil},
			{1<<20 + 1, []int64{0}},
			{1 << 20, []int64{1<<20 - 1}},
			{2*gib - 1, []int64{0, gib, 2*gib - 9001 - 1}},
			{2 * gib, []int64{2*gib - 1}},
			{2*gib + 1, []int64{4096, 2*gib - 4500}},
			{5 * gib, []int64{70_000, 2*gib - 4500, 4*gib - 4500, 5*gib - 100_000}},
		} {
			src, dst := sparseIn(t, dir, c.size, data, c.at...), fileIn(t, dir, nil)
			name := fmt.Sprintf("%q, %d bytes with data at %d", backend, c.size, c.at)
			res, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{Backend: backend})
			if err != nil || res.Bytes != c.size || res.SharedBytes+res.PlainBytes+res.HoleBytes != c.size {
				t.Fatalf("%s: %+v, %v", name, res, err)
			}
			if st, err := dst.Stat(); err != nil || st.Size() != c.size {
				t.Errorf("%s: %v, %v", name, st.Size(), err)
			}
			sameFile(t, name, dst, src, 0, 0, c.size)
			if a, b := allocated(t, src), allocated(t, dst); b > a+256<<10 {
				t.Errorf("%s: the copy takes %d bytes, the source %d", name, b, a)
			}
			_ = os.Remove(src.Name())
			_ = os.Remove(dst.Name())
			_, _ = src.Close(), dst.Close()
		}
	}
}

func allocated(t testing.TB, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// Holes are zeros where the target had something, and what lies behind the range
// stays.
func TestCopyFileHolesOverData(t *testing.T) {
	dir := t.TempDir()
	for _, backend := range copyBackends {
		for _, fill := range []bool{false, true} {
			src := sparseIn(t, dir, 1<<20, pattern(5000), 8192, 600_000)
			for _, have := range []int{10_000, 500_000, 2 << 20} {
				dst := fileIn(t, dir, bytes.Repeat([]byte{'x'}, have))
				const off = 3 * 4096
				res, err := CopyFile(t.Context(), dst, src, 0, off, -1, CopyOptions{Backend: backend, FillHoles: fill})
				if err != nil || res.Bytes != 1<<20 || fill && res.HoleBytes > 0 {
					t.Fatalf("%+v, %v", res, err)
				}
				want := bytes.Repeat([]byte{'x'}, max(have, off+1<<20))
				clear(want[min(have, off):off])
				copy(want[off:], contentOf(t, src))
				sameContent(t, fmt.Sprintf("%q over %d bytes", backend, have), contentOf(t, dst), want)
			}
		}
	}
}

// Parallel copies of parts of a file make the whole.
func TestCopyFileParts(t *testing.T) {
	dir := t.TempDir()
	src := sparseIn(t, dir, 40<<20, pattern(3<<20), 1<<20, 12<<20, 30<<20)
	for _, backend := range copyBackends {
		dst := fileIn(t, dir, nil)
		errs := make(chan error)
		const part = 5 << 20
		for i := range int64(8) {
			go func() {
				_, err := CopyFile(t.Context(), dst, src, i*part, i*part, part, CopyOptions{Backend: backend})
				errs <- err
			}()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		sameContent(t, string(backend), contentOf(t, dst), contentOf(t, src))
	}
}
