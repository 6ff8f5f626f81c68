package ebpf_test

import (
	"context"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/probe"
)

// open starts a tracer that looks at everything this process sends.
func open(t testing.TB, o ebpf.Options) *ebpf.Tracer {
	t.Helper()
	o.Exact = true
	if o.Processes == nil {
		o.Processes = []int{os.Getpid()}
	}
	return start(t, o)
}

func start(t testing.TB, o ebpf.Options) *ebpf.Tracer {
	t.Helper()
	testenv.Root(t)
	if o.Tier == "" { // in guests, each tier is tried
		o.Tier = ebpf.Tier(os.Getenv("ZCPROBE_TIER"))
	}
	if o.Tier == "" {
		o.Tier = ebpf.TierTracepoint
	}
	tracer, err := ebpf.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tracer
}

// truth is what is known of a flow beforehand.
type truth struct {
	copied bool     // all of it, or nothing
	causes []string // ids, sorted
	twice  bool     // packet sockets copied it where it was sent, and where it was received
}

// inodeOf returns the number that names a socket in /proc.
func inodeOf(t testing.TB, c net.Conn) uint64 {
	t.Helper()
	var st unix.Stat_t
	control(t, c, func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Ino
}

// flowsOf returns the flows of one socket.
func flowsOf(t testing.TB, tracer *ebpf.Tracer, inode uint64) ([]ebpf.Flow, *ebpf.Summary) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s, err := tracer.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(s.Flows), func(f ebpf.Flow) bool { return f.Inode != inode }), s
}

// causesOf returns the bytes of each cause of a flow.
func causesOf(t testing.TB, f ebpf.Flow) map[string]uint64 {
	t.Helper()
	bytes := map[string]uint64{}
	for _, c := range f.Causes {
		bytes[c.ID] += c.Bytes
		entry, ok := probe.LookupCause(c.ID)
		if !ok || !slices.Contains(entry.Mechanisms, c.Mechanism) || c.Kind != entry.Kind {
			t.Errorf("%+v is not as in the catalogue", c)
		}
	}
	return bytes
}

// check compares what was observed with the truth.
func (want truth) check(t testing.TB, tracer *ebpf.Tracer, inode uint64, api string, bytes uint64) {
	t.Helper()
	flows, s := flowsOf(t, tracer, inode)
	wantCopied := uint64(0)
	if want.copied {
		wantCopied = bytes
	}
	lost, skipped := lostOf(tracer, s)
	if lost != 0 {
		t.Errorf("lost %d: %v", lost, s.Incomplete)
	}
	if skipped != 0 {
		t.Logf("%d hooks were skipped, and it is told: %s", skipped, s.Incomplete[0])
		want.checkPart(t, flows, api, bytes, wantCopied)
		return
	}
	if len(flows) != 1 {
		t.Fatalf("%d flows: %+v", len(flows), flows)
	}
	f := flows[0]
	defer func() {
		if t.Failed() {
			t.Log(tracer.Counts(inode))
		}
	}()
	if f.API != api || f.PID != os.Getpid() {
		t.Errorf("is %s of %d, not %s of this process", f.API, f.PID, api)
	}
	if f.Bytes != bytes || f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
		t.Errorf("%d bytes, %d sent: %+v", f.Bytes, bytes, f)
	}
	if off := max(f.CopiedBytes, wantCopied) - min(f.CopiedBytes, wantCopied); off > bytes/100 {
		t.Errorf("%d of %d bytes copied, not %d: %+v", f.CopiedBytes, bytes, wantCopied, f)
	}
	if f.UnknownBytes > bytes/100 {
		t.Errorf("%d of %d bytes unknown: %+v", f.UnknownBytes, bytes, f)
	}
	causes := causesOf(t, f)
	if got := slices.Sorted(maps.Keys(causes)); !slices.Equal(got, want.causes) {
		t.Errorf("causes %v, not %v: %+v", got, want.causes, f.Causes)
	}
	for id, n := range causes {
		if n > bytes && !(want.twice && n <= 2*bytes) || n < bytes*99/100 {
			t.Errorf("%s of %d bytes, of %d", id, n, bytes)
		}
	}
}

