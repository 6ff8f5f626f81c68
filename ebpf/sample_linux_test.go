package ebpf_test

import (
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// openSampling starts a tracer that looks in windows as soon as it meets
// anything.
func openSampling(t testing.TB) *ebpf.Tracer {
	t.Helper()
	tracer := start(t, ebpf.Options{Processes: []int{os.Getpid()}})
	tracer.Allow(0)
	return tracer
}

// keepSending sends by turns until the time is over, and returns how much.
func keepSending(t testing.TB, conn net.Conn, api string, size int, d time.Duration) uint64 {
	var total uint64
	data := payload(1 << 20)
	for end := time.Now().Add(d); time.Now().Before(end); {
		control(t, conn, func(fd int) error { return wayOf(api).send(fd, data, size) })
		total += uint64(len(data))
	}
	sent(t, conn)
	return total
}

// TestSamples compares what is extrapolated with the truth: bytes exactly, copies
// and causes about.
func TestSamples(t *testing.T) {
	for _, sc := range []scenario{scenarios[0], scenarios[3], scenarios[4], scenarios[5]} {
		t.Run(sc.name, func(t *testing.T) {
			sink := newSink(t)
			for _, feature := range sc.off {
				run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, feature, "off")
			}
			if sc.tap {
				tap(t, sink)
			}
			tracer := openSampling(t)
			for _, api := range []string{"write", "sendfile", "msg_zerocopy", "io_uring_send_zc"} {
				t.Run(api, func(t *testing.T) {
					conn := dial(t, sink, "tcp4")
					total := keepSending(t, conn, api, 64<<10, time.Second)
					flows, s := flowsOf(t, tracer, inodeOf(t, conn))
					// On a busy machine windows can pass in which this process does not run.
					for n := 0; n < 20 && (len(flows) != 1 || flows[0].Bytes != total || flows[0].UnknownBytes > total/100); n++ {
						total += keepSending(t, conn, api, 64<<10, time.Second)
						flows, s = flowsOf(t, tracer, inodeOf(t, conn))
					}
					want := sc.truth(api)
					defer func() {
						if t.Failed() {
							t.Log(tracer.Counts(inodeOf(t, conn)))
						}
					}()
					checkSampled(t, flows, s, api, total, want)
				})
			}
		})
	}
}

func checkSampled(t *testing.T, flows []ebpf.Flow, s *ebpf.Summary, api string, total uint64, want truth) {
	t.Helper()
	if s.Exact || s.SampleEvery < 2 || len(s.Incomplete) == 0 {
		t.Errorf("exact %v, of %d: %v", s.Exact, s.SampleEvery, s.Incomplete)
	}
	if len(flows) != 1 {
		t.Fatalf("%d flows: %+v", len(flows), flows)
	}
	f := flows[0]
	if f.API != api || f.PID != os.Getpid() {
		t.Errorf("is %s of %d, not %s of this process", f.API, f.PID, api)
	}
	if f.Bytes != total || f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
		t.Errorf("%d bytes, %d sent: %+v", f.Bytes, total, f)
	}
	wantCopied := 0.0
	if want.copied {
		wantCopied = 1
	}
	if got := float64(f.CopiedBytes) / float64(f.Bytes); got < wantCopied-0.02 || got > wantCopied+0.02 {
		t.Errorf("%.3f copied, not %v: %+v", got, wantCopied, f)
	}
	var causes []string
	for id, n := range causesOf(t, f) {
		causes = append(causes, id)
		if n > f.Bytes || n < f.Bytes*9/10 {
			t.Errorf("%s of %d bytes, of %d", id, n, f.Bytes)
		}
	}
	slices.Sort(causes)
	if !slices.Equal(causes, want.causes) {
		t.Errorf("causes %v, not %v: %+v", causes, want.causes, f.Causes)
	}
}

