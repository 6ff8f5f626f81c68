package ebpf_test

import (
	"net"
	"testing"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestLongStreams sends more than sequence numbers can tell apart, so that what a call
// began, or a copy met last, lies behind the half of them in front of which all is new.
func TestLongStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 12 GiB")
	}
	const long, brief = 3 << 30, 256 << 20
	tracer := shared(t)
	for _, c := range []struct {
		name string
		// What is sent, and by which calls: the second when the path has no
		// scatter-gather any more.
		first, then string
		want        map[string][2]uint64 // by API: bytes, of them copied
	}{
		{"one call", "write", "write", map[string][2]uint64{"write": {long + brief, long + brief}}},
		{"copied at last", "sendfile", "sendfile", map[string][2]uint64{"sendfile": {long + brief, brief}}},
		{"another call", "sendfile", "write", map[string][2]uint64{"sendfile": {long, 0}, "write": {brief, brief}}},
		{"another call that is copied", "write", "sendfile", map[string][2]uint64{"write": {long, long}, "sendfile": {brief, brief}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sink := newSink(t)
			conn := dial(t, sink, "tcp4")
			sendLong(t, conn, c.first, long)
			sent(t, conn)
			run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, "sg", "off")
			sendLong(t, conn, c.then, brief)
			sent(t, conn)
			flows, _ := flowsOf(t, tracer, inodeOf(t, conn))
			got := map[string]ebpf.Flow{}
			for _, f := range flows {
				got[f.API] = f
			}
			if len(flows) != len(c.want) {
				t.Errorf("%d flows: %+v", len(flows), flows)
			}
			for api, want := range c.want {
				f := got[api]
				// A packet that was made before the device changed is cut up after.
				const slack = 1 << 20
				if f.Bytes != want[0] || max(f.CopiedBytes, want[1])-min(f.CopiedBytes, want[1]) > slack || f.UnknownBytes > slack {
					t.Errorf("%s: %v bytes, and copied: %+v", api, want, f)
				}
				if n := causesOf(t, f)["no-scatter-gather"]; api == c.then && n < brief-slack {
					t.Errorf("%s: %d bytes for the lack of scatter-gather: %+v", api, n, f.Causes)
				}
			}
			if t.Failed() {
				t.Log(tracer.Counts(inodeOf(t, conn)))
			}
		})
	}
}

// sendLong sends n bytes, a multiple of 16 MiB.
func sendLong(t *testing.T, conn net.Conn, api string, n int) {
	t.Helper()
	data := payload(16 << 20)
	control(t, conn, func(fd int) error {
		for ; n > 0; n -= len(data) {
			if err := wayOf(api).send(fd, data, 1<<20); err != nil {
				return err
			}
		}
		return nil
	})
}
