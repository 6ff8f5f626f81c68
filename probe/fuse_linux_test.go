package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// fuseServer serves a directory with one file, "f", of fuseSize bytes of one
// value (linux/fuse.h, protocol 7.31).
type fuseServer struct {
	dev   int
	flags uint32 // FOPEN_* of the file
	value atomic.Uint32
	stall atomic.Bool // answer no READ
}

const (
	fuseSize       = 64 << 10
	fopenDirectIO  = 1
	fopenKeepCache = 2
)

// mountFUSE mounts the server at a directory. It must be ended with abort:
// while a request is with it, this process cannot end.
func mountFUSE(t *testing.T, at string, flags uint32) *fuseServer {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &fuseServer{dev: dev, flags: flags}
	s.value.Store('1')
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := unix.Mount("zcprobe", at, "fuse.test", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	go s.serve()
	return s
}

// abort ends all requests that are under way, and the mount.
func (s *fuseServer) abort(t *testing.T, at string) {
	if err := unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		t.Errorf("umount: %v", err)
	}
}

func (s *fuseServer) serve() {
	buf := make([]byte, 256<<10)
	for {
		n, err := unix.Read(s.dev, buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < 40 {
			return // unmounted
		}
		op, unique, node := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:]), binary.NativeEndian.Uint64(buf[16:])
		body, errno, reply := s.answer(op, node, buf[40:n])
		if !reply {
			continue
		}
		out := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		out = binary.NativeEndian.AppendUint32(out, uint32(-int32(errno)))
		out = binary.NativeEndian.AppendUint64(out, unique)
		if _, err := unix.Write(s.dev, append(out, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

func (s *fuseServer) answer(op uint32, node uint64, in []byte) (body []byte, errno syscall.Errno, reply bool) {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.NativeEndian, v) } // to memory
	readAt := func() (off uint64, size uint32) {
		return binary.NativeEndian.Uint64(in[8:]), binary.NativeEndian.Uint32(in[16:])
	}
	switch op {
	case 26: // INIT
		put([]uint32{7, 31, 128 << 10, 0, 0, 128 << 10, 1})
		put(make([]byte, 64-b.Len()))
	case 1: // LOOKUP
		if string(bytes.TrimRight(in, "\x00")) != "f" {
			return nil, syscall.ENOENT, true
		}
		put([]uint64{2, 1, 0, 0, 0}) // node, generation, lifetimes
		putAttr(put, 2)
	case 3: // GETATTR
		put([]uint64{0, 0})
		putAttr(put, node)
	case 14: // OPEN
		put([]uint64{0})
		put([]uint32{s.flags, 0})
	case 27: // OPENDIR
		put([]uint64{0, 0})
	case 15: // READ
		if s.stall.Load() {
			return nil, 0, false
		}
		off, size := readAt()
		if off < fuseSize {
			put(bytes.Repeat([]byte{byte(s.value.Load())}, int(min(uint64(size), fuseSize-off))))
		}
	case 28: // READDIR
		if off, _ := readAt(); off == 0 {
			put([]uint64{2, 1})
			put([]uint32{1, 8}) // length of the name, DT_REG
			put([]byte("f\x00\x00\x00\x00\x00\x00\x00"))
		}
	case 17: // STATFS
		put(make([]byte, 80))
	case 18, 29, 25: // RELEASE, RELEASEDIR, FLUSH
	case 2, 36, 42: // FORGET, INTERRUPT, BATCH_FORGET
		return nil, 0, false
	default:
		return nil, syscall.ENOSYS, true
	}
	return b.Bytes(), 0, true
}

func putAttr(put func(any), node uint64) {
	mode, size := uint32(unix.S_IFDIR|0o755), uint64(0)
	if node == 2 {
		mode, size = unix.S_IFREG|0o444, fuseSize
	}
	put([]uint64{node, size, 0, 0, 0, 0})
	put([]uint32{0, 0, 0, mode, 1, 0, 0, 0, 4096, 0})
}

func childFUSE(t *testing.T, arg json.RawMessage) any {
	var flags uint32
	if err := json.Unmarshal(arg, &flags); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	const at = "/mnt"
	s := mountFUSE(t, at, flags)
	defer s.abort(t, at)
	fd, err := unix.Open(filepath.Join(at, "f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := throughSocket(fd, fuseSize) // into the page cache
	if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{'1'}, fuseSize)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	s.value.Store('2') // the other side changes the file
	f := readDir(t.Context(), liveSources(), at, true)
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	return f
}

// A FUSE file system in direct-io mode whose page cache is not up to date:
// read(2) asks it and sendfile does not.
func TestDirStaleFUSE(t *testing.T) {
	testenv.Root(t)
	testenv.Device(t, "/dev/fuse")
	for _, c := range []struct {
		name  string
		flags uint32
		send  FeatureStatus
		stale CheckStatus
	}{
		{"cached", 0, Supported, Warn},
		{"direct-io", fopenDirectIO, Supported, Warn}, // opening it anew drops its pages
		{"direct-io, cache kept", fopenDirectIO | fopenKeepCache, Unsupported, Fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d DirFacts
			runChild(t, nil, "fuse", c.flags, &d, inMountNamespace)
			if d.FSType != "fuse.test" || d.FilesTried != 1 {
				t.Errorf("facts %+v", d)
			}
			f := &Facts{Dirs: []DirFacts{d}}
			if got := featureNamed(judgeDirs(f), "dir.sendfile"); got.Status != c.send {
				t.Errorf("%+v, want %s", got, c.send)
			}
			if got := hazardNamed(judgeHazards(f), "stale-source"); got.Status != c.stale {
				t.Errorf("%+v, want %s", got, c.stale)
			}
			if got := featureNamed(judgeDirs(f), "reflink"); got.Status != UnknownFeature {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A file system whose server does not answer must not hold the probe up.
func TestDirHangs(t *testing.T) {
	testenv.Root(t)
	testenv.Device(t, "/dev/fuse")
	var d DirFacts
	runChild(t, nil, "fuse-hang", nil, &d, inMountNamespace)
	if !strings.Contains(d.Error, "did not answer within") {
		t.Errorf("facts %+v", d)
	}
	for _, f := range judgeDirs(&Facts{Dirs: []DirFacts{d}}) {
		if f.Status != UnknownFeature || !strings.Contains(f.Detail, "did not answer") {
			t.Errorf("%+v", f)
		}
	}
}

func childFUSEHang(t *testing.T, _ json.RawMessage) any {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	s := mountFUSE(t, "/mnt", 0)
	defer s.abort(t, "/mnt")
	s.stall.Store(true)
	return readDirWithin(t.Context(), liveSources(), "/mnt", false, 300*time.Millisecond)
}