// checkPart compares what was observed where not all of it could be: what is said is
// true, and the rest is said to be unknown, or was not seen at all.
func (want truth) checkPart(t testing.TB, flows []ebpf.Flow, api string, bytes, copied uint64) {
	t.Helper()
	slack := bytes / 100
	var seenCopied, seenUncopied uint64
	for _, f := range flows {
		seenCopied += f.CopiedBytes
		seenUncopied += f.ZeroCopiedBytes
		if known := f.CopiedBytes + f.ZeroCopiedBytes; f.API != api && known > 0 {
			t.Errorf("%d bytes are known of %s, of %s: %+v", known, f.API, api, f)
		}
		for id := range causesOf(t, f) {
			if !slices.Contains(want.causes, id) {
				t.Errorf("cause %s is none of %v: %+v", id, want.causes, f.Causes)
			}
		}
	}
	if seenCopied > copied+slack || seenUncopied > bytes-copied+slack {
		t.Errorf("%d bytes copied and %d not, of %d and %d copied: %+v", seenCopied, seenUncopied, bytes, copied, flows)
	}
}

// payload is memory that was written to.
func payload(n int) []byte { return []byte(strings.Repeat("zero copy ", n/10+1)[:n]) }

// scenario is a state of the path to the sink in which the truth is known.
type scenario struct {
	name   string
	off    []string // ethtool features
	tap    bool
	always []string // causes of every way
	copies []string // causes of ways that copy nothing themselves; they are copied then
	lends  []string // of those of them that lend pages of the application, with a notice
}

var scenarios = []scenario{
	{name: "sink"},
	{name: "no tso", off: []string{"tso"}},
	{name: "no gso", off: []string{"tso", "gso"}},
	{name: "no sg", off: []string{"sg"}, always: []string{"no-scatter-gather"}},
	{name: "no checksum", off: []string{"tx"}, always: []string{"checksum-pass"}, copies: []string{"no-tx-csum"}},
	{name: "tap", tap: true, lends: []string{"packet-tap"}},
}

func (sc scenario) truth(api string) truth {
	var want truth
	want.causes = slices.Clone(sc.always)
	want.copied = slices.ContainsFunc(sc.always, func(id string) bool { return !strings.HasPrefix(id, "checksum-pass") })
	switch api {
	case "write", "writev", "io_uring_send":
		want.copied = true
		want.causes = append(want.causes, "api-copy")
	case "msg_zerocopy", "io_uring_send_zc":
		want.copied = want.copied || len(sc.lends) > 0
		want.causes = append(want.causes, sc.lends...)
		fallthrough
	default:
		want.copied = want.copied || len(sc.copies) > 0
		want.causes = append(want.causes, sc.copies...)
	}
	slices.Sort(want.causes)
	return want
}

func TestScenarios(t *testing.T) {
	tracer := shared(t)
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			sink := newSink(t)
			for _, feature := range sc.off {
				run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, feature, "off")
			}
			if sc.tap {
				tap(t, sink)
			}
			for _, network := range []string{"tcp4", "tcp6"} {
				for _, w := range ways {
					t.Run(network+"/"+w.name, func(t *testing.T) {
						skipRing(t, w.name)
						const total = 512 << 10
						c, err := sink.Dial(t.Context(), network)
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close()
						control(t, c, func(fd int) error { return w.send(fd, payload(total), 64<<10) })
						sent(t, c)
						want := sc.truth(w.name)
						want.twice = sc.tap && before(t, 6, 13) // packet sockets are on one list for all namespaces
						want.check(t, tracer, inodeOf(t, c), w.name, total)
						if arrived, err := sink.Flow(c); err != nil || arrived.Bytes != total {
							t.Errorf("%d bytes arrived, %v", arrived.Bytes, err)
						}
					})
				}
			}
		})
	}
}

func run(t testing.TB, sink *lab.Sink, name string, args ...string) {
	t.Helper()
	err := sink.Do(func() error {
		out, err := command(name, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %v: %v: %s", name, args, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tap opens a packet socket that takes everything, in the sender's namespace.
func tap(t testing.TB, sink *lab.Sink) {
	t.Helper()
	err := sink.Do(func() error {
		const all = 0x0300 // ETH_P_ALL in network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		if err == nil {
			t.Cleanup(func() { unix.Close(fd) })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
