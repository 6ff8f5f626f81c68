package transmit_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit/zctest"
	"golang.org/x/sys/unix"
)

// shapeBytes is a multiple of the block size, for O_DIRECT, and many times what a
// loop of io.Copy moves at a time.
const shapeBytes = 1 << 20

// A library is what a shape is run with.
type library struct {
	wrap   func(net.Conn) net.Conn // of connections that the shape makes
	copy   func(io.Writer, io.Reader) (int64, error)
	listen func(net.Listener) net.Listener
	web
}

// plainGo is the standard library by itself.
var plainGo = library{
	wrap:   func(c net.Conn) net.Conn { return c },
	copy:   io.Copy,
	listen: func(l net.Listener) net.Listener { return l },
	web:    plainWeb,
}

// A stage is what one run of a shape works with.
type stage struct {
	t *testing.T
	shape
	library

	content []byte // of sources
	want    []byte // what is to arrive
	got     func() []byte
	finish  func() error // ends what is sent

	// watched are the ends of the shape by the names that zctest has for them, and
	// target is the one that is written to.
	watched map[string]bool
	target  string
	calls   *zctest.Calls
}

func newStage(t *testing.T, sh shape, l library) *stage {
	s := &stage{t: t, shape: sh, library: l, content: make([]byte, shapeBytes), watched: map[string]bool{}}
	g := mathrand.NewChaCha8([32]byte{4})
	_, _ = g.Read(s.content)
	s.want = s.content
	return s
}

// run records the shape and checks what arrived.
func (s *stage) run() {
	do := s.make(s)
	s.calls = zctest.Record(s.t, do)
	if s.finish != nil {
		if err := s.finish(); err != nil {
			s.t.Error(err)
		}
	}
	if got := s.got(); !bytes.Equal(got, s.want) {
		s.t.Errorf("%d bytes arrived, other than the %d that were sent", len(got), len(s.want))
	}
}

// moved is what is recorded: a copy that moves all that is wanted.
func (s *stage) moved(do func() (int64, error)) func() {
	return func() {
		n, err := do()
		if err != nil || n != int64(len(s.want)) {
			s.t.Errorf("moved %d bytes of %d: %v", n, len(s.want), err)
		}
	}
}

func (s *stage) copying(dst io.Writer, src io.Reader) func() {
	return s.moved(func() (int64, error) { return s.copy(dst, src) })
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// watch has calls on c in the table.
func (s *stage) watch(c syscall.Conn) string {
	s.t.Helper()
	raw, err := c.SyscallConn()
	s.must(err)
	var name string
	s.must(raw.Control(func(fd uintptr) {
		name, err = os.Readlink("/proc/self/fd/" + itoa(fd))
	}))
	s.must(err)
	s.watched[name] = true
	return name
}

func itoa(n uintptr) string { return big.NewInt(int64(n)).String() }

// pair is a connection, closed with the test.
func (s *stage) pair(network string) (near, far net.Conn) {
	s.t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(s.t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	s.must(err)
	defer l.Close()
	near, err = net.Dial(network, l.Addr().String())
	s.must(err)
	far, err = l.Accept()
	s.must(err)
	s.t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// to is a connection to send on, whose peer keeps what it reads.
func (s *stage) to(network string) net.Conn {
	near, far := s.pair(network)
	s.target = s.watch(near.(syscall.Conn))
	s.receive(far)
	s.finish = near.(interface{ CloseWrite() error }).CloseWrite
	return s.wrap(near)
}

func (s *stage) tcp() net.Conn  { return s.to("tcp4") }
func (s *stage) unix() net.Conn { return s.to("unix") }

// receive reads all from r meanwhile.
func (s *stage) receive(r io.Reader) {
	var got bytes.Buffer
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := got.ReadFrom(r); err != nil && !errors.Is(err, net.ErrClosed) {
			s.t.Errorf("peer: %v", err)
		}
	})
	s.got = func() []byte { all.Wait(); return got.Bytes() }
}

// from is a connection that has the content, and then ends.
func (s *stage) from(network string) net.Conn {
	near, far := s.pair(network)
	s.watch(near.(syscall.Conn))
	var all sync.WaitGroup
	s.t.Cleanup(all.Wait)
	all.Go(func() {
		if _, err := far.Write(s.content); err != nil {
			s.t.Errorf("peer: %v", err)
		}
		_ = far.(interface{ CloseWrite() error }).CloseWrite()
	})
	return s.wrap(near)
}

func (s *stage) fromTCP() net.Conn  { return s.from("tcp4") }
func (s *stage) fromUnix() net.Conn { return s.from("unix") }

func (s *stage) file() *os.File { return s.fileIn("", 0) }

// fileIn is a file in a directory, of the test if that is "", with the content.
func (s *stage) fileIn(dir string, flags int) *os.File {
	s.t.Helper()
	if dir == "" {
		dir = s.t.TempDir()
	} else {
		d, err := os.MkdirTemp(dir, "zcprobe-test-")
		s.must(err)
		s.t.Cleanup(func() { _ = os.RemoveAll(d) })
		dir = d
	}
	name := filepath.Join(dir, "source")
	s.must(os.WriteFile(name, s.content, 0o600))
	f, err := os.OpenFile(name, os.O_RDONLY|flags, 0)
	if errors.Is(err, syscall.EINVAL) {
		s.t.Skipf("needs a file system with O_DIRECT at %s", dir)
	}
	return s.opened(f, err)
}

func (s *stage) opened(f *os.File, err error) *os.File {
	s.t.Helper()
	s.must(err)
	s.t.Cleanup(func() { _ = f.Close() })
	s.watch(f)
	return f
}

func (s *stage) memfd() *os.File {
	fd, err := unix.MemfdCreate("shape", unix.MFD_CLOEXEC)
	s.must(err)
	f := s.opened(os.NewFile(uintptr(fd), "memfd"), nil)
	_, err = f.Write(s.content)
	s.must(err)
	_, err = f.Seek(0, io.SeekStart)
	s.must(err)
	return f
}

// existing is the first of some files of the system that is there.
func (s *stage) existing(names ...string) *os.File {
	s.t.Helper()
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil || len(content) == 0 {
			continue
		}
		s.want = content
		return s.opened(os.Open(name))
	}
	s.t.Skipf("needs one of %v", names)
	return nil
}

// toFile is a file to write to.
func (s *stage) toFile(flags int) *os.File {
	name := filepath.Join(s.t.TempDir(), "target")
	f := s.opened(os.OpenFile(name, os.O_CREATE|os.O_WRONLY|flags, 0o600))
	s.target = name
	s.got = func() []byte {
		content, err := os.ReadFile(name)
		s.must(err)
		return content
	}
	return f
}

// toPipe is the writing end of a pipe, as the standard output is in a shell.
func (s *stage) toPipe() *os.File {
	r, w, err := os.Pipe()
	s.must(err)
	s.t.Cleanup(func() { _ = r.Close() })
	s.target = s.watch(s.opened(w, nil))
	s.receive(r)
	s.finish = w.Close
	return w
}

// cut is a length less than that of the content; what comes behind is not wanted.
func (s *stage) cut() int64 {
	const n = shapeBytes - 12345
	s.want = s.content[:n]
	return n
}

// header is sent before the content.
func (s *stage) header() io.Reader {
	const text = "a header\r\n"
	s.want = append([]byte(text), s.want...)
	return strings.NewReader(text)
}

func (s *stage) buffers() net.Buffers {
	return net.Buffers{s.content[:1000], s.content[1000:300_000], s.content[300_000:]}
}

// certificate is a new one for 127.0.0.1, signed by itself.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
