package transmit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testFile makes a file of random bytes and opens it for reading.
func testFile(t testing.TB, size int) (*os.File, []byte) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "source")
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), 1})
	r.Read(b)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return openFile(t, name, os.O_RDONLY), b
}

func openFile(t testing.TB, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// content reads n mapped bytes by a system call, as senders do.
func content(t testing.TB, m Mapping, off, n int64) []byte {
	t.Helper()
	p, err := m.Bytes(off, n)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "copy")
	defer f.Close()
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, n+1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mapped counts the mappings of a file in this process.
func mapped(t testing.TB, name string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), " "+name)
}

func mapFileOf(t testing.TB, f *os.File) Mapping {
	t.Helper()
	m, err := MapFile(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMappingContent(t *testing.T) {
	for _, size := range []int{0, 1, 4095, 4096, 4097, faultChunk - 1, faultChunk, faultChunk + 1, 3*faultChunk + 5} {
		f, want := testFile(t, size)
		m := mapFileOf(t, f)
		if err := m.FaultIn(0, m.Size()); err != nil {
			t.Errorf("%d bytes: fault in: %v", size, err)
		}
		if got := content(t, m, 0, m.Size()); m.Size() != int64(size) || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: mapped %d, or other ones", size, m.Size())
		}
		if n, err := m.Resident(f, 0, m.Size()); n != int64(size) || err != nil {
			t.Errorf("%d of %d bytes resident after FaultIn: %v", n, size, err)
		}
		if size > 4097 {
			if got := content(t, m, 4095, 2); !bytes.Equal(got, want[4095:4097]) {
				t.Errorf("%d bytes: a part is another", size)
			}
			part, err := MapFileRange(f, 4095, int64(size)-4095)
			if err != nil {
				t.Fatal(err)
			}
			if err := part.FaultIn(4100, 1); err != nil {
				t.Error(err)
			}
			if got := content(t, part, 4095, int64(size)-4095); !bytes.Equal(got, want[4095:]) || part.Offset() != 4095 {
				t.Errorf("%d bytes: a range is another", size)
			}
			if _, err := part.Bytes(4094, 1); err == nil {
				t.Error("bytes before the range")
			}
			part.Release()
		}
		for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(size) + 1}, {int64(size), 1}, {1 << 62, 1 << 62}, {1<<63 - 1, 1}} {
			if b, err := m.Bytes(r[0], r[1]); err == nil {
				t.Errorf("%d bytes at %d of %d: %d bytes", r[1], r[0], size, len(b))
			}
			if err := m.FaultIn(r[0], r[1]); err == nil {
				t.Errorf("fault in %d bytes at %d of %d", r[1], r[0], size)
			}
		}
		if b, err := m.Bytes(int64(size), 0); err != nil || len(b) != 0 {
			t.Errorf("no bytes at the end: %v", err)
		}
		m.Release()
		if n := mapped(t, f.Name()); n != 0 {
			t.Errorf("%d mappings are left of %d bytes", n, size)
		}
	}
}

func TestMapFileRange(t *testing.T) {
	f, _ := testFile(t, 10000)
	for _, r := range [][2]int64{{-1, 1}, {1, -1}, {1<<63 - 1, 1}, {0, 10001}, {10001, 0}, {10000, 1}} {
		m, err := MapFileRange(f, r[0], r[1])
		if err == nil {
			m.Release()
			t.Errorf("%d bytes at %d of 10000 were mapped", r[1], r[0])
		}
		if _, past := errors.AsType[*TruncatedError](err); past != (r[0] >= 0 && r[1] >= 0 && r[0]+r[1] > 10000) {
			t.Errorf("%d bytes at %d: %v", r[1], r[0], err)
		}
	}
}

