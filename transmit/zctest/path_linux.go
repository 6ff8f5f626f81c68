package zctest

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/lab"
)

// A Path is a TCP connection for the code under test, to a peer that takes all that
// is sent. It is closed when the test ends.
type Path struct {
	// Conn is the connection.
	Conn *net.TCPConn

	// Uncopied says that the kernel copies nothing on the way, and completions of
	// MSG_ZEROCOPY say so.
	Uncopied bool

	sink *lab.Sink // of Uncopied
	peer *peer     // of Copied
}

// Copied returns a connection over loopback. The kernel copies there what was sent
// without copying, when it delivers it: completions of MSG_ZEROCOPY say copied, while
// sendfile and splice copy nothing. The peer reads everything, see [Path.Received].
// It needs no privilege.
func Copied(t testing.TB) *Path {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &Path{Conn: c.(*net.TCPConn), peer: readAll(far)}
	t.Cleanup(func() {
		_ = p.Conn.Close()
		_ = far.Close()
		p.peer.done.Wait()
	})
	return p
}

// Uncopied returns a connection over a wire on which the kernel does not copy what was
// sent by sendfile, splice or MSG_ZEROCOPY, as with a network card that has
// scatter-gather and checksum offload; completions say not copied. The peer takes
// packets without looking at their payload, so only its length is known
// ([Path.Received]). The wire is in network namespaces that exist for this test
// alone.
//
// It needs root: CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF, and a kernel of 5.10 or
// later with veth and BPF classifiers, and skips the test without.
func Uncopied(t testing.TB) *Path {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF: run as root")
	}
	s, err := lab.NewSink(lab.Options{})
	switch {
	case errors.Is(err, fs.ErrPermission):
		t.Skipf("needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF: %v", err)
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist):
		t.Skipf("needs a kernel with network namespaces, veth and BPF classifiers: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the path: %v", err)
		}
	})
	c, err := s.Dial(t.Context(), "tcp4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &Path{Conn: c.(*net.TCPConn), Uncopied: true, sink: s}
}

// Received closes Conn for writing, waits up to ten seconds until the peer has
// everything, and returns how many bytes that is and, where the peer reads them
// (Copied), their SHA-256; nil where it does not.
func (p *Path) Received(t testing.TB) (n int64, sum []byte) {
	t.Helper()
	if err := p.Conn.CloseWrite(); err != nil {
		t.Fatalf("end of what is sent: %v", err)
	}
	if p.sink == nil {
		return p.peer.received(t)
	}
	deadline := time.Now().Add(patience)
	for {
		f, err := p.sink.Flow(p.Conn)
		if err != nil {
			t.Fatal(err)
		}
		if f.FinReceived {
			return int64(f.Bytes), nil
		}
		if time.Now().After(deadline) {
			t.Fatalf("the peer has no end of the stream after %v, and %d bytes", patience, f.Bytes)
		}
		time.Sleep(time.Millisecond)
	}
}

// patience is how long Received waits.
const patience = 10 * time.Second

// A peer reads all that comes.
type peer struct {
	done sync.WaitGroup
	end  chan struct{}

	hash hash.Hash // both of the reader until end is closed
	n    int64
	err  error
}

func readAll(c net.Conn) *peer {
	p := &peer{end: make(chan struct{}), hash: sha256.New()}
	p.done.Go(func() {
		defer close(p.end)
		p.n, p.err = io.Copy(p.hash, c)
	})
	return p
}

func (p *peer) received(t testing.TB) (int64, []byte) {
	t.Helper()
	select {
	case <-p.end:
	case <-time.After(patience):
		t.Fatalf("the peer has no end of the stream after %v", patience)
	}
	if p.err != nil {
		t.Fatalf("peer: %v", p.err)
	}
	return p.n, p.hash.Sum(nil)
}
