package ebpf_test

import (
	"errors"
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGuestTracepoint is what the tier of tracepoints tells on other kernels:
// bytes and copies always, and the calls where the kernel has hooks for them.
func TestGuestTracepoint(t *testing.T) {
	series := testenv.Guest(t)
	if series == "5.10" {
		_, err := ebpf.Open(t.Context(), ebpf.Options{Tier: ebpf.TierTracepoint})
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a kernel that is too old: %v", err)
		}
		t.Log(err)
		return
	}
	w := newWire(t, false)
	for _, exact := range []bool{true, false} {
		tracer := start(t, ebpf.Options{Exact: exact})
		for _, h := range tracer.Hooks() {
			if !h.Attached {
				t.Logf("%s: %v", h.Name, h.Err)
			}
		}
		for _, c := range []struct {
			api    string
			causes []string
		}{{"write", []string{"api-copy"}}, {"sendfile", nil}, {"msg_zerocopy", []string{"loopback-delivery"}}} {
			t.Run(c.api, func(t *testing.T) {
				const total = 1 << 20
				conn, got := w.connect(t, "10.1.0.2")
				inode := inodeOf(t, conn)
				control(t, conn, func(fd int) error { return wayOf(c.api).send(fd, payload(total), 32<<10) })
				sent(t, conn)
				conn.Close()
				if n := <-got; n != total {
					t.Errorf("%d bytes arrived", n)
				}
				truth{copied: len(c.causes) > 0, causes: c.causes}.check(t, tracer, inode, c.api, total)
			})
		}
	}
}