// TestMapFileSources maps what cannot be mapped.
func TestMapFileSources(t *testing.T) {
	file, _ := testFile(t, 100)
	dir := openFile(t, filepath.Dir(file.Name()), os.O_RDONLY)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	closed := openFile(t, file.Name(), os.O_RDONLY)
	closed.Close()
	cache := NewMappings(MappingsOptions{})
	defer cache.Close()
	for _, c := range []struct {
		f    *os.File
		says string
		is   error
	}{
		{dir, "a directory", syscall.EISDIR},
		{r, "a pipe", errors.ErrUnsupported},
		{sock, "a socket", errors.ErrUnsupported},
		{openFile(t, "/dev/zero", os.O_RDONLY), "a character device", errors.ErrUnsupported},
		{openFile(t, file.Name(), os.O_WRONLY), "not open for reading", fs.ErrPermission},
		{openFile(t, file.Name(), unix.O_PATH), "not open for reading", fs.ErrPermission},
		{openFile(t, "/proc/self/status", os.O_RDONLY), "made when it is read", errors.ErrUnsupported},
		{openFile(t, "/proc/version", os.O_RDONLY), "made when it is read", errors.ErrUnsupported},
		{openFile(t, "/sys/kernel/mm/transparent_hugepage/enabled", os.O_RDONLY), "made when it is read", errors.ErrUnsupported},
		{closed, "", fs.ErrClosed},
		{nil, "", fs.ErrInvalid},
	} {
		for name, try := range map[string]func(*os.File) (Mapping, error){"MapFile": MapFile, "Lookup": cache.Lookup} {
			m, err := try(c.f)
			if err == nil {
				m.Release()
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || c.f != nil && !strings.Contains(err.Error(), c.f.Name()) {
				t.Errorf("%s: %v, want %q and %v", name, err, c.says, c.is)
			}
		}
	}
	// The pipe is as it was: its reads can still be given a deadline.
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Errorf("the pipe was changed: %v", err)
	}
	if st := cache.Stats(); st.Files != 0 || st.Bytes != 0 {
		t.Errorf("kept: %+v", st)
	}
}

