package ebpf_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestStacks shows by which way payload came to where it was copied, or in the tier of
// tracepoints to where it was found to have been.
func TestStacks(t *testing.T) {
	at, through := "dev_hard_start_xmit", "tcp_write_xmit+"
	if tier := ebpf.Tier(os.Getenv("ZCPROBE_TIER")); tier == ebpf.TierFentry || tier == ebpf.TierKprobe {
		at, through = "tcp_gso_segment", "__dev_queue_xmit"
	}
	for _, c := range []struct{ off, id string }{{"tx", "no-tx-csum"}, {"sg", "no-scatter-gather"}} {
		t.Run(c.id, func(t *testing.T) {
			sink := newSink(t)
			run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, c.off, "off")
			tracer := open(t, ebpf.Options{Stacks: true})
			conn := dial(t, sink, "tcp4")
			control(t, conn, func(fd int) error { return wayOf("sendfile").send(fd, payload(1<<20), 64<<10) })
			sent(t, conn)
			flows, _ := flowsOf(t, tracer, inodeOf(t, conn))
			if len(flows) != 1 {
				t.Fatalf("%+v", flows)
			}
			i := slices.IndexFunc(flows[0].Causes, func(f ebpf.Cause) bool { return f.ID == c.id })
			if i < 0 || len(flows[0].Causes[i].Stack) == 0 {
				t.Fatalf("causes %+v", flows[0].Causes)
			}
			stack := flows[0].Causes[i].Stack[0]
			t.Logf("%d packets: %q", stack.Packets, stack.Frames)
			passed := slices.ContainsFunc(stack.Frames, func(f string) bool { return strings.HasPrefix(f, through) })
			if !strings.HasPrefix(stack.Frames[0], at) || !passed || stack.Packets == 0 {
				t.Errorf("the way is %q", stack.Frames)
			}
		})
	}
}

// TestNoStacks keeps none that nobody asked for.
func TestNoStacks(t *testing.T) {
	sink := newSink(t)
	tracer := open(t, ebpf.Options{})
	conn := dial(t, sink, "tcp4")
	if _, err := conn.Write(payload(1000)); err != nil {
		t.Fatal(err)
	}
	flows, _ := flowsOf(t, tracer, inodeOf(t, conn))
	if len(flows) != 1 || len(flows[0].Causes) != 1 || flows[0].Causes[0].Stack != nil {
		t.Errorf("%+v", flows)
	}
}
