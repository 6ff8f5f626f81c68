package transmit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// segments returns how many segments with data a connection has sent, and how many
// bytes it keeps back.
func segments(t testing.TB, c *net.TCPConn) (sent uint32, kept int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			sent, kept = info.Data_segs_out, int(info.Notsent_bytes)
		}
	})
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return sent, kept
}

// TestSendFileSegments: a header, a small file and a trailer leave in one segment,
// and nothing is kept back when the call returns, with and without TCP_NODELAY.
func TestSendFileSegments(t *testing.T) {
	f := sourceFile(t, t.TempDir(), pattern(20000))
	for _, way := range fileWays() {
		for _, nodelay := range []bool{true, false} {
			for _, size := range []int64{0, 1, 100, 20000} {
				for _, edges := range []string{"", "h", "t", "ht"} {
					t.Run(fmt.Sprintf("%s/%v/%d/%s", way, nodelay, size, edges), func(t *testing.T) {
						out, in := tcpPair(t)
						if err := out.SetNoDelay(nodelay); err != nil {
							t.Fatal(err)
						}
						s, err := NewSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { t.Error(d) }})
						if err != nil {
							t.Fatal(err)
						}
						var o FileOptions
						if strings.Contains(edges, "h") {
							o.Header = [][]byte{[]byte("head"), []byte("er")}
						}
						if strings.Contains(edges, "t") {
							o.Trailer = [][]byte{[]byte("trailer")}
						}
						c, err := s.SendFile(t.Context(), f, 0, size, o)
						if err != nil {
							t.Fatal(err)
						}
						want := uint32(min(c.Bytes(), 1))
						if sent, kept := segments(t, out); sent != want || kept != 0 {
							t.Errorf("%d bytes left in %d segments, %d bytes are kept back", c.Bytes(), sent, kept)
						}
						if err := out.CloseWrite(); err != nil {
							t.Fatal(err)
						}
						if b := <-received(in); int64(len(b)) != c.Bytes() {
							t.Errorf("%d bytes arrived", len(b))
						}
					})
				}
			}
		}
	}
}

// TestSendFileUncorked ends transfers in the middle: what was taken leaves at once.
func TestSendFileUncorked(t *testing.T) {
	// Less than the peer's window: nothing but a cork keeps it back.
	const size, cut, step = 24000, 16007, 6000
	for _, way := range fileWays() {
		for _, how := range []string{"truncated", "context", "EIO"} {
			t.Run(fmt.Sprintf("%s/%s", way, how), func(t *testing.T) {
				f := memfd(t, pattern(size))
				out, in := tcpPair(t)
				got := arrived(in)
				s, err := NewSender(out, Options{Backend: way})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				k := *kernelCalls()
				// In the middle of the file something happens, once.
				stop := func(sent int64) error {
					if sent < step/2 {
						return nil
					}
					switch how {
					case "truncated":
						return f.Truncate(cut)
					case "EIO":
						return sys.Wrap("read", syscall.EIO)
					}
					cancel()
					return nil
				}
				k.Sendfile = func(out, in int, off *int64, n int) (int, error) {
					if err := stop(*off); err != nil {
						return 0, err
					}
					return kernel.Sendfile(out, in, off, min(n, step))
				}
				k.Splice = func(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error) {
					if inOff != nil {
						if err := stop(*inOff); err != nil {
							return 0, err
						}
					}
					return kernel.Splice(in, inOff, out, outOff, min(n, step), flags)
				}
				k.Pread = func(fd int, p []byte, off int64) (int, error) {
					if err := stop(off); err != nil {
						return 0, err
					}
					return kernel.Pread(fd, p[:min(len(p), step)], off)
				}
				send := s.k.Send
				s.k.Send = func(fd int, p []byte, flags int) (int, syscall.Errno) {
					if flags&sys.MsgMore == 0 || len(p) > 100 {
						if err := stop(s.job.result.Bytes); err != nil {
							return 0, syscall.EFAULT
						}
						p = p[:min(len(p), step)]
					}
					return send(fd, p, flags)
				}
				sendmsg := s.k.Sendmsg
				s.k.Sendmsg = func(fd int, v []sys.Iovec, control []byte, flags int) (int, syscall.Errno) {
					if v[0].Len > 100 {
						if stop(s.job.result.Bytes) != nil {
							return 0, syscall.EFAULT
						}
						v[0].SetLen(min(int(v[0].Len), step))
					}
					return sendmsg(fd, v[:1], control, flags)
				}
				s.calls = &k
				c, err := s.SendFile(ctx, f, 0, -1, FileOptions{Header: [][]byte{[]byte("header")}, Trailer: [][]byte{[]byte("trailer")}})
				if err == nil {
					t.Fatal("no error")
				}
				if _, kept := segments(t, out); kept != 0 {
					t.Errorf("%d bytes are kept back after %d: %v", kept, c.Bytes(), err)
				}
				if err := out.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				<-got
			})
		}
	}
}