// TestUnseenSends are of sockets that send, open and close between windows.
func TestUnseenSends(t *testing.T) {
	sink := newSink(t)
	old := dial(t, sink, "tcp4")
	idle := dial(t, sink, "tcp4")
	tracer := openSampling(t)
	busy := dial(t, sink, "tcp4")
	keepSending(t, busy, "write", 64<<10, 300*time.Millisecond)
	var short uint64
	for i := range 200 {
		c, err := sink.Dial(t.Context(), "tcp4")
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(payload(1000 + i))
		if err != nil {
			t.Fatal(err)
		}
		short += uint64(n)
		c.Close()
	}
	if _, err := old.Write(payload(12345)); err != nil {
		t.Fatal(err)
	}
	// Between windows, or in one.
	young := dial(t, sink, "tcp4")
	if _, err := young.Write(payload(54321)); err != nil {
		t.Fatal(err)
	}
	if flows, _ := flowsOf(t, tracer, inodeOf(t, young)); len(flows) != 1 || flows[0].Bytes != 54321 || flows[0].PID != os.Getpid() {
		t.Errorf("of a socket that is still open: %+v", flows)
	}
	flows, s := flowsOf(t, tracer, inodeOf(t, old))
	if len(flows) != 1 || flows[0].Bytes != 12345 || flows[0].PID != os.Getpid() {
		t.Errorf("of a socket older than the tracer: %+v", flows)
	}
	var all uint64
	for _, f := range s.Flows {
		if f.Inode != inodeOf(t, idle) && f.Inode != inodeOf(t, busy) && f.Inode != inodeOf(t, old) && f.Inode != inodeOf(t, young) {
			all += f.Bytes
		}
		if f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
			t.Errorf("does not add up: %+v", f)
		}
		if f.ZeroCopiedBytes != 0 {
			t.Errorf("not copied: %+v", f)
		}
	}
	if all != short {
		t.Errorf("%d bytes of short connections, %d sent", all, short)
	}
}

// TestSamplesAndAll: sockets that were first met while everything was looked at,
// and such that were first met in samples, through changes from one to the other.
func TestSamplesAndAll(t *testing.T) {
	sink := newSink(t)
	tracer := start(t, ebpf.Options{Processes: []int{os.Getpid()}})
	type connection struct {
		conn  net.Conn
		api   string
		total uint64
	}
	var all []*connection
	for _, part := range []float64{1e9, 0, 1e9, 0} {
		tracer.Allow(part)
		for _, api := range []string{"write", "sendfile"} {
			all = append(all, &connection{conn: dial(t, sink, "tcp4"), api: api})
		}
		left := 10 // turns after the change
		for deadline := time.Now().Add(30 * time.Second); left > 0 && time.Now().Before(deadline); {
			for _, c := range all {
				c.total += keepSending(t, c.conn, c.api, 64<<10, time.Millisecond)
			}
			if tracer.Samples() == (part == 0) {
				left--
			}
		}
		if left > 0 {
			t.Fatalf("it never came to looking at %v of the time", part)
		}
	}
	var total, told uint64
	for _, c := range all {
		flows, s := flowsOf(t, tracer, inodeOf(t, c.conn))
		var bytes uint64
		for _, f := range flows {
			bytes += f.Bytes
			if f.API != c.api || c.api == "write" && f.ZeroCopiedBytes > 0 || c.api == "sendfile" && f.CopiedBytes > 0 {
				t.Errorf("is %s: %+v\n%s", c.api, f, tracer.Counts(inodeOf(t, c.conn)))
			}
			if f.Bytes != f.ZeroCopiedBytes+f.CopiedBytes+f.UnknownBytes {
				t.Errorf("does not add up: %+v", f)
			}
		}
		// What no window met of one may be told of with others.
		if bytes > c.total || s.Exact {
			t.Errorf("%s: %d bytes, %d sent: %+v", c.api, bytes, c.total, flows)
		}
		total += c.total
		told = 0
		for _, f := range s.Flows {
			told += f.Bytes
		}
	}
	if told != total {
		t.Errorf("%d bytes, %d sent", told, total)
	}
}
