package probe

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// kernelTruth is what was measured of distribution kernels by other programs
// than this one. Versions are good for expectations; they decide nothing in
// what is tested here.
type kernelTruth struct {
	pipeCopies, udpCopies, udpSummed bool // sendfile to a pipe, to UDP
	oversizeCounts                   bool // sendfile of 65536 bytes to UDP returns 61440
	oddLost                          bool // odd pieces spliced into UDP
	sendZC                           bool // io_uring SEND_ZC and what goes with it
	devmemOp                         bool // NETDEV_CMD_BIND_TX
	vsockZC                          bool // SO_ZEROCOPY on vsock
	tls                              bool // CONFIG_TLS=m
	secret                           FeatureStatus
}

var kernelTruths = map[string]kernelTruth{
	"5.10": {pipeCopies: true, udpSummed: true, oversizeCounts: true, secret: Unsupported},
	"6.1":  {udpCopies: true, oversizeCounts: true, sendZC: true, tls: true, secret: Disabled},
	"6.12": {oddLost: true, sendZC: true, vsockZC: true, tls: true, secret: Supported},
	"6.18": {oddLost: true, sendZC: true, devmemOp: true, vsockZC: true, tls: true, secret: Supported},
	"7.3":  {sendZC: true, devmemOp: true, vsockZC: true, tls: true, secret: Supported},
}

func TestGuestKernelMatrix(t *testing.T) {
	series := testenv.Guest(t)
	want, ok := kernelTruths[series]
	if !ok {
		t.Fatalf("nothing is known about Linux %s", series)
	}
	f := hereFacts(t)
	outcome := func(id string) Outcome {
		i := slices.IndexFunc(f.Outcomes, func(o Outcome) bool { return o.ID == id })
		return f.Outcomes[i]
	}
	for _, c := range []struct {
		what, id, seen string
		want           int64
	}{
		{"sendfile to a pipe takes references", "sendfile.pipe", "page_ref", number(!want.pipeCopies)},
		{"sendfile to UDP takes references", "sendfile.udp", "page_ref", number(!want.udpCopies)},
		{"odd pieces arrive", "hazard.udp-splice-csum-loss", "received_odd", number(!want.oddLost)},
		{"odd corked pieces arrive", "hazard.udp-splice-csum-loss", "received_corked", number(!want.oddLost)},
		{"even pieces arrive", "hazard.udp-splice-csum-loss", "received_even", 1},
		{"nothing of an oversized sendfile arrives", "hazard.udp-sendfile-loss", "received", 0},
		{"device memory can be bound", "devmem.tx", "operation", number(want.devmemOp)},
	} {
		if got, ok := outcome(c.id).Seen[c.seen]; !ok || got != c.want {
			t.Errorf("Linux %s: %s: %d, want %d: %+v", series, c.what, got, c.want, outcome(c.id))
		}
	}
	if summed := outcome("sendfile.udp").Seen["summed_at_send"] == 1; summed != want.udpSummed {
		t.Errorf("Linux %s sums at send: %v", series, summed)
	}
	if got, counts := outcome("hazard.udp-sendfile-loss").Seen["returned"]; counts != want.oversizeCounts || counts && got != 61440 {
		t.Errorf("Linux %s: oversized sendfile: %+v", series, outcome("hazard.udp-sendfile-loss"))
	}
	sendZC := map[bool]FeatureStatus{true: Supported, false: Unsupported}[want.sendZC]
	status := judgedStatus(f)
	for id, s := range map[string]FeatureStatus{
		"sendfile.tcp": Supported, "sendfile.udp": Supported, "sendfile.unix": Supported, "sendfile.pipe": Supported, "sendfile.file": Supported,
		"splice.file-tcp": Supported, "splice.tcp-tcp": Supported, "vmsplice": Supported, "tee": Supported, "pipe.resize": Supported,
		"copy_file_range": Supported, "memfd.seal": Supported, "memfd_secret": want.secret, "tcp.cork": Supported, "udp.gso": Supported,
		"msg_zerocopy.tcp4": Supported, "msg_zerocopy.tcp6": Supported, "msg_zerocopy.udp4": Supported, "msg_zerocopy.udp6": Supported,
		"io_uring": Supported, "io_uring.send_zc": sendZC, "io_uring.sendmsg_zc": sendZC, "io_uring.fixed_buffers": sendZC,
		"tcp_zerocopy_receive": Supported, "packet_tx_ring": Supported, "af_xdp": Supported, "devmem.tx": Unsupported,
	} {
		if status[id] != s {
			t.Errorf("Linux %s: %s is %s, want %s: %+v", series, id, status[id], s, outcome(id))
		}
	}
}

// childFeatures makes the tests of the kernel's features under a limit of
// locked memory, in bytes.
func childFeatures(t *testing.T, arg json.RawMessage) any {
	var memlock uint64
	if err := json.Unmarshal(arg, &memlock); err != nil {
		t.Fatal(err)
	}
	setRlimit(t, unix.RLIMIT_MEMLOCK, memlock)
	return judgedStatus(hereFacts(t))
}

