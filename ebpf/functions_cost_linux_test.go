package ebpf_test

import (
	"testing"

	cilium "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGuestFunctionCost counts what the tiers of functions add to sends and copies: no
// program runs for packets that nothing copies. It shows the time, and is not
// about it.
func TestGuestFunctionCost(t *testing.T) {
	testenv.Guest(t)
	sink := newSink(t)
	tracer := shared(t)
	if runs, err := tracer.Runs(); runs == nil {
		t.Skipf("needs a tier of functions: %v", err)
	}
	counting, err := cilium.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Skipf("needs BPF_ENABLE_STATS: %v", err)
	}
	defer counting.Close()
	const total, size = 4 << 20, 64 << 10
	for _, c := range []struct {
		off, api string
		copies   bool
	}{
		{"", "write", false}, {"", "sendfile", false}, {"", "msg_zerocopy", false},
		{"sg", "write", true}, {"", "sendfile", true}, {"", "msg_zerocopy", true},
	} {
		if c.off != "" {
			run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, c.off, "off")
		}
		conn := dial(t, sink, "tcp4")
		before, err := tracer.Runs()
		if err != nil {
			t.Fatal(err)
		}
		control(t, conn, func(fd int) error { return wayOf(c.api).send(fd, payload(total), size) })
		sent(t, conn)
		after, err := tracer.Runs()
		if err != nil {
			t.Fatal(err)
		}
		for name, n := range after {
			runs, ns := n[0]-before[name][0], n[1]-before[name][1]
			if runs == 0 {
				continue
			}
			t.Logf("%s of %d sends, copied %v: %s ran %d times, %d ns each", c.api, total/size, c.copies, name, runs, ns/runs)
		}
		copies := after["skb_segment"][0] - before["skb_segment"][0] + after["__pskb_pull_tail"][0] - before["__pskb_pull_tail"][0]
		if (copies > 0) != c.copies {
			t.Errorf("%s: the programs of copies ran %d times", c.api, copies)
		}
	}
}
