package transmit

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSeal makes images and tries to change them.
func TestSeal(t *testing.T) {
	p := testPool(t, PoolOptions{BufferBytes: 8192, Memfd: true}, 1)
	b := get(t, p)
	want := bytes.Repeat([]byte("image"), 1000)
	b.SetLen(copy(b.Bytes(), want))
	slice := b.Bytes()

	// Not while the kernel has it, by our account or by its own.
	s, err := b.lend()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Seal(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("sealed while lent: %v", err)
	}
	s.returned(false)
	pinned := make([]int, 2)
	if err := unix.Pipe2(pinned, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Vmsplice(pinned[1], []unix.Iovec{{Base: &slice[0], Len: 4096}}, 0); n != 4096 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := b.Seal(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("sealed while a pipe reads it: %v", err)
	}
	unix.Close(pinned[0])
	unix.Close(pinned[1])
	b.Bytes()[0] = 'i' // still ours, and writable
	image, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if !panics(func() { b.Bytes() }) || !panics(b.Release) {
		t.Error("a sealed buffer is still a buffer")
	}
	if !bytes.Equal(image.Bytes(), want) || !bytes.Equal(slice, want) {
		t.Error("the image is another")
	}
	fd := int(image.File().Fd())
	if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("written: %v", err)
	}
	for _, n := range []int64{0, int64(len(want)) - 1, int64(len(want)) + 1} {
		if err := unix.Ftruncate(fd, n); !errors.Is(err, unix.EPERM) {
			t.Errorf("made %d bytes long: %v", n, err)
		}
	}
	if m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("mapped for writing")
		unix.Munmap(m)
	}
	if got, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(fd)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("as a file it is another: %v", err)
	}
	m := image.Mapping()
	if got := content(t, m, 5, 100); !bytes.Equal(got, want[5:105]) || m.Size() != int64(len(want)) {
		t.Error("by its mapping it is another")
	}
	// The pool is full again, with other memory.
	next := get(t, p)
	clear(next.Bytes())
	if !bytes.Equal(image.Bytes(), want) {
		t.Error("the next buffer is the image")
	}
	next.Release()
	if err := image.Close(); err != nil {
		t.Error(err)
	}
	if got := content(t, m, 0, 100); !bytes.Equal(got, want[:100]) {
		t.Error("closed, a reference to its mapping is another")
	}
	m.Release()
	if !panics(func() { image.Close() }) {
		t.Error("closed twice")
	}
	plain := get(t, testPool(t, PoolOptions{BufferBytes: 4096}, 1))
	if _, err := plain.Seal(); !errors.Is(err, errors.ErrUnsupported) || plain.File() != nil {
		t.Errorf("sealed what is no memfd: %v", err)
	}
	plain.Release()
}

func TestNewSealedImage(t *testing.T) {
	fds := openDescriptors(t)
	for _, size := range []int{0, 1, 4096, 4097, 1 << 20} {
		i, err := NewSealedImage(size, func(p []byte) error {
			for j := range p {
				p[j] = byte(j * 7)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := i.File().Stat(); err != nil || st.Size() != int64(size) || len(i.Bytes()) != size {
			t.Errorf("%d bytes: file of %v, %d bytes, %v", size, st.Size(), len(i.Bytes()), err)
		}
		for j, c := range i.Bytes() {
			if c != byte(j*7) {
				t.Fatalf("%d bytes: byte %d is %d", size, j, c)
			}
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	failed := errors.New("no image today")
	if _, err := NewSealedImage(100, func([]byte) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a fill that fails: %v", err)
	}
	if _, err := NewSealedImage(-1, nil); err == nil {
		t.Error("an image of -1 bytes")
	}
	for _, call := range []string{"Ftruncate", "Map", "AddSeals"} {
		a, n := newArena(), 0
		a.calls = fakeCalls(func(k *calls) {
			switch call {
			case "Ftruncate":
				k.Ftruncate = func(fd int, size int64) error {
					if n++; n == 2 {
						return unix.EIO
					}
					return kernelCalls().Ftruncate(fd, size)
				}
			case "Map":
				k.Map = func(at []byte, fd int, off int64, size, prot, flags int) ([]byte, error) {
					if n++; n == 2 {
						return nil, unix.ENOMEM
					}
					return kernelCalls().Map(at, fd, off, size, prot, flags)
				}
			case "AddSeals":
				k.AddSeals = func(int, int) error { return unix.EBUSY }
			}
		})
		if _, err := newImage(a, 100, func([]byte) error { return nil }); err == nil {
			t.Errorf("%s fails, and the image is made", call)
		}
	}
	if n := openDescriptors(t); n != fds {
		t.Errorf("%d descriptors before, %d after", fds, n)
	}
	if n := mappings(t, "memfd:zcprobe-buffer"); n != 0 {
		t.Errorf("%d memfds are mapped", n)
	}
}

// TestBufferFile sends a buffer as a file.
func TestBufferFile(t *testing.T) {
	p := testPool(t, PoolOptions{BufferBytes: 8192, Memfd: true}, 1)
	b := get(t, p)
	defer b.Release()
	want := bytes.Repeat([]byte("0123456789abcdef"), 512)
	copy(b.Bytes(), want)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	rc, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var off int64
	if e := rc.Control(func(fd uintptr) {
		var n int
		if n, err = syscall.Sendfile(int(fd), int(b.File().Fd()), &off, 8192); err == nil && n != 8192 {
			err = errors.New("short")
		}
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	got := make([]byte, 8192)
	for n := 0; n < len(got); {
		m, err := peer.Read(got[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if !bytes.Equal(got, want) {
		t.Error("another arrived")
	}
}
