package ebpf_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
)

// BenchmarkOverhead is what tracing costs the sender: time per byte, and
// processor time per byte, with the tracer and without.
func BenchmarkOverhead(b *testing.B) {
	for _, c := range []struct {
		api  string
		size int
	}{{"write", 64 << 10}, {"msg_zerocopy", 256 << 10}, {"sendfile", 64 << 10}, {"write", 1 << 10}} {
		for _, traced := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/%d/traced=%v", c.api, c.size, traced), func(b *testing.B) {
				sink := newSink(b)
				conn := dial(b, sink, "tcp4")
				if traced {
					open(b, ebpf.Options{})
				}
				data := payload(max(c.size, 1<<20))
				b.SetBytes(int64(len(data)))
				before := processorTime(b)
				for b.Loop() {
					control(b, conn, func(fd int) error { return wayOf(c.api).send(fd, data, c.size) })
				}
				sent(b, conn)
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/float64(len(data)), "cpu-ns/B")
			})
		}
	}
}

func processorTime(b *testing.B) int64 {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
