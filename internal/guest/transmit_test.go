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
	binary := guest.BuildTests(t, "./transmit")
	const match = "^Test(SendArrives|ReaderSurvives|Uncopied|SendUDP|SendErrors|SendFaults|NumbersOfOthers|LockedMemory|BacksOff)$"
	for _, series := range []string{"5.10", "7.3"} {
		t.Run(series, func(t *testing.T) {
			runTests(t, binary, match, guest.Config{
				Series: series, Modules: []string{"veth", "sch_ingress", "cls_bpf"}, Tools: []string{"ip", "ethtool"},
				Timeout: 5 * time.Minute,
			})
		})
	}
}
