package ebpf_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
)

// BenchmarkOverhead is what tracing costs the sender. In turns it sends without a
// tracer, with one, with one that is exact, and with other programs that trace, as
// far as they are installed, so that what else the machine does is the same for
// all; the medians of the turns are compared, as parts of the untraced throughput
// and as multiples of the untraced processor time. That is of this process, which
// ours runs in, and others do not.
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
			turns := []*turn{{name: "none"}, {name: "default"}, {name: "exact"}}
			for _, o := range others(b) {
				turns = append(turns, &turn{name: o[0], command: o})
			}
			data := payload(max(64*c.size, 1<<20))
			for b.Loop() {
				for _, t := range turns {
					t.take(b, func() int {
						control(b, conn, func(fd int) error { return wayOf(c.api).send(fd, data, c.size) })
						return len(data)
					})
				}
			}
			none := turns[0]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(none.speed)/1e9, "GB/s")
			for _, t := range turns[1:] {
				b.ReportMetric(median(t.speed)/median(none.speed), t.name+"-throughput")
				b.ReportMetric(median(t.cost)/median(none.cost), t.name+"-cpu")
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

// others are the commands of other programs that tell which calls this process
// sends by, or how much; of those that are installed.
func others(b *testing.B) (commands [][]string) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range [][]string{
		{"strace", "-f", "-c", "-o", "/dev/null", "-p", pid},
		{"perf", "trace", "-s", "-o", "/dev/null", "-p", pid},
		{"bpftrace", "-e", `tracepoint:raw_syscalls:sys_exit /pid == ` + pid + ` && args.ret > 0/ { @accepted[args.id] = sum(args.ret); }
			tracepoint:net:net_dev_queue { @queued[pid] = sum(args.len); }
			tracepoint:net:net_dev_start_xmit { @door[pid] = sum(args.len); }`},
	} {
		if _, err := exec.LookPath(c[0]); err != nil {
			b.Logf("without %s: %v", c[0], err)
			continue
		}
		commands = append(commands, c)
	}
	return commands
}

// turn is what was measured of one way to trace.
type turn struct {
	name    string
	command []string  // of another tracer
	speed   []float64 // bytes in a second
	cost    []float64 // nanoseconds of processor time for a byte
}

// take sends for a while. The first part of it is not measured: a tracer looks
// at everything until it knows that this is too much.
func (t *turn) take(b *testing.B, send func() int) {
	settle := 200 * time.Millisecond
	switch {
	case t.command != nil:
		settle = 2 * time.Second // not all of them say when they have begun
		defer trace(b, t.command)()
	case t.name != "none":
		tracer, err := ebpf.Open(b.Context(), ebpf.Options{Processes: []int{os.Getpid()}, Exact: t.name == "exact", Tier: ebpf.TierTracepoint})
		if err != nil {
			b.Fatal(err)
		}
		defer tracer.Close()
	}
	for start := time.Now(); time.Since(start) < settle; {
		send()
	}
	total, start, before := 0, time.Now(), processorTime(b)
	for time.Since(start) < 500*time.Millisecond {
		total += send()
	}
	t.speed = append(t.speed, float64(total)/time.Since(start).Seconds())
	t.cost = append(t.cost, float64(processorTime(b)-before)/float64(total))
}

// trace starts another tracer, and returns what ends it.
func trace(b *testing.B, command []string) (stop func()) {
	var said bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return func() {
		select {
		case err := <-done:
			b.Fatalf("%s has ended by itself: %v\n%s", command[0], err, said.String())
		default:
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			b.Error(err)
		}
		<-done
	}
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
