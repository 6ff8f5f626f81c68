package transfer

import (
	"os"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Transfers of every kind, whole and broken, give back their descriptors.
func TestDescriptorsComeBack(t *testing.T) {
	name := file(t, content(200_000))
	once := func() {
		for _, b := range []transmit.Backend{"", transmit.Splice, transmit.MmapZerocopy, transmit.ReadWrite} {
			s, err := OpenSource(t.Context(), name, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Listen(t.Context(), RecvOptions{Listen: address(t, "tcp"), MaxBytes: map[bool]int64{true: 1000}[b == ""]})
			if err != nil {
				t.Fatal(err)
			}
			out, _ := output(t)
			done := make(chan error, 1)
			go func() {
				_, err := l.Receive(t.Context(), out, true)
				done <- err
			}()
			o := sendOptions(Address{"tcp", l.Address()}, s)
			o.Backend = b
			_, serr := Send(t.Context(), o)
			if rerr := <-done; b != "" && (serr != nil || rerr != nil) || b == "" && rerr == nil {
				t.Errorf("%q: %v, %v", b, serr, rerr)
			}
			l.Close()
			s.Close()
		}
	}
	once() // what stays for the process
	before := descriptors(t)
	for range 5 {
		once()
	}
	for range 100 { // pipes that are kept for a while, and the watcher
		if descriptors(t) <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d descriptors before, %d after", before, descriptors(t))
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
