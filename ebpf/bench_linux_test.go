package ebpf_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
)

// BenchmarkOverhead is what tracing costs the sender. In turns it sends without a
// tracer, with one, and with one that is exact, so that what else the machine
// does is the same for all; the medians of the turns are compared, as parts of
// the untraced throughput and as multiples of the untraced processor time.
func BenchmarkOverhead(b *testing.B) {
	for _, c := range []struct {
		api  string
		size int
		lo   bool
	}{
		{"write", 64 << 10, true}, {"sendfile", 64 << 10, true},
		{"write", 64 << 10, false}, {"msg_zerocopy", 256 << 10, false}, {"sendfile", 64 << 10, false}, {"write", 1 << 10, false},
	} {
		path := "sink"
		if c.lo {
			path = "lo"
		}
		b.Run(fmt.Sprintf("%s/%s/%d", path, c.api, c.size), func(b *testing.B) {
			var conn net.Conn
			if c.lo {
				conn = loopback(b)
			} else {
				conn = dial(b, newSink(b), "tcp4")
			}
			turns := map[string]*turn{"none": {}, "default": {}, "exact": {}}
			data := payload(max(64*c.size, 1<<20))
			for b.Loop() {
				for name, t := range turns {
					t.take(b, name, func() int {
						control(b, conn, func(fd int) error { return wayOf(c.api).send(fd, data, c.size) })
						return len(data)
					})
				}
			}
			none := turns["none"]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(none.speed)/1e9, "GB/s")
			for _, name := range []string{"default", "exact"} {
				b.ReportMetric(median(turns[name].speed)/median(none.speed), name+"-throughput")
				b.ReportMetric(median(turns[name].cost)/median(none.cost), name+"-cpu")
			}
		})
	}
}

// loopback returns a connection over lo whose data is read.
func loopback(b *testing.B) net.Conn {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buffer := make([]byte, 1<<20)
		for {
			if _, err := c.Read(buffer); err != nil {
				return
			}
		}
	}()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// turn is what was measured of one way to trace.
type turn struct {
	speed []float64 // bytes in a second
	cost  []float64 // nanoseconds of processor time for a byte
}

// take sends for a while. The first part of it is not measured: a tracer looks
// at everything until it knows that this is too much.
func (t *turn) take(b *testing.B, name string, send func() int) {
	if name != "none" {
		tracer, err := ebpf.Open(b.Context(), ebpf.Options{Processes: []int{os.Getpid()}, Exact: name == "exact", Tier: ebpf.TierTracepoint})
		if err != nil {
			b.Fatal(err)
		}
		defer tracer.Close()
	}
	for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
		send()
	}
	total, start, before := 0, time.Now(), processorTime(b)
	for time.Since(start) < 500*time.Millisecond {
		total += send()
	}
	t.speed = append(t.speed, float64(total)/time.Since(start).Seconds())
	t.cost = append(t.cost, float64(processorTime(b)-before)/float64(total))
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// BenchmarkOpen is how long it takes until something is seen.
func BenchmarkOpen(b *testing.B) {
	conn := dial(b, newSink(b), "tcp4")
	for b.Loop() {
		tracer, err := ebpf.Open(b.Context(), ebpf.Options{Processes: []int{os.Getpid()}, Tier: ebpf.TierTracepoint})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(payload(1000)); err != nil {
			b.Fatal(err)
		}
		if s, err := tracer.Summary(); err != nil || len(s.Flows) != 1 {
			b.Fatal(s, err)
		}
		b.StopTimer()
		tracer.Close()
		b.StartTimer()
	}
}

func processorTime(b *testing.B) int64 {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
