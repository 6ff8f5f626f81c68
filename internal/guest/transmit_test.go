package guest_test

import (
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest"
)

// TestTransmit runs what the library promises in guests, over loopback and on the
// lab's path without copies: who notifies, who copies and which errors come
// differ between kernels.
func TestTransmit(t *testing.T) {
	guest.Require(t)
	const match = "^Test(SendArrives|ReaderSurvives|Uncopied|SendUDP|SendErrors|SendFaults|NumbersOfOthers|LockedMemory|BacksOff)$"
	runTransmit(t, match, "5.10", "7.3")
}

// TestRing runs what a ring promises in guests: 5.10 has no zero-copy send of
// io_uring, 6.1 the first that says whether it copied, and 7.3 takes registered
// buffers for several parts.
func TestRing(t *testing.T) {
	guest.Require(t)
	runTransmit(t, "^TestRing", "5.10", "6.1", "6.12", "7.3")
}

// runTransmit runs tests of package transmit.
func runTransmit(t *testing.T, match string, serieses ...string) {
	t.Helper()
	binary := guest.BuildTests(t, "./transmit")
	for _, series := range serieses {
		t.Run(series, func(t *testing.T) {
			runTests(t, binary, match, guest.Config{
				Series: series, Modules: []string{"veth", "sch_ingress", "cls_bpf"}, Tools: []string{"ip", "ethtool"},
				Timeout: 8 * time.Minute,
			})
		})
	}
}
