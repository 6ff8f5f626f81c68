package transmit

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

func leaseOn(t *testing.T, f *os.File) *Lease {
	t.Helper()
	l, err := AcquireLease(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

// TestLease has others want to write to a leased file.
func TestLease(t *testing.T) {
	f, _ := testFile(t, 8192)
	for name, try := range map[string]func() error{
		"write":          func() error { return openNonblock(f.Name(), unix.O_WRONLY) },
		"read and write": func() error { return openNonblock(f.Name(), unix.O_RDWR) },
		"truncate":       func() error { return openNonblock(f.Name(), unix.O_WRONLY|unix.O_TRUNC) },
		"by the way that was leased": func() error {
			return openNonblock("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDWR)
		},
	} {
		l := leaseOn(t, f)
		other := leaseOn(t, f) // two transfers of one file
		if err := l.Check(); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		if err := other.Release(); err != nil {
			t.Error(err)
		}
		if err := l.Check(); err != nil {
			t.Errorf("%s: the end of another lease ended this one: %v", name, err)
		}
		if err := openNonblock(f.Name(), unix.O_RDONLY); err != nil {
			t.Errorf("%s: a reader: %v", name, err)
		}
		if err := try(); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("%s of a leased file: %v", name, err)
		}
		changing, ok := errors.AsType[*SourceChangingError](l.Check())
		if !ok || changing.Changed || changing.Cause() != "live-source" || changing.Name != f.Name() {
			t.Errorf("%s: %v", name, changing)
		}
		if err := l.Release(); err != nil {
			t.Errorf("%s: release in time: %v", name, err)
		}
		if err := l.Release(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("released twice: %v", err)
		}
		if err := l.Check(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("checked after release: %v", err)
		}
	}
	if err := openNonblock(f.Name(), unix.O_WRONLY); err != nil {
		t.Errorf("a writer after release: %v", err)
	}
}

func openNonblock(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// TestLeaseHoldsWriter lets writers wait until the lease is released.
func TestLeaseHoldsWriter(t *testing.T) {
	for name, write := range map[string]func(name string) error{
		"open":     func(name string) error { return os.WriteFile(name, []byte("new"), 0) },
		"truncate": func(name string) error { return os.Truncate(name, 3) },
	} {
		f, _ := testFile(t, 100)
		l := leaseOn(t, f)
		done := make(chan error, 1)
		go func() { done <- write(f.Name()) }()
		for l.Check() == nil {
			time.Sleep(time.Millisecond)
		}
		select {
		case err := <-done:
			t.Fatalf("%s did not wait: %v", name, err)
		case <-time.After(50 * time.Millisecond):
		}
		if st, err := f.Stat(); err != nil || st.Size() != 100 {
			t.Errorf("%s: %d bytes while the lease is held, %v", name, st.Size(), err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestLeaseTruncatedByReader: the kernel lets one by that truncates while it opens
// for reading.
func TestLeaseTruncatedByReader(t *testing.T) {
	f, _ := testFile(t, 100)
	l := leaseOn(t, f)
	if err := openNonblock(f.Name(), unix.O_RDONLY|unix.O_TRUNC); err != nil {
		t.Logf("this kernel refuses it: %v", err)
	}
	if st, err := f.Stat(); err != nil || st.Size() == 100 {
		t.Skipf("needs a kernel on which O_RDONLY|O_TRUNC passes a lease (%v)", err)
	}
	for name, err := range map[string]error{"Check": l.Check(), "Release": l.Release()} {
		if e, ok := errors.AsType[*SourceChangingError](err); !ok || !e.Changed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLeaseRefused asks for leases that are not to be had.
func TestLeaseRefused(t *testing.T) {
	f, _ := testFile(t, 8192)
	changing := func(what string) {
		t.Helper()
		_, err := AcquireLease(f)
		if e, ok := errors.AsType[*SourceChangingError](err); !ok || !errors.Is(err, unix.EAGAIN) || e.Changed {
			t.Errorf("%s: %v", what, err)
		}
	}
	w := openFile(t, f.Name(), os.O_RDWR)
	changing("open for writing")
	mem, err := unix.Mmap(int(w.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	changing("mapped writable, its file closed")
	if err := unix.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	leaseOn(t, f)

	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer p.Close()
	closed := openFile(t, f.Name(), os.O_RDONLY)
	closed.Close()
	for _, c := range []struct {
		f  *os.File
		is error
	}{
		{r, errors.ErrUnsupported}, {openFile(t, t.TempDir(), os.O_RDONLY), errors.ErrUnsupported},
		{openFile(t, "/dev/null", os.O_RDONLY), errors.ErrUnsupported}, {closed, fs.ErrClosed}, {nil, fs.ErrInvalid},
	} {
		if _, err := AcquireLease(c.f); !errors.Is(err, c.is) {
			t.Errorf("%v, want %v", err, c.is)
		}
	}
	for _, c := range []struct {
		errno syscall.Errno
		is    error
	}{{unix.EACCES, fs.ErrPermission}, {unix.EINVAL, errors.ErrUnsupported}, {unix.ENOLCK, errors.ErrUnsupported}} {
		fds := openDescriptors(t)
		k := fakeCalls(func(k *calls) { k.SetLease = func(int, int) error { return c.errno } })
		if _, err := acquireLease(k, f); !errors.Is(err, c.is) || !errors.Is(err, c.errno) {
			t.Errorf("%v: %v", c.errno, err)
		}
		if n := openDescriptors(t); n != fds {
			t.Errorf("%v: %d descriptors before, %d after", c.errno, fds, n)
		}
	}
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// brokenLease takes a lease on a new file, with some calls replaced, and has it
// broken.
func brokenLease(t *testing.T, change func(*calls)) {
	t.Helper()
	f, _ := testFile(t, 100)
	l, err := acquireLease(fakeCalls(change), f)
	if err != nil {
		t.Fatal(err)
	}
	if err := openNonblock(f.Name(), unix.O_WRONLY); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	if l.Check() == nil {
		t.Error("the lease is not being broken")
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

// TestLeaseSendsNoSignal breaks a lease with the default signal, which can be told
// from those of the runtime, and with its owner left as the kernel sets it and as
// we do.
func TestLeaseSendsNoSignal(t *testing.T) {
	got := make(chan os.Signal, 16)
	signal.Notify(got, unix.SIGIO)
	defer signal.Stop(got)
	brokenLease(t, func(k *calls) {
		k.SetSignal = func(int, int) error { return nil }
		k.SetOwner = func(int, int) error { return nil }
	})
	select {
	case <-got:
	case <-time.After(10 * time.Second):
		t.Fatal("the kernel sends no signal: the test shows nothing")
	}
	brokenLease(t, func(k *calls) { k.SetSignal = func(int, int) error { return nil } })
	select {
	case s := <-got:
		t.Errorf("the break sent %v", s)
	case <-time.After(200 * time.Millisecond):
	}
}

// TestLeaseSurvivesSignal: between taking the lease and giving up the signals a
// break does send one. A process without handlers survives that one, and in Go also
// SIGIO, which a lease without our care sends.
func TestLeaseSurvivesSignal(t *testing.T) {
	which := os.Getenv("ZCPROBE_TEST_LEASE")
	if which == "" {
		for _, which := range []string{"SIGURG", "SIGIO"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestLeaseSurvivesSignal$", "-test.v")
			cmd.Env = append(os.Environ(), "ZCPROBE_TEST_LEASE="+which)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", which, err, out)
			}
		}
		return
	}
	brokenLease(t, func(k *calls) {
		k.SetOwner = func(int, int) error { return nil }
		if which == "SIGIO" {
			k.SetSignal = func(int, int) error { return nil }
		}
	})
	time.Sleep(100 * time.Millisecond)
}

// TestGuestLeaseLost holds a lease for longer than the kernel lets it.
func TestGuestLeaseLost(t *testing.T) {
	testenv.Guest(t)
	if err := os.WriteFile("/proc/sys/fs/lease-break-time", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	f, _ := testFile(t, 100)
	l := leaseOn(t, f)
	w, err := os.OpenFile(f.Name(), os.O_WRONLY, 0) // waits for a second
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if l.Check() == nil {
		t.Error("a lease that was taken away is held")
	}
	if e, ok := errors.AsType[*SourceChangingError](l.Release()); !ok || !e.Changed {
		t.Errorf("a lease that was taken away: %v", e)
	}
}
