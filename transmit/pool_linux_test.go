package transmit

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// mappings counts the mappings of this process whose line holds what.
func mappings(t testing.TB, what string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), what)
}

// TestPoolLeaksNothing makes pools of every kind, loses buffers, and looks for
// descriptors and memory that are left.
func TestPoolLeaksNothing(t *testing.T) {
	for _, o := range []PoolOptions{{}, {Memfd: true}, {Huge: true}, {Huge: true, Memfd: true}} {
		o.BufferBytes, o.MaxBytes = 64<<10, 1<<20
		var maps int64 // bytes; the kernel's own count has the runtime's in it, which comes and goes
		a := newArena()
		a.calls = fakeCalls(func(k *calls) {
			k.Map = func(at []byte, fd int, off int64, n, prot, flags int) ([]byte, error) {
				b, err := kernelCalls().Map(at, fd, off, n, prot, flags)
				if at == nil && err == nil {
					maps += int64(n)
				}
				return b, err
			}
			k.Unmap = func(b []byte) error { maps -= int64(len(b)); return kernelCalls().Unmap(b) }
		})
		use := func() {
			p, err := newPool(o, a)
			if err != nil {
				t.Fatal(err)
			}
			var lost []*slot
			for range 10 {
				b := get(t, p)
				s, err := b.lend()
				if err != nil {
					t.Fatal(err)
				}
				b.Bytes()[0] = 1
				b.Release()
				lost = append(lost, s)
			}
			for i, s := range lost {
				s.returned(i%2 == 0)
			}
			var held []Buffer
			for range 16 {
				b := get(t, p)
				b.Bytes()[b.Cap()-1] = 1
				held = append(held, b)
			}
			if st := p.Stats(); st.Abandoned != 5 || st.AbandonedBytes != 5*64<<10 || st.InUse != 16 || st.Buffers != 16 {
				t.Errorf("%+v: %+v", o, st)
			}
			for _, b := range held {
				b.Release()
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		use()
		fds := openDescriptors(t)
		for range 20 {
			use()
		}
		if n := openDescriptors(t); n != fds {
			t.Errorf("%+v: %d descriptors before, %d after", o, fds, n)
		}
		if maps != 0 {
			t.Errorf("%+v: %d bytes are left mapped", o, maps)
		}
		if n := mappings(t, "memfd:zcprobe-buffer"); n != 0 {
			t.Errorf("%+v: %d memfds are mapped", o, n)
		}
	}
}

// virtual is how many bytes of address space this process uses.
func virtual(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int64
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		pages = pages*10 + int64(c-'0')
	}
	return pages * int64(os.Getpagesize())
}

// TestPoolAbandonedIsReplaced gives memory to the kernel for good: what the kernel
// has stays as it was, and the next buffer is other memory.
func TestPoolAbandonedIsReplaced(t *testing.T) {
	for _, o := range []PoolOptions{{BufferBytes: 64 << 10}, {BufferBytes: 64 << 10, Memfd: true}, {BufferBytes: 4 << 20, Huge: true},
		{BufferBytes: 64 << 10, Huge: true}, {BufferBytes: 64 << 10, Huge: true, Memfd: true}} {
		p := testPool(t, o, 3)
		b, neighbour := get(t, p), get(t, p)
		secret := bytes.Repeat([]byte("do not send another's"), 1000)
		copy(b.Bytes(), secret)
		copy(neighbour.Bytes(), "mine")
		pipe := make([]int, 2)
		if err := unix.Pipe2(pipe, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		// A pipe holds references to the pages, as a send queue does.
		iov := []unix.Iovec{{Base: &b.Bytes()[0], Len: 16384}}
		if n, err := unix.Vmsplice(pipe[1], iov, 0); n != 16384 || err != nil {
			t.Fatalf("%+v: vmsplice: %d, %v", o, n, err)
		}
		s, err := b.lend()
		if err != nil {
			t.Fatal(err)
		}
		s.returned(true)
		b.Release()
		fresh := []Buffer{get(t, p), get(t, p)}
		for _, n := range fresh {
			for i := range n.Bytes() {
				n.Bytes()[i] = 'x'
			}
		}
		if string(neighbour.Bytes()[:4]) != "mine" {
			t.Errorf("%+v: the buffer beside changed", o)
		}
		got := make([]byte, 16384)
		if n, err := unix.Read(pipe[0], got); n == 0 || err != nil || !bytes.Equal(got[:n], secret[:n]) {
			t.Errorf("%+v: what the kernel held changed: %d bytes, %v", o, n, err)
		}
		unix.Close(pipe[0])
		unix.Close(pipe[1])
		neighbour.Release()
		fresh[0].Release()
		fresh[1].Release()
	}
}

// TestPoolHuge asks for huge pages and compares what is said with smaps.
func TestPoolHuge(t *testing.T) {
	for _, memfd := range []bool{false, true} {
		p := testPool(t, PoolOptions{BufferBytes: 1 << 20, Huge: true, Memfd: memfd}, 4)
		b := get(t, p)
		b.Bytes()[0] = 1
		st := p.Stats()
		t.Logf("memfd %v: %+v", memfd, st)
		huge := st.HugetlbBytes + st.TransparentBytes
		if (huge == st.Bytes) != (st.NoHuge == "") {
			t.Errorf("memfd %v: %d of %d bytes huge, and the reason is %q", memfd, huge, st.Bytes, st.NoHuge)
		}
		// Before 6.7 the kernel does not tell, and that is said.
		if kib := smapsHuge(t, b.Bytes()); kib<<10 != huge && !strings.Contains(st.NoHuge, "does not tell") {
			t.Errorf("memfd %v: %d bytes are said to be huge, smaps has %d KiB", memfd, huge, kib)
		}
		b.Release()
	}
}

// smapsHuge returns how many KiB of the mapping around b are in huge pages.
func smapsHuge(t *testing.T, b []byte) (kib int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at, in := sys.Address(b), false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if from, to, ok := strings.Cut(f[0], "-"); ok {
			lo, _ := strconv.ParseUint(from, 16, 64)
			hi, _ := strconv.ParseUint(to, 16, 64)
			in = lo <= at && at < hi
		} else if in {
			switch f[0] {
			case "AnonHugePages:", "ShmemPmdMapped:", "Private_Hugetlb:", "Shared_Hugetlb:":
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				kib += n
			}
		}
	}
	return kib
}

// TestGuestPoolHugetlb has huge pages in reserve, and then too few.
func TestGuestPoolHugetlb(t *testing.T) {
	testenv.Guest(t)
	reserve := "/proc/sys/vm/nr_hugepages"
	if err := os.WriteFile(reserve, []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(reserve, []byte("0"), 0)
	p := testPool(t, PoolOptions{BufferBytes: 1 << 20, Huge: true}, 8)
	var held []Buffer
	for range 8 {
		b := get(t, p)
		for i := range b.Bytes() {
			b.Bytes()[i] = byte(i)
		}
		held = append(held, b)
	}
	st := p.Stats()
	t.Logf("%+v", st)
	if st.HugetlbBytes != 4<<20 || (st.TransparentBytes == 4<<20) != (st.NoHuge == "") {
		t.Errorf("3 huge pages in reserve: %+v", st)
	}
	for i, b := range held {
		s, err := b.lend()
		if err != nil {
			t.Fatal(err)
		}
		b.Release()
		s.returned(i%3 == 0)
	}
	for range 8 {
		b := get(t, p)
		clear(b.Bytes())
		defer b.Release()
	}
}

// TestPoolErrors has the kernel refuse memory.
func TestPoolErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     PoolOptions
		spoil func(*calls)
		is    error
		says  string
	}{
		{"no memory", PoolOptions{}, func(k *calls) {
			k.Map = func([]byte, int, int64, int, int, int) ([]byte, error) { return nil, unix.ENOMEM }
			k.Prlimit = func(int, int) (uint64, uint64, error) { return ^uint64(0), 0, nil }
		}, unix.ENOMEM, "vm.max_map_count"},
		{"address space", PoolOptions{Huge: true}, func(k *calls) {
			k.Map = func([]byte, int, int64, int, int, int) ([]byte, error) { return nil, unix.ENOMEM }
			k.Prlimit = func(int, int) (uint64, uint64, error) { return 1 << 30, 0, nil }
		}, unix.ENOMEM, "1073741824 bytes of address space (RLIMIT_AS)"},
		{"locked", PoolOptions{}, func(k *calls) {
			k.Map = func([]byte, int, int64, int, int, int) ([]byte, error) { return nil, unix.EAGAIN }
			k.Prlimit = func(int, int) (uint64, uint64, error) { return 65536, 0, nil }
		}, unix.EAGAIN, "it may lock 65536 bytes (RLIMIT_MEMLOCK)"},
		{"no descriptor", PoolOptions{Memfd: true}, func(k *calls) {
			k.MemfdCreate = func(string) (int, error) { return -1, &os.SyscallError{Syscall: "memfd_create", Err: unix.EMFILE} }
		}, unix.EMFILE, "memfd_create"},
		{"no memfd", PoolOptions{Memfd: true}, func(k *calls) {
			k.MemfdCreate = func(string) (int, error) { return -1, unix.ENOSYS }
		}, errors.ErrUnsupported, "memory for 1 buffers"},
		{"no length", PoolOptions{Memfd: true}, func(k *calls) {
			k.Ftruncate = func(int, int64) error { return unix.ENOMEM }
		}, unix.ENOMEM, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.BufferBytes, c.o.MaxBytes = 4096, 8192
			a := newArena()
			a.calls = fakeCalls(c.spoil)
			p, err := newPool(c.o, a)
			if err != nil {
				t.Fatal(err)
			}
			fds := openDescriptors(t)
			for range 3 {
				if _, err := p.Get(t.Context()); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v and %q", err, c.is, c.says)
				}
			}
			if st := p.Stats(); st.Buffers != 0 || st.Bytes != 0 || openDescriptors(t) != fds {
				t.Errorf("left: %+v", st)
			}
			// What it could not have it can have later.
			p.arena.calls = kernelCalls()
			b := get(t, p)
			b.Release()
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPoolHugeRefused takes each step of the way down from huge pages.
func TestPoolHugeRefused(t *testing.T) {
	advice := func(what int, err error) func(*calls) {
		return func(k *calls) {
			k.Map = func(at []byte, fd int, off int64, n, prot, flags int) ([]byte, error) {
				if flags&unix.MAP_HUGETLB != 0 {
					flags &^= unix.MAP_HUGETLB | unix.MAP_HUGE_MASK<<unix.MAP_HUGE_SHIFT
				}
				return kernelCalls().Map(at, fd, off, n, prot, flags)
			}
			populated := 0
			k.Madvise = func(b []byte, adv int) error {
				if adv == unix.MADV_POPULATE_WRITE {
					populated++
				}
				if adv == what && (what != unix.MADV_POPULATE_WRITE || populated == 1) || adv == unix.MADV_HUGEPAGE && what == 0 {
					return err
				}
				return kernelCalls().Madvise(b, adv)
			}
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*calls)
		hugetlb bool
		says    string
	}{
		{"from the reserve", advice(-1, nil), true, ""},
		{"from the reserve, before 5.14", advice(unix.MADV_POPULATE_WRITE, unix.EINVAL), true, ""},
		{"refused by a control group", advice(unix.MADV_POPULATE_WRITE, unix.EFAULT), false, ""},
		{"none at all", func(k *calls) {
			k.Madvise = func(_ []byte, adv int) error { return unix.EINVAL }
			k.Map = func(at []byte, fd int, off int64, n, prot, flags int) ([]byte, error) {
				if flags&unix.MAP_HUGETLB != 0 {
					return nil, unix.ENOMEM
				}
				return kernelCalls().Map(at, fd, off, n, prot, flags)
			}
		}, false, "MADV_HUGEPAGE: invalid argument"},
		{"kernel does not tell", func(k *calls) {
			k.PagemapScan = func(int, []byte, uint64, []sys.PageRegion) (int, error) { return 0, unix.ENOTTY }
		}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newArena()
			a.calls = fakeCalls(c.change)
			p, err := newPool(PoolOptions{BufferBytes: 1 << 20, MaxBytes: 4 << 20, Huge: true}, a)
			if err != nil {
				t.Fatal(err)
			}
			b := get(t, p)
			b.Bytes()[b.Cap()-1] = 1
			st := p.Stats()
			if (st.HugetlbBytes > 0) != c.hugetlb || !strings.Contains(st.NoHuge, c.says) {
				t.Errorf("%+v", st)
			}
			if huge := st.HugetlbBytes + st.TransparentBytes; (huge == st.Bytes) != (st.NoHuge == "") {
				t.Errorf("%d of %d bytes huge: %q", huge, st.Bytes, st.NoHuge)
			}
			b.Release()
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPoolAddressSpace has a real limit: a process of its own. One buffer fits and the
// next does not, with enough left for the stacks and arenas that Go's runtime maps
// meanwhile: without them it would end the process.
func TestPoolAddressSpace(t *testing.T) {
	if os.Getenv("ZCPROBE_TEST_AS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPoolAddressSpace$", "-test.v")
		cmd.Env = append(os.Environ(), "ZCPROBE_TEST_AS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const buffer, room = 1 << 30, 512 << 20
	limit := uint64(virtual(t)) + buffer + room
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	p, err := NewPool(PoolOptions{BufferBytes: buffer, MaxBytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Get(t.Context())
	if err != nil {
		t.Fatal("a buffer that fits: ", err)
	}
	defer b.Release()
	if _, err := p.Get(t.Context()); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "RLIMIT_AS") {
		t.Errorf("one more: %v", err)
	}
}
