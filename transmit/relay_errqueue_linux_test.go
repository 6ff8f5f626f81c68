package transmit

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Entries in the error queue of a connection that takes no more bytes make Go's poller
// give up on it, for readers as well: a relay that waits for such a connection goes on
// all the same.
func TestRelayWithPendingCompletions(t *testing.T) {
	src, client := tcpPair(t)
	dst, server := tcpPair(t)
	polled := make(chan struct{}, 1)
	k := kernel
	k.Poll = func(fd int, events int16, timeoutMS int) (int16, error) {
		select {
		case polled <- struct{}{}:
		default:
		}
		return kernel.Poll(fd, events, timeoutMS)
	}
	r := newRelay()
	r.calls, r.pipes, r.ctx, r.left = &k, &pipes, t.Context(), unbounded
	done := make(chan error)
	go func() {
		res, err := r.run(dst, src)
		if err == nil && res.Bytes != 1<<20 {
			err = io.ErrShortWrite
		}
		done <- err
	}()
	// The other direction of src is full of bytes that were lent, and the client does
	// not read them.
	memory := make([]byte, 1<<16)
	err := control(src, func(fd int) error {
		if err := sys.SetsockoptInt(fd, sys.SolSocket, sys.SoZerocopy, 1); err != nil {
			return err
		}
		for flags := unix.MSG_ZEROCOPY | unix.MSG_DONTWAIT; ; {
			err := unix.Sendto(fd, memory, flags, nil)
			if errors.Is(err, syscall.ENOBUFS) { // enough was lent, if not all
				flags = unix.MSG_DONTWAIT
			} else if err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, syscall.EAGAIN) {
		t.Skipf("needs MSG_ZEROCOPY: %v", err)
	}
	<-polled // the relay looks after src by itself
	go func() {
		_, _ = client.Write(pattern(1 << 20))
		_ = client.CloseWrite()
	}()
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(server, got); err != nil {
		t.Fatal(err)
	}
	sameContent(t, "relayed", got, pattern(1<<20))
	if err := <-done; err != nil {
		t.Error(err)
	}
}
