package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

func TestRelayContext(t *testing.T) {
	for _, backend := range []Backend{"", ReadWrite} {
		for _, src := range sources {
			if src.name == "file" {
				continue // never waits
			}
			t.Run(fmt.Sprintf("%s stalls %s", src.name, backend), func(t *testing.T) {
				t.Parallel()
				relayStalls(t, src, backend)
			})
		}
		for _, dst := range targets {
			if dst.name == "file" || dst.name == "append" {
				continue
			}
			t.Run(fmt.Sprintf("%s takes nothing %s", dst.name, backend), func(t *testing.T) {
				t.Parallel()
				relayBlocks(t, dst.name, backend)
			})
		}
	}
}

// relayStalls ends the context while the source has nothing.
func relayStalls(t *testing.T, src sourceEnd, backend Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	hold := make(chan struct{})
	from, more := stalling(t, src.name, []byte("before"), hold)
	to, arrived := targets[0].open(t)
	go func() {
		<-hold
		time.Sleep(20 * time.Millisecond) // most probably waiting by now; right in any case
		cancel()
	}()
	res, err := Relay(ctx, to, from, -1, RelayOptions{Backend: backend})
	if !errors.Is(err, context.Canceled) || res.Bytes != 6 {
		t.Fatalf("%+v, %v; want the end of the context after 6 bytes", res, err)
	}
	// The ends are as they were: a second relay goes on.
	feed(t, more, []byte(" after"))
	if res, err := Relay(t.Context(), to, from, -1, RelayOptions{Backend: backend}); err != nil || res.Bytes != 6 {
		t.Fatalf("afterwards: %+v, %v", res, err)
	}
	sameContent(t, "both", arrived(), []byte("before after"))
}

// stalling opens a source that has content and then nothing; ready is closed when it
// is there.
func stalling(t *testing.T, kind string, content []byte, ready chan struct{}) (syscall.Conn, io.WriteCloser) {
	var from syscall.Conn
	var more io.WriteCloser
	switch kind {
	case "tcp":
		from, more = tcpPair(t)
	case "unix":
		from, more = unixPair(t)
	case "pipe":
		from, more = osPipe(t)
	case "blocking pipe":
		from, more = blockingPipe(t, 0)
	case "socket as a file":
		near, far := tcpPair(t)
		from, more = asFile(t, near), far
	}
	if _, err := more.Write(content); err != nil {
		t.Fatal(err)
	}
	close(ready)
	return from, more
}

// relayBlocks ends the context while the destination takes nothing, and looks at
// what is said of the bytes between.
func relayBlocks(t *testing.T, kind string, backend Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	var to syscall.Conn
	var reader io.Reader
	var closer io.Closer
	switch kind {
	case "tcp":
		near, far := tcpPair(t)
		to, reader, closer = near, far, near
	case "unix":
		near, far := unixPair(t)
		to, reader, closer = near, far, near
	case "pipe":
		r, w := osPipe(t)
		to, reader, closer = w, r, w
	case "blocking pipe":
		r, w := blockingPipe(t, 1)
		to, reader, closer = w, r, w
	}
	const size = 64 << 20 // more than the buffers of both connections
	content := pattern(1 << 20)
	near, far := tcpPair(t)
	go func() {
		for range size >> 20 {
			if _, err := far.Write(content); err != nil {
				return
			}
		}
	}()
	go func() {
		// It stalls once nothing goes any more.
		time.Sleep(300 * time.Millisecond)
		cancel()
	}()
	res, err := Relay(ctx, to, near, -1, RelayOptions{Backend: backend})
	var re *RelayError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &re) || re.Written != res.Bytes || re.Read < re.Written || re.Read-re.Written > pipeBytes {
		t.Fatalf("%+v, %v", res, err)
	}
	_ = closer.Close()
	got, err := io.Copy(io.Discard, reader)
	if err != nil || got != res.Bytes {
		t.Errorf("%d bytes arrived, %v; the relay says %d", got, err, res.Bytes)
	}
	// What was not read is still there.
	_ = far.SetWriteDeadline(time.Now())
	rest := make([]byte, 1)
	if _, err := io.ReadFull(near, rest); err != nil || rest[0] != content[re.Read%(1<<20)] {
		t.Errorf("after %d bytes comes %x, %v; want %x", re.Read, rest, err, content[re.Read%(1<<20)])
	}
}

func TestRelayDeadlines(t *testing.T) {
	near, _ := tcpPair(t)
	to, _ := tcpPair(t)
	if err := near.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := Relay(t.Context(), to, near, -1, RelayOptions{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("source: %v; want the deadline", err)
	}
	near, far := tcpPair(t)
	feed(t, far, pattern(1000))
	if err := to.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, err := Relay(t.Context(), to, near, -1, RelayOptions{})
	var re *RelayError
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &re) || re.Read == 0 || re.Written != 0 {
		t.Errorf("destination: %v; want the deadline, with what was read", err)
	}
}

func TestRelayEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, far := tcpPair(t)
	to, arrived := targets[0].open(t)
	feed(t, far, []byte("kept"))
	if _, err := Relay(ctx, to, near, -1, RelayOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if res, err := Relay(t.Context(), to, near, -1, RelayOptions{}); err != nil || res.Bytes != 4 {
		t.Error(res, err)
	}
	sameContent(t, "afterwards", arrived(), []byte("kept"))
}

