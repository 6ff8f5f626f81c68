package ebpf_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestUringWorkers: what a worker thread of io_uring sends is the program's, which has
// the name of its first thread.
func TestUringWorkers(t *testing.T) {
	if before(t, 6, 16) {
		t.Skip("needs tcp_sendmsg_locked")
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	sink, tracer := newSink(t), shared(t)
	for _, network := range []string{"tcp4", "udp4"} {
		for api, op := range map[string]uint8{"io_uring_send": uringOpSend, "io_uring_send_zc": sys.UringOpSendZC} {
			t.Run(network+"/"+api, func(t *testing.T) {
				skipRing(t, api)
				c := dial(t, sink, network)
				control(t, c, func(fd int) error { return sendUringFlagged(fd, payload(10_000), 1000, op, uringByWorker) })
				time.Sleep(20 * time.Millisecond)
				want := truth{copied: true, causes: []string{"api-copy"}}
				if api == "io_uring_send_zc" {
					want = truth{}
				}
				want.check(t, tracer, inodeOf(t, c), api, 10_000)
				if flows, _ := flowsOf(t, tracer, inodeOf(t, c)); len(flows) == 1 && flows[0].Comm != strings.TrimSpace(string(comm)) {
					t.Errorf("of %q, not of %q", flows[0].Comm, comm)
				}
			})
		}
	}
}

// TestUringOperations: an operation that is written after one that lends is not that one.
func TestUringOperations(t *testing.T) {
	skipRing(t, "io_uring_send_zc")
	if before(t, 6, 7) {
		t.Skip("needs sock_send_length")
	}
	sink, tracer := newSink(t), shared(t)
	c := dial(t, sink, "udp4")
	control(t, c, func(fd int) error {
		if err := sendUring(fd, payload(5000), 1000, sys.UringOpSendZC); err != nil {
			return err
		}
		return sendUring(fd, payload(3000), 500, uringOpWrite)
	})
	time.Sleep(20 * time.Millisecond)
	checkMixed(t, tracer, inodeOf(t, c), map[string]part{
		"io_uring_send_zc": {bytes: 5000},
		"io_uring_send":    {bytes: 3000, copied: true, causes: []string{"api-copy"}},
	})
}