// TestMappingTruncated makes a mapped file shorter. The process lives on.
func TestMappingTruncated(t *testing.T) {
	f, _ := testFile(t, 8*4096)
	m := mapFileOf(t, f)
	defer m.Release()
	if err := m.FaultIn(0, m.Size()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f.Name(), 2*4096+100); err != nil {
		t.Fatal(err)
	}
	// What was faulted in is remembered per reference and is no promise.
	tail := content(t, m, 2*4096, 4096)
	if bytes.Count(tail[100:], []byte{0}) != 4096-100 || bytes.Count(tail[:100], []byte{0}) > 50 {
		t.Error("the rest of the last page is not zeros, or all of it is")
	}
	out := openFile(t, "/dev/null", os.O_WRONLY)
	mem, err := m.Bytes(0, m.Size())
	if err != nil {
		t.Fatal(err)
	}
	p := make([]int, 2)
	if err := unix.Pipe2(p, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if n, err := unix.Write(p[1], mem[4*4096:]); !errors.Is(err, unix.EFAULT) {
		t.Errorf("write from beyond the end: %d, %v", n, err)
	}
	if n, err := unix.Write(p[1], mem); n != 3*4096 {
		t.Errorf("write across the end: %d, %v", n, err)
	}
	out.Close()
	other := mapFileOf(t, openFile(t, f.Name(), os.O_RDONLY))
	defer other.Release()
	if other.Size() != 2*4096+100 {
		t.Errorf("mapped anew it has %d bytes", other.Size())
	}
	if err := os.Truncate(f.Name(), 0); err != nil {
		t.Fatal(err)
	}
	for name, calls := range map[string]func(*calls){"populate": nil, "touch": func(k *calls) {
		k.Madvise = func([]byte, int) error { return unix.EINVAL }
	}} {
		if err := (mappingOps{fakeCalls(calls)}).faultIn(mem[:4096]); !errors.Is(err, unix.EFAULT) {
			t.Errorf("%s: fault in what is beyond the end: %v", name, err)
		}
	}
	if n, err := m.Resident(f, 0, m.Size()); n != 0 || err != nil {
		t.Errorf("%d bytes of nothing are resident: %v", n, err)
	}
	if err := m.Prefetch(0, m.Size()); err != nil {
		t.Logf("prefetch of nothing: %v", err)
	}
}

// fakeCalls are the kernel's calls but for what change does.
func fakeCalls(change func(*calls)) *calls {
	k := *kernelCalls()
	if change != nil {
		change(&k)
	}
	return &k
}

// TestMappingReleased uses a mapping after its release, while others hold it.
func TestMappingReleased(t *testing.T) {
	f, want := testFile(t, 5000)
	m := mapFileOf(t, f)
	other := m.Acquire()
	r, err := m.lend()
	if err != nil {
		t.Fatal(err)
	}
	m.Release()
	var again Mapping
	for _, when := range []string{"released", "its place taken", "none"} {
		switch when {
		case "its place taken":
			if again = other.Acquire(); again.ref != m.ref {
				t.Error("the place is not used again")
			}
		case "none":
			m = Mapping{}
		}
		for name, use := range map[string]func(){"Release": m.Release, "Acquire": func() { m.Acquire() }, "Size": func() { m.Size() },
			"Offset": func() { m.Offset() }, "Bytes": func() { m.Bytes(0, 1) }, "FaultIn": func() { m.FaultIn(0, 1) },
			"Resident": func() { m.Resident(f, 0, 1) }, "Prefetch": func() { m.Prefetch(0, 1) }} {
			if !panics(use) {
				t.Errorf("%s after Release, %s: no panic", name, when)
			}
		}
		if _, err := m.lend(); err == nil {
			t.Errorf("%s: lent", when)
		}
	}
	mem, err := other.Bytes(0, 5000)
	if err != nil {
		t.Fatal(err)
	}
	other.Release()
	again.Release()
	// The loan alone keeps it.
	if n := mapped(t, f.Name()); n != 1 {
		t.Errorf("%d mappings while it is lent", n)
	}
	fd, err := unix.MemfdCreate("copy", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got := make([]byte, 5000)
	if n, err := unix.Write(fd, mem); n != 5000 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := unix.Pread(fd, got, 0); err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		t.Error("lent memory is another", err)
	}
	r.returned(true)
	if n := mapped(t, f.Name()); n != 0 {
		t.Errorf("%d mappings are left", n)
	}
	if !panics(func() { r.returned(false) }) {
		t.Error("returned twice")
	}
}

// TestMappingKeepsNoFile: after the caller closed it, neither its lock nor its
// being open for writing is kept.
func TestMappingKeepsNoFile(t *testing.T) {
	f, _ := testFile(t, 4096)
	rw := openFile(t, f.Name(), os.O_RDWR)
	if err := unix.Flock(int(rw.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	m := mapFileOf(t, rw)
	defer m.Release()
	rw.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the lock of a closed file: %v", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		t.Errorf("the file counts as open for writing: %v", err)
	}
}

// TestMappingConcurrent acquires, lends and releases from many goroutines.
func TestMappingConcurrent(t *testing.T) {
	f, _ := testFile(t, 4096)
	m := mapFileOf(t, f)
	var wg sync.WaitGroup
	for range 8 {
		mine := m.Acquire()
		wg.Go(func() {
			defer mine.Release()
			for range 2000 {
				n := mine.Acquire()
				r, err := n.lend()
				if err != nil {
					t.Error(err)
					return
				}
				n.Release()
				r.returned(false)
			}
		})
	}
	m.Release()
	wg.Wait()
	if n := mapped(t, f.Name()); n != 0 {
		t.Errorf("%d mappings are left", n)
	}
}

// TestMappingSparse maps 5 GiB of which little is there.
func TestMappingSparse(t *testing.T) {
	const size = 5<<30 + 3
	name := filepath.Join(t.TempDir(), "sparse")
	w := openFile(t, name, os.O_RDWR|os.O_CREATE)
	mark := []byte("beyond four gigabytes")
	if err := w.Truncate(size); err != nil {
		t.Skipf("needs a file system that takes a file of 5 GiB: %v", err)
	}
	for _, off := range []int64{1<<31 - 5, 1<<32 - 5, size - int64(len(mark))} {
		if _, err := w.WriteAt(mark, off); err != nil {
			t.Fatal(err)
		}
	}
	m := mapFileOf(t, w)
	defer m.Release()
	part, err := MapFileRange(w, 1<<32-7, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Release()
	for _, off := range []int64{1<<31 - 5, 1<<32 - 5, size - int64(len(mark))} {
		n := int64(len(mark))
		if err := m.FaultIn(off, n); err != nil {
			t.Error(err)
		}
		if got := content(t, m, off, n); !bytes.Equal(got, mark) {
			t.Errorf("at %d: %q", off, got)
		}
		if got, err := m.Resident(w, off, n); got != n || err != nil {
			t.Errorf("at %d: %d bytes resident, %v", off, got, err)
		}
	}
	if got := content(t, part, 1<<32-5, int64(len(mark))); !bytes.Equal(got, mark) {
		t.Errorf("in a range: %q", got)
	}
}