func TestRelayPeers(t *testing.T) {
	t.Run("source resets", func(t *testing.T) {
		near, far := tcpPair(t)
		to, arrived := targets[0].open(t)
		go func() {
			_, _ = far.Write(pattern(100_000))
			_ = far.SetLinger(0)
			_ = far.Close()
		}()
		res, err := Relay(t.Context(), to, near, -1, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &re) || re.Read != re.Written {
			t.Errorf("%+v, %v", res, err)
		}
		sameContent(t, "before the reset", arrived(), pattern(100_000)[:res.Bytes])
	})
	t.Run("destination resets", func(t *testing.T) {
		near, far := tcpPair(t)
		to, peer := tcpPair(t)
		go func() {
			_, _ = io.CopyN(io.Discard, peer, 1<<20)
			_ = peer.SetLinger(0)
			_ = peer.Close()
		}()
		feed(t, far, pattern(32<<20))
		res, err := Relay(t.Context(), to, near, -1, RelayOptions{})
		var re *RelayError
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) || !errors.As(err, &re) || re.Written < 1<<20 {
			t.Errorf("%+v, %v", res, err)
		}
		_ = near.Close()
	})
	t.Run("pipe without a reader", func(t *testing.T) {
		near, far := tcpPair(t)
		r, w := osPipe(t)
		_ = r.Close()
		feed(t, far, pattern(1000))
		if res, err := Relay(t.Context(), w, near, -1, RelayOptions{}); !errors.Is(err, syscall.EPIPE) || res.Bytes != 0 {
			t.Errorf("%+v, %v; want EPIPE", res, err)
		}
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		for _, src := range sources {
			if src.name == "file" {
				continue
			}
			ready := make(chan struct{})
			from, _ := stalling(t, src.name, []byte("x"), ready)
			to, _ := tcpPair(t)
			time.AfterFunc(20*time.Millisecond, func() { _ = from.(io.Closer).Close() })
			if _, err := Relay(t.Context(), to, from, -1, RelayOptions{}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s: %v; want that it is closed", src.name, err)
			}
		}
	})
	t.Run("half close", func(t *testing.T) {
		near, far := tcpPair(t)
		to, peer := tcpPair(t)
		_ = far.CloseWrite()
		if _, err := Relay(t.Context(), to, near, -1, RelayOptions{}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := to.Write([]byte("a")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(peer, b); err != nil {
			t.Error(err)
		}
	})
}

// Relays that wait for their source hold neither pipe nor buffer, and leave nothing
// behind.
func TestIdleRelays(t *testing.T) {
	const many = 200
	pool := &pipePool{calls: kernelCalls()}
	var near, far, to, peer [many]*net.TCPConn
	for i := range many {
		near[i], far[i] = tcpPair(t)
		to[i], peer[i] = tcpPair(t)
	}
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, many)
	relays := make([]*relay, many)
	for i := range many {
		r := newRelay()
		r.calls, r.pipes, r.ctx, r.left = kernelCalls(), pool, ctx, unbounded
		relays[i] = r
		go func() {
			_, err := r.run(to[i], near[i])
			errs <- err
		}()
	}
	for i := range many { // each has done something before it waits
		if _, err := far[i].Write(pattern(100)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer[i], make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	// Those that are just about to wait still hold a pipe; wait for them.
	for i := 0; openFDs(t) > fds+2*(maxIdlePipes+1); i++ {
		if i == 1000 {
			t.Fatalf("%d descriptors for %d idle relays", openFDs(t)-fds, many)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	for range many {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for i, r := range relays {
		if r.pipe != nil || r.buf != nil {
			t.Errorf("relay %d still has a pipe or a buffer", i)
		}
	}
	pool.drop(t)
	if got := openFDs(t); got > fds {
		t.Errorf("%d descriptors before, %d after", fds, got)
	}
	for i := 0; runtime.NumGoroutine() > goroutines; i++ {
		if i == 1000 {
			t.Fatalf("%d goroutines before, %d after", goroutines, runtime.NumGoroutine())
		}
		time.Sleep(time.Millisecond)
	}
}

// A batch of a pipe's pages that were not full is taken by the kernel for one that is
// followed by more, and its end is held back: it must be let go before waiting.
func TestRelayHoldsNothingBack(t *testing.T) {
	for _, nodelay := range []bool{true, false} {
		r, w := osPipe(t)
		to, peer := tcpPair(t)
		if err := to.SetNoDelay(nodelay); err != nil {
			t.Fatal(err)
		}
		pushed := make(chan struct{}, 100)
		k := kernel
		k.SetsockoptInt = func(fd, level, option, value int) error {
			if level == sys.SolTCP && option == sys.TCPNoDelay && value == 1 {
				pushed <- struct{}{}
			}
			return kernel.SetsockoptInt(fd, level, option, value)
		}
		const batch = 16 * 3000
		for range 16 {
			if _, err := w.Write(pattern(3000)); err != nil {
				t.Fatal(err)
			}
		}
		rel := newRelay()
		rel.calls, rel.pipes, rel.ctx, rel.left = &k, &pipes, t.Context(), unbounded
		done := make(chan error)
		go func() {
			_, err := rel.run(to, r)
			done <- err
		}()
		if _, err := io.ReadFull(peer, make([]byte, batch)); err != nil {
			t.Fatal(err)
		}
		if nodelay {
			<-pushed // while the source is open, and silent
		}
		_ = w.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		on := -1
		if err := control(to, func(fd int) (err error) {
			on, err = sys.GetsockoptInt(fd, sys.SolTCP, sys.TCPNoDelay)
			return err
		}); err != nil || on != map[bool]int{false: 0, true: 1}[nodelay] {
			t.Errorf("TCP_NODELAY is %d, %v; it was %v", on, err, nodelay)
		}
		if !nodelay && len(pushed) > 0 {
			t.Error("what the application wants to wait was sent")
		}
	}
}

func control(c syscall.Conn, fn func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