// TestNoLockedMemory makes every test as an ordinary user that may lock
// nothing: each must say so and survive it.
func TestNoLockedMemory(t *testing.T) { noLockedMemory(t) }

func TestGuestNoLockedMemory(t *testing.T) {
	testenv.Guest(t)
	noLockedMemory(t)
}

func noLockedMemory(t *testing.T) {
	testenv.Root(t)
	ns := testenv.NewNetNS(t)
	status := map[string]FeatureStatus{}
	runChild(t, ns, "features", 0, &status, asNobody)
	for id, want := range map[string]FeatureStatus{
		"msg_zerocopy.tcp4": Disabled, "msg_zerocopy.udp4": Disabled, "sendfile.tcp": Supported, "splice.tcp-tcp": Supported,
	} {
		if status[id] != want {
			t.Errorf("%s is %s, want %s", id, status[id], want)
		}
	}
	if status["memfd_secret"] == Supported {
		t.Error("memfd_secret is supported without locked memory")
	}
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func loadedModuleList(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/modules")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for name := range loadedModules(b) {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestGuestFeaturesLoadNoModule makes the tests with every capability, where
// modules wait to be loaded for whoever asks. What they say of a feature whose
// module is not loaded is checked by then loading it.
func TestGuestFeaturesLoadNoModule(t *testing.T) {
	series := testenv.Guest(t)
	want := kernelTruths[series]
	for _, m := range []string{"vsock_loopback", "vmw_vsock_virtio_transport_common", "vsock", "tls"} {
		err := unix.DeleteModule(m, 0)
		// A closed socket lets go of its module a little later.
		for try := 0; err == unix.EAGAIN && try < 100; try++ {
			time.Sleep(50 * time.Millisecond)
			err = unix.DeleteModule(m, 0)
		}
		if err != nil && err != unix.ENOENT {
			t.Fatalf("unload %s: %v", m, err)
		}
	}
	before := loadedModuleList(t)
	h := readHost(liveSources())
	f := &Facts{Host: h, Outcomes: runTests(t.Context(), &h), Networks: []Network{{Links: []Link{}}}}
	if after := loadedModuleList(t); after != before {
		t.Errorf("modules before: %s\nafter: %s", before, after)
	}
	status := judgedStatus(f)
	tls := map[bool]FeatureStatus{true: Disabled, false: Unsupported}[want.tls]
	if status["ktls.tx"] != tls || h.Config["CONFIG_TLS"] == "" || h.Modules["tls"] == "unknown" {
		t.Errorf("kernel TLS is %s, want %s; configuration %q, module %q", status["ktls.tx"], tls, h.Config["CONFIG_TLS"], h.Modules["tls"])
	}
	if status["msg_zerocopy.vsock"] != UnknownFeature || h.Modules["vsock"] != "available" {
		t.Errorf("vsock is %s, module %q", status["msg_zerocopy.vsock"], h.Modules["vsock"])
	}

	// The same calls, not held back: this machine does load modules on demand.
	fd, err := sys.Socket(sys.AFVsock, sys.SockStream, 0)
	if err != nil {
		t.Fatalf("socket AF_VSOCK: %v", err)
	}
	if err := sys.Close(fd); err != nil {
		t.Error(err)
	}
	if !strings.Contains(loadedModuleList(t), "vsock_loopback") {
		t.Error("a vsock socket did not load its module: the watch above proves nothing")
	}
	if want.tls {
		tlsOnDemand(t)
	}
	f = hereFacts(t)
	f.Networks = []Network{{Links: []Link{}}}
	status = judgedStatus(f)
	for id, s := range map[string]FeatureStatus{
		"ktls.tx":             map[bool]FeatureStatus{true: Supported, false: Unsupported}[want.tls],
		"ktls.tx_zerocopy_ro": Unsupported, // there is the option, or there is not; there is no device for it
		"msg_zerocopy.vsock":  map[bool]FeatureStatus{true: Supported, false: Unsupported}[want.vsockZC],
	} {
		if status[id] != s {
			t.Errorf("loaded: %s is %s, want %s", id, status[id], s)
		}
	}
}

// tlsOnDemand asks for the kernel's TLS as a server does.
func tlsOnDemand(t *testing.T) {
	t.Helper()
	h := readProcess(liveSources())
	r := newRig(t.Context(), kernelCalls(), &h)
	defer r.close()
	tr := &trial{rig: r, out: Outcome{Seen: map[string]int64{}}}
	defer tr.close()
	out, _, ok := tr.tcpPair(loopback4)
	if !ok || !tr.attachTLS(out) {
		t.Fatalf("%+v", tr.out)
	}
	if !strings.Contains(loadedModuleList(t), "tls") {
		t.Error("TCP_ULP did not load tls: the watch above proves nothing")
	}
}
