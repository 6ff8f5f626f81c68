package ebpf_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

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
	const total = 1 << 20
	f, err := memfd(payload(total))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
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
				conn, got := w.connect(t, "10.1.0.2")
				inode := inodeOf(t, conn)
				control(t, conn, func(fd int) error {
					if c.api == "sendfile" {
						return sendfileFrom(fd, f, total, 32<<10)
					}
					return wayOf(c.api).send(fd, payload(total), 32<<10)
				})
				sent(t, conn)
				conn.Close()
				if n := <-got; n != total {
					t.Errorf("%d bytes arrived", n)
				}
				truth{copied: len(c.causes) > 0, causes: c.causes}.check(t, tracer, inode, c.api, total)
			})
		}
		t.Run("mixed", func(t *testing.T) { mixedCalls(t, w, tracer) })
	}
}

// mixedCalls sends headers and bodies. A kernel that does not tell of the end of
// calls leaves open which of them some bytes are of: those are of none, and no
// others are of the wrong one.
func mixedCalls(t *testing.T, w wire, tracer *ebpf.Tracer) {
	conn, got := w.connect(t, "10.1.0.2")
	inode := inodeOf(t, conn)
	const rounds, header, body = 20, 300, 100_000
	f, err := memfd(payload(body))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // not before its pages are sent: those of no file tell nothing
	control(t, conn, func(fd int) error {
		for range rounds {
			if err := unix.Send(fd, payload(header), unix.MSG_MORE); err != nil {
				return err
			}
			if err := sendfileFrom(fd, f, body, body); err != nil {
				return err
			}
		}
		return nil
	})
	sent(t, conn)
	conn.Close()
	<-got
	flows, _ := flowsOf(t, tracer, inode)
	var bytes uint64
	for _, f := range flows {
		t.Logf("%s: %d bytes, %d copied, %d unknown", f.API, f.Bytes, f.CopiedBytes, f.UnknownBytes)
		bytes += f.Bytes
		if f.API == "sendfile" && (f.CopiedBytes != 0 || f.ZeroCopiedBytes > rounds*body) || f.API == "write" && (f.ZeroCopiedBytes != 0 || f.CopiedBytes > rounds*header) {
			t.Errorf("%+v", f)
		}
	}
	if bytes != rounds*(header+body) {
		t.Errorf("%d bytes, %d sent", bytes, rounds*(header+body))
	}
}
