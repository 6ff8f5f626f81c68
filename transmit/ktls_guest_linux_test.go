package transmit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// guestKTLS skips the test on guests whose kernel has no TLS.
func guestKTLS(t *testing.T) string {
	t.Helper()
	series := testenv.Guest(t)
	testenv.KernelTLS(t, "gcm(aes)")
	return series
}

// ktlsSizes are around what one record holds.
var ktlsSizes = []int{0, 1, 16383, 16384, 16385, 1<<20 + 7}

// TestGuestKTLSFiles has crypto/tls shake hands, and sends files by sendfile through
// the kernel's TLS to a client of crypto/tls, which must get them whole, up to a proper
// end.
func TestGuestKTLSFiles(t *testing.T) {
	guestKTLS(t)
	ktlsFiles(t, AES128GCM)
}

// TestGuestKTLSFilesChaCha20 is the same in a process that does not see the
// processor's instructions for AES, where crypto/tls picks ChaCha20.
func TestGuestKTLSFilesChaCha20(t *testing.T) {
	const again = "ZCPROBE_TEST_NO_AES"
	testenv.Guest(t)
	testenv.KernelTLS(t, "rfc7539(chacha20,poly1305)")
	if os.Getenv(again) != "" {
		ktlsFiles(t, CHACHA20POLY1305)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), again+"=1", "GODEBUG=cpu.aes=off,cpu.pclmulqdq=off")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+"/sendfile/1 ")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func ktlsFiles(t *testing.T, want TLSCipher) {
	for _, backend := range []Backend{Sendfile, Splice, ReadWrite, ""} {
		for _, size := range ktlsSizes {
			t.Run(fmt.Sprintf("%s/%d", backend, size), func(t *testing.T) {
				p := pattern(size)
				f := fileIn(t, t.TempDir(), p)
				h := shakeHands(t)
				server, keys := h.out, h.keys
				if keys.Cipher != want {
					t.Fatalf("%s was negotiated, not %s", keys.Cipher, want)
				}
				k, err := EnableKTLS(server, keys)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := EnableKTLS(server, keys); !errors.Is(err, syscall.EBUSY) {
					t.Errorf("a second time: %v", err)
				}
				if err := k.ZerocopyFiles(); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("files in place, without a device that encrypts: %v", err)
				}
				got := digest(h.client)
				var told []*Downgrade
				s, err := NewSender(server, Options{Backend: backend, OnDowngrade: func(d *Downgrade) { told = append(told, d) }})
				if err != nil {
					t.Fatal(err)
				}
				done, err := s.SendFile(t.Context(), f, 0, -1, FileOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if err := k.CloseNotify(); err != nil {
					t.Fatal(err)
				}
				r, err := done.Wait(t.Context())
				if err != nil || r.Bytes != int64(size) || r.PlainBytes != r.Bytes {
					t.Errorf("%+v, %v", r, err)
				}
				if size > 0 && backend != ReadWrite && (r.Cause != "kernel-crypto" || len(told) == 0 || told[0].Cause != r.Cause) {
					t.Errorf("%+v, told %v; want kernel-crypto", r, told)
				}
				if want := backend; size > 0 && r.Backend != want && (want != "" || r.Backend != Sendfile) {
					t.Errorf("went by %s", r.Backend)
				}
				if g := <-got; g != (digested{sha256.Sum256(p), int64(size), nil}) {
					t.Errorf("%d of %d bytes arrived, or others: %v", g.n, size, g.err)
				}
				if _, err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

type digested struct {
	sum [32]byte
	n   int64
	err error
}

// digest reads a connection to its end.
func digest(c io.Reader) <-chan digested {
	got := make(chan digested, 1)
	go func() {
		h := sha256.New()
		n, err := io.Copy(h, c)
		got <- digested{[32]byte(h.Sum(nil)), n, err}
	}()
	return got
}

// TestGuestKTLSRecords sends memory and files in pieces of many kinds, and reads the
// records with each version and key size.
func TestGuestKTLSRecords(t *testing.T) {
	guestKTLS(t)
	for _, v := range []TLSVersion{TLS12, TLS13} {
		for _, c := range []TLSCipher{AES128GCM, AES256GCM} {
			t.Run(fmt.Sprint(v, c), func(t *testing.T) {
				out, in := tcpPair(t)
				keys := randomKeys(v, c)
				k, err := EnableKTLS(out, keys)
				if err != nil {
					t.Fatal(err)
				}
				all := make(chan []byte, 1)
				rec := newRecords(t, in, keys)
				go func() {
					p, err := rec.all()
					if err != nil {
						t.Error(err)
					}
					all <- p
				}()
				if got := sendKinds(t, out); true {
					if err := k.CloseNotify(); err != nil {
						t.Fatal(err)
					}
					if p := <-all; !bytes.Equal(p, got) {
						t.Errorf("%d bytes arrived, or others than the %d sent", len(p), len(got))
					}
				}
			})
		}
	}
}

// sendKinds sends in every way that a Sender has, and returns what should arrive.
func sendKinds(t *testing.T, out *net.TCPConn) []byte {
	t.Helper()
	mappings := NewMappings(MappingsOptions{})
	t.Cleanup(func() { _ = mappings.Close() })
	var all []byte
	p := pattern(300_001)
	f := fileIn(t, t.TempDir(), p)
	backends := []Backend{"", Write, MsgZerocopy, MmapZerocopy, Vmsplice, Splice, Sendfile, MmapWrite}
	ring, err := NewRing(RingOptions{})
	if err != nil {
		t.Logf("without io_uring: %v", err)
	} else {
		defer ring.Close(t.Context())
		backends = append(backends, IoUringSend, IoUringSendZC)
	}
	for _, backend := range backends {
		told := map[string]bool{}
		s, err := NewSender(out, Options{Backend: backend, Ring: ring, Threshold: 4096, OnDowngrade: func(d *Downgrade) { told[d.Cause] = true }})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 0, 16384, 70_000} {
			done, err := s.Send(t.Context(), p[:n])
			if err != nil {
				t.Fatal(backend, err)
			}
			if r, err := done.Wait(t.Context()); err != nil || r.Bytes != int64(n) || r.PlainBytes != r.Bytes {
				t.Errorf("%s: %+v, %v", backend, r, err)
			}
			all = append(all, p[:n]...)
		}
		if _, err := s.Sendv(t.Context(), p[:5], p[5:40_000], p[40_000:40_001]); err != nil {
			t.Fatal(backend, err)
		}
		all = append(all, p[:40_001]...)
		_, err = s.SendFile(t.Context(), f, 1, 300_000, FileOptions{Header: [][]byte{p[:100]}, Trailer: [][]byte{p[:7]}, Mappings: mappings})
		if err != nil {
			t.Fatal(backend, err)
		}
		all = append(append(append(all, p[:100]...), p[1:]...), p[:7]...)
		if st := s.Stats(); st.ZerocopySends != 0 {
			t.Errorf("%s: %+v", backend, st)
		}
		if (backend == MsgZerocopy || backend == IoUringSendZC) && !told["ulp"] || backend == Vmsplice && !told["kernel-crypto"] {
			t.Errorf("%s: told %v", backend, told)
		}
	}
	return all
}

// TestGuestKTLSOpenRecord ends transfers in the middle of a record: what the peer was
// promised arrives, without another send after it.
func TestGuestKTLSOpenRecord(t *testing.T) {
	series := guestKTLS(t)
	out, in := tcpPair(t)
	keys := randomKeys(TLS13, AES128GCM)
	if _, err := EnableKTLS(out, keys); err != nil {
		t.Fatal(err)
	}
	rec := newRecords(t, in, keys)
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	more := func(n int) {
		t.Helper()
		_ = raw.Write(func(fd uintptr) bool {
			if m, e := sys.TrySend(int(fd), pattern(n), sys.MsgMore|sys.MsgDontwait); m != n {
				t.Errorf("send: %d, %v", m, e)
			}
			return true
		})
	}
	// The test is worth something only if the record stays open.
	more(1000)
	_ = in.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, p, err := rec.next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Linux %s does not keep a record open: %d bytes, %v", series, len(p), err)
	}
	_ = in.SetReadDeadline(time.Now().Add(10 * time.Second))
	_ = raw.Control(func(fd uintptr) { closeRecord(sys.TrySendmsg, int(fd)) })
	if typ, p, err := rec.next(); err != nil || typ != sys.TLSApplicationData || len(p) != 1000 {
		t.Fatalf("after the record was closed: type %d, %d bytes, %v", typ, len(p), err)
	}
	// A file that ends early, after a header that was sent with MSG_MORE.
	s, err := NewSender(out, Options{Backend: Sendfile})
	if err != nil {
		t.Fatal(err)
	}
	f := fileIn(t, t.TempDir(), pattern(9000))
	s.calls = &calls{}
	*s.calls = *kernelCalls()
	s.calls.Sendfile = func(out, in int, off *int64, n int) (int, error) {
		if err := f.Truncate(0); err != nil {
			t.Error(err)
		}
		return kernel.Sendfile(out, in, off, n)
	}
	var short *TruncatedError
	if _, err := s.SendFile(t.Context(), f, 0, 9000, FileOptions{Header: [][]byte{pattern(10)}}); !errors.As(err, &short) {
		t.Fatalf("the file ended: %v", err)
	}
	if typ, p, err := rec.next(); err != nil || typ != sys.TLSApplicationData || len(p) != 10 {
		t.Errorf("the header: type %d, %d bytes, %v", typ, len(p), err)
	}
	// A relay whose source pauses after a full batch of pipe pages.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(pattern(20_000)); err != nil {
		t.Fatal(err)
	}
	relayed := make(chan error, 1)
	go func() {
		_, err := Relay(t.Context(), out, r, -1, RelayOptions{})
		relayed <- err
	}()
	for got := 0; got < 20_000; {
		_, p, err := rec.next()
		if err != nil {
			t.Fatalf("after %d relayed bytes: %v", got, err)
		}
		got += len(p)
	}
	_ = w.Close()
	if err := <-relayed; err != nil {
		t.Error(err)
	}
}

// TestGuestKTLSSlowReader fills the send buffer again and again, ends some sends by
// their context, and sends on where they stopped.
func TestGuestKTLSSlowReader(t *testing.T) {
	guestKTLS(t)
	out, in := tcpPair(t)
	keys := randomKeys(TLS13, AES256GCM)
	k, err := EnableKTLS(out, keys)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	p := pattern(size)
	f := fileIn(t, t.TempDir(), p)
	all := make(chan []byte, 1)
	rec := newRecords(t, slowReader{in}, keys)
	go func() {
		p, err := rec.all()
		if err != nil {
			t.Error(err)
		}
		all <- p
	}()
	s, err := NewSender(out, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for at, file := int64(0), false; at < size; file = !file {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
		n := min(size-at, 5<<20)
		var c Completion
		if file {
			c, err = s.SendFile(ctx, f, at, n, FileOptions{})
		} else {
			c, err = s.Send(ctx, p[at:at+n])
		}
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err != nil {
			ended++
		}
		at += c.Bytes()
	}
	if ended == 0 {
		t.Error("no send was ended: the reader is too fast")
	}
	if err := k.CloseNotify(); err != nil {
		t.Fatal(err)
	}
	if got := <-all; !bytes.Equal(got, p) {
		t.Errorf("%d of %d bytes arrived, or others", len(got), size)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	time.Sleep(200 * time.Microsecond)
	return s.r.Read(p)
}

// TestGuestKTLSStates asks for what the kernel does not do.
func TestGuestKTLSStates(t *testing.T) {
	guestKTLS(t)
	keys := randomKeys(TLS13, AES128GCM)
	out, in := tcpPair(t)
	if err := in.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(out)
	if _, err := EnableKTLS(out, keys); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("the peer has closed its half: %v", err)
	}
	s, err := NewSender(out, Options{Backend: MsgZerocopy})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Send(t.Context(), make([]byte, 1<<16)); err != nil || c.Backend() != MsgZerocopy {
		t.Errorf("after that: %v, %v", c.Backend(), err)
	}
	if _, err := os.Stat(filepath.Join("/proc/net", "tls_stat")); err != nil {
		t.Errorf("what says that TLS is loaded in other namespaces: %v", err)
	}
	closed, _ := tcpPair(t)
	_ = closed.Close()
	if _, err := EnableKTLS(closed, keys); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
