package transmit

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestFaultInWithoutPopulate takes the way of kernels before 5.14.
func TestFaultInWithoutPopulate(t *testing.T) {
	f, _ := testFile(t, 5<<20+1) // more pages than one call takes
	evict(t, f)
	k := fakeCalls(func(k *calls) {
		k.Madvise = func([]byte, int) error { return unix.EINVAL }
		touch, short := k.Touch, 0
		k.Touch = func(fd int, mem []byte, stride int) (int, error) {
			switch short++; short {
			case 1:
				return 0, unix.EINTR
			case 2: // a short count
				return touch(fd, mem[:stride*3], stride)
			}
			return touch(fd, mem, stride)
		}
	})
	r, err := (mappingOps{k}).mapFile(f, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	m := r.acquire()
	defer m.Release()
	if err := m.FaultIn(0, m.Size()); err != nil {
		t.Fatal(err)
	}
	if n, err := m.Resident(f, 0, m.Size()); n != m.Size() || err != nil {
		t.Errorf("%d of %d bytes resident: %v", n, m.Size(), err)
	}
	if n := rss(t, f.Name()); n < 5<<10 {
		t.Errorf("%d KiB of the mapping are in the page table", n)
	}
}

// rss returns how many KiB of a file's mapping are entered in the page table.
func rss(t *testing.T, name string) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), " "+name+"\n")
	if !ok {
		t.Fatalf("%s is not mapped", name)
	}
	for line := range strings.Lines(after) {
		if v, ok := strings.CutPrefix(line, "Rss:"); ok {
			for _, c := range strings.TrimSpace(v) {
				if c < '0' || c > '9' {
					return kib
				}
				kib = kib*10 + int(c-'0')
			}
		}
	}
	return kib
}

// evict drops a file from the page cache, and skips the test where it stays.
func evict(t testing.TB, f *os.File) {
	t.Helper()
	w, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	m := mapFileOf(t, f)
	defer m.Release()
	if n, err := m.Resident(f, 0, m.Size()); err != nil || n > 0 {
		t.Skipf("needs a temporary directory on a disk (%d bytes of a file stay in memory, %v)", n, err)
	}
}

func TestResidency(t *testing.T) {
	const size = 4<<20 + 100
	f, _ := testFile(t, size)
	evict(t, f)
	m := mapFileOf(t, f)
	defer m.Release()
	if !m.region.told {
		t.Error("mincore is not believed of a file of ours")
	}
	if _, err := f.ReadAt(make([]byte, 8192), 1<<20+10); err != nil {
		t.Fatal(err)
	}
	// The kernel may have read ahead.
	if n, err := m.Resident(f, 1<<20+10, 100); n != 100 || err != nil {
		t.Errorf("%d of 100 bytes just read are resident: %v", n, err)
	}
	if n, err := m.Resident(f, 0, size); n < 8192 || n > size/2 || err != nil {
		t.Errorf("%d of %d bytes resident after reading 8192: %v", n, size, err)
	}
	if n, err := m.Resident(f, 0, 0); n != 0 || err != nil {
		t.Errorf("%d of 0 bytes: %v", n, err)
	}
	if err := m.Prefetch(2<<20, 1<<20); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if n, err := m.Resident(f, 2<<20, 1<<20); err != nil || n == 1<<20 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n, err := m.Resident(f, 2<<20, 1<<20); n != 1<<20 || err != nil {
		t.Errorf("%d bytes resident after prefetching 1 MiB: %v", n, err)
	}
	// The other way agrees at both ends.
	m.region.told = false
	if n, err := m.Resident(f, 2<<20, 1<<20); n != 1<<20 || err != nil {
		t.Errorf("by samples %d bytes of 1 MiB resident: %v", n, err)
	}
	evict(t, f)
	if n, err := m.Resident(f, 3<<20, 100); n != 0 || err != nil {
		t.Errorf("by samples %d bytes resident of what was dropped: %v", n, err)
	}
	m.region.ops.calls = fakeCalls(func(k *calls) {
		k.PreadNowait = func(int, []byte, int64) (int, error) { return 0, unix.EOPNOTSUPP }
	})
	if _, err := m.Resident(f, 0, 100); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file system that cannot tell: %v", err)
	}
}

// TestResidencyOfOthers asks, as an ordinary user, for a file that is neither ours
// nor to be written, of which mincore says that all is in memory.
func TestResidencyOfOthers(t *testing.T) {
	testenv.Root(t)
	f, _ := testFile(t, 1<<20)
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		t.Fatal(err)
	}
	evict(t, f)
	var wg sync.WaitGroup
	wg.Go(func() {
		// The thread alone becomes another user's, and ends with the goroutine.
		runtime.LockOSThread()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			t.Error(e)
			return
		}
		m, err := MapFile(f)
		if err != nil {
			t.Error(err)
			return
		}
		defer m.Release()
		mem, err := m.Bytes(0, m.Size())
		if err != nil {
			t.Error(err)
			return
		}
		pages := make([]byte, (1<<20)/os.Getpagesize())
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // samples start no read ahead
			t.Error(err)
		}
		if err := kernelCalls().Mincore(mem, pages); err != nil || pages[0]&1 == 0 {
			t.Errorf("mincore tells the truth here (%v): the test shows nothing", err)
		}
		if n, err := m.Resident(f, 0, m.Size()); n > 0 || err != nil {
			t.Errorf("%d bytes resident of a file that is not in memory: %v", n, err)
		}
		if err := m.FaultIn(0, m.Size()); err != nil {
			t.Error(err)
		}
		if n, err := m.Resident(f, 0, m.Size()); n != m.Size() || err != nil {
			t.Errorf("%d of %d bytes resident after FaultIn: %v", n, m.Size(), err)
		}
	})
	wg.Wait()
}
