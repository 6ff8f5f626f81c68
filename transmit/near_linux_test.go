package transmit

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestNearBlind: where the receive queue of a peer on this machine cannot be seen
// nothing is shared with it that does not notify.
func TestNearBlind(t *testing.T) {
	for _, way := range append(fileWays(), Vmsplice) {
		for _, immutable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", way, immutable), func(t *testing.T) {
				out, in := tcpPair(t)
				k := kernelSocketCalls()
				k.FindTCP = func(_, _ netip.AddrPort) (sys.TCPSocket, error) { return sys.TCPSocket{}, syscall.ENOENT }
				var told []*Downgrade
				s, err := newSender(out, Options{Backend: way, OnDowngrade: func(d *Downgrade) { told = append(told, d) }}, k)
				if err != nil {
					t.Fatal(err)
				}
				const size = 100 << 10
				p := pattern(size)
				f := memfd(t, p)
				want := sha256.Sum256(p)
				var c Completion
				if way == Vmsplice {
					c, err = s.Send(t.Context(), p)
				} else {
					c, err = s.SendFile(t.Context(), f, 0, -1, FileOptions{Immutable: immutable})
				}
				if err != nil {
					t.Fatal(err)
				}
				shares := way == Sendfile || way == Splice || way == "" || way == Vmsplice
				obeyed := immutable && way != Vmsplice || !shares
				if obeyed == (c.Backend() != way && way != "" || len(told) > 0) {
					t.Errorf("by %s, told %v", c.Backend(), told)
				}
				if !obeyed && told[0].Cause != "loopback-delivery" {
					t.Errorf("told %v", told)
				}
				if !immutable && way != MmapZerocopy && way != Vmsplice {
					if !c.Released() {
						t.Error("not released")
					}
					if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
						t.Fatal(err)
					}
				}
				got := arrived(in)
				closeWrite(t, s)
				if <-got != want {
					t.Error("something else arrived")
				}
			})
		}
	}
}
