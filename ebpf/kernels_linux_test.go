package ebpf_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	cilium "github.com/cilium/ebpf"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// before says whether the kernel is older than a version: what it does is then
// known to be other than what newer ones do.
func before(t testing.TB, major, minor int) bool {
	t.Helper()
	var a, b int
	if _, err := fmt.Sscanf(testenv.Kernel(t), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a < major || a == major && b < minor
}

// common is the tracer of all tests in a guest that need none of their own: under
// emulation it takes longer to start one than to run most tests.
var common struct {
	tracer  *ebpf.Tracer
	lost    uint64 // as told to the tests before
	skipped uint64 // hooks of it, when that was told
}

// shared returns a tracer that looks at everything this process sends, and may
// have looked before.
func shared(t testing.TB) *ebpf.Tracer {
	t.Helper()
	tier := os.Getenv("ZCPROBE_TIER")
	if tier == "" {
		return open(t, ebpf.Options{})
	}
	if common.tracer == nil {
		tracer, err := ebpf.Open(context.Background(), ebpf.Options{Tier: ebpf.Tier(tier), Exact: true, Processes: []int{os.Getpid()}})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range tracer.Hooks() {
			if !h.Attached {
				t.Logf("not attached: %s: %v", h.Name, h.Err)
			}
		}
		common.tracer = tracer
		if os.Getenv("ZCPROBE_SKIP_HOOKS") != "" {
			skipHooks(t)
		}
	}
	return common.tracer
}

// skipHooks makes the kernel skip kprobes, until the process ends: it runs none on a
// CPU where a map is being written to, and another task may run there meanwhile.
func skipHooks(t testing.TB) {
	t.Helper()
	m, err := cilium.NewMap(&cilium.MapSpec{Type: cilium.Hash, KeySize: 4, ValueSize: 4096, MaxEntries: 65536})
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 4096)
	go func() {
		for key := uint32(0); m.Put(key%65536, value) == nil; key++ {
		}
	}()
}

// lostOf is what a tracer has lost for this test, and how often hooks were skipped:
// in kprobes that is beyond its power, as where something interrupts a program.
func lostOf(tracer *ebpf.Tracer, s *ebpf.Summary) (lost, skipped uint64) {
	if tracer != common.tracer {
		return s.LostEvents, 0
	}
	lost, skipped = s.LostEvents-common.lost, tracer.Skipped()-common.skipped
	common.lost += lost
	common.skipped += skipped
	return lost - min(lost, skipped), skipped
}

// closeShared returns the status that it has for the process.
func closeShared() int {
	if common.tracer == nil {
		return 0
	}
	if err := common.tracer.Close(); err != nil {
		fmt.Println("close:", err)
		return 1
	}
	return 0
}

// skipRing skips where io_uring sends nothing without copies.
func skipRing(t testing.TB, api string) {
	t.Helper()
	if api == "io_uring_send_zc" && before(t, 6, 0) {
		t.Skip("needs IORING_OP_SEND_ZC")
	}
}

// TestKernelDatagrams sends datagrams in one trace, for guests, where it takes
// long to start one.
func TestKernelDatagrams(t *testing.T) {
	const sends, small, large = 20, 1024, 8000 // a small one lies in one page
	tracer := shared(t)
	for _, off := range []string{"", "sg", "tx"} {
		t.Run("off "+off, func(t *testing.T) {
			sink := newSink(t)
			if off != "" {
				run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, off, "off")
			}
			for _, api := range []string{"write", "msg_zerocopy", "io_uring_send_zc", "sendfile"} {
				for _, size := range []int{small, large} {
					if api == "sendfile" && size == large {
						continue // some kernels send nothing then
					}
					for _, network := range []string{"udp4", "udp6"} {
						t.Run(fmt.Sprint(api, "/", size, "/", network), func(t *testing.T) {
							skipRing(t, api)
							conn := dial(t, sink, network)
							control(t, conn, func(fd int) error { return wayOf(api).send(fd, payload(size*sends), size) })
							time.Sleep(20 * time.Millisecond)
							want, head := datagramTruth(t, api, network, size == large, off)
							if head {
								checkHead(t, tracer, inodeOf(t, conn), uint64(size*sends))
								return
							}
							want.check(t, tracer, inodeOf(t, conn), api, uint64(size*sends))
						})
					}
				}
			}
		})
	}
}

// datagramTruth is what kernels do; head says that one copies a part of each into
// its head.
func datagramTruth(t testing.TB, api, network string, large bool, off string) (want truth, head bool) {
	pass := large || off == "tx"
	switch {
	case api == "write":
		want = truth{copied: true, causes: []string{"api-copy"}}
	case api == "sendfile" && network == "udp4" && before(t, 5, 11):
		// IPv6 takes no pages there. The datagram is begun as one that more will be added to.
		if off == "sg" {
			return truth{copied: true, causes: []string{"checksum-pass", "no-scatter-gather"}}, false
		}
		return truth{causes: []string{"udp-splice-csum"}}, false
	case api == "sendfile" && before(t, 6, 5):
		want = truth{copied: true, causes: []string{"udp-splice-copy"}}
	case api == "sendfile" && off == "sg":
		want = truth{copied: true, causes: []string{"no-scatter-gather"}}
	case api == "sendfile" && off == "tx":
		return truth{causes: []string{"udp-splice-csum"}}, false
	case api == "sendfile":
	case large:
		want = truth{copied: true, causes: []string{"udp-over-mtu"}}
	case off == "sg":
		want = truth{copied: true, causes: []string{"no-scatter-gather"}}
	case off == "tx":
		want = truth{copied: true, causes: []string{"no-tx-csum"}}
	default:
		head = before(t, 5, 11)
	}
	if pass {
		want.causes = append(want.causes, "checksum-pass")
	}
	slices.Sort(want.causes)
	return want, head
}

// checkParts: all of it is copied, each byte for one of these causes.
func checkParts(t testing.TB, tracer *ebpf.Tracer, inode, bytes uint64, ids ...string) {
	t.Helper()
	flows, _ := flowsOf(t, tracer, inode)
	if len(flows) != 1 {
		t.Fatalf("%+v", flows)
	}
	causes := causesOf(t, flows[0])
	var sum uint64
	for _, n := range causes {
		sum += n
	}
	if got := slices.Sorted(maps.Keys(causes)); !slices.Equal(got, ids) || sum != bytes || flows[0].CopiedBytes != bytes {
		t.Errorf("%+v", flows[0])
	}
}

// checkHead: a part of each datagram is copied, and is known to be.
func checkHead(t testing.TB, tracer *ebpf.Tracer, inode, bytes uint64) {
	t.Helper()
	flows, _ := flowsOf(t, tracer, inode)
	if len(flows) != 1 {
		t.Fatalf("%+v", flows)
	}
	f := flows[0]
	causes := causesOf(t, f)
	if f.Bytes != bytes || f.CopiedBytes == 0 || f.CopiedBytes > bytes/5 || f.UnknownBytes != 0 ||
		len(causes) != 1 || causes["udp-linear-head"] != f.CopiedBytes {
		t.Errorf("%+v", f)
	}
}
