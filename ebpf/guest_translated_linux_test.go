package ebpf_test

import (
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGuestTranslated sends through a router that changes the sender's address and has
// no scatter-gather: nobody knows whose the packets are that it copies, and nobody may
// say that what was sent was not copied. Others' packets are nobody's business.
func TestGuestTranslated(t *testing.T) {
	testenv.Guest(t) // which has act_nat
	tracer := shared(t)
	for _, translated := range []bool{false, true} {
		// An address of its own: what goes to it is unknown from now on to a tracer that
		// others use, too.
		w := newWire(t, true)
		w.b.Run("ip", "addr", "add", "10.1.0.9/24", "dev", "vb")
		w.router.Run("ethtool", "-K", "rb", "sg", "off")
		if translated {
			w.b.Run("ip", "route", "add", "10.7.7.7/32", "via", "10.1.0.1")
			w.router.Run("tc", "qdisc", "add", "dev", "rb", "clsact")
			w.router.Run("tc", "filter", "add", "dev", "rb", "egress", "matchall", "action", "nat", "egress", "10.1.1.1/32", "10.7.7.7")
			w.router.Run("tc", "filter", "add", "dev", "rb", "ingress", "matchall", "action", "nat", "ingress", "10.7.7.7/32", "10.1.1.1")
		}
		const total = 256 << 10
		conn, got := w.connect(t, "10.1.0.9")
		inode := inodeOf(t, conn)
		control(t, conn, func(fd int) error { return wayOf("sendfile").send(fd, payload(total), 32<<10) })
		sent(t, conn)
		conn.Close()
		if n := <-got; n != total {
			t.Errorf("%d bytes arrived", n)
		}
		flows, s := flowsOf(t, tracer, inode)
		if len(flows) != 1 {
			t.Fatalf("translated %t: %d flows: %+v", translated, len(flows), flows)
		}
		f := flows[0]
		if _, skipped := lostOf(tracer, s); skipped > 0 {
			t.Logf("%d hooks were skipped, and it is told", skipped)
			continue
		}
		known := !translated || s.Tier == ebpf.TierTracepoint
		if f.ZeroCopiedBytes > total/100 || known && f.CopiedBytes < total*99/100 || !known && f.UnknownBytes < total*99/100 {
			t.Errorf("translated %t: all of it is copied: %+v", translated, f)
		}
	}
}
