package ebpf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/benchpair"
)

// load is what the benchmarks of tracing send: bulk, and small writes.
type load struct {
	api  string
	size int
	lo   bool // over lo to a reader, else to a sink
}

var loads = []load{
	{"write", 64 << 10, true}, {"sendfile", 64 << 10, true},
	{"write", 64 << 10, false}, {"msg_zerocopy", 256 << 10, false}, {"sendfile", 64 << 10, false}, {"write", 1 << 10, false},
}

func (l load) String() string {
	path := "sink"
	if l.lo {
		path = "lo"
	}
	return fmt.Sprintf("%s/%s/%d", path, l.api, l.size)
}

// sender connects, and returns what sends for a while, and tells how many bytes.
func (l load) sender(b *testing.B) func(time.Duration) int64 {
	var conn net.Conn
	if l.lo {
		conn = loopback(b)
	} else {
		conn = dial(b, newSink(b), "tcp4")
	}
	data := payload(max(64*l.size, 1<<20))
	return func(d time.Duration) (total int64) {
		for start := time.Now(); time.Since(start) < d; total += int64(len(data)) {
			control(b, conn, func(fd int) error { return wayOf(l.api).send(fd, data, l.size) })
		}
		return total
	}
}

// BenchmarkOverhead is what tracing costs the sender. In turns it sends without a
// tracer, with one, with one that is exact, and with other programs that trace, as
// far as they are installed, so that what else the machine does is the same for
// all. Told are medians, as parts of the untraced throughput and as multiples of the
// untraced processor time, with intervals. That time is of this process, which ours
// runs in, and others do not. It takes -benchtime 10x, or more turns, to tell much.
func BenchmarkOverhead(b *testing.B) {
	for _, l := range loads {
		b.Run(l.String(), func(b *testing.B) {
			send := l.sender(b)
			turns := []*turn{{name: "none"}, {name: "default"}, {name: "exact"}}
			for _, o := range others(b) {
				turns = append(turns, &turn{name: o[0], command: o})
			}
			var ways []benchpair.Way
			for _, t := range turns {
				ways = append(ways, func(context.Context) (benchpair.Sample, error) { return t.take(b, send) })
			}
			samples, err := benchpair.Rounds(b.Context(), b.N, ways...)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(benchpair.Throughput(samples[0]).Median/1e9, "GB/s")
			for i, t := range turns[1:] {
				c := benchpair.Compare(samples[i+1], samples[0])
				b.ReportMetric(c.Throughput.Median, t.name+"-throughput")
				b.ReportMetric(c.CPUPerByte.Median, t.name+"-cpu")
				b.Logf("%d turns, %s: throughput %v, processor time for a byte %v", b.N, t.name, c.Throughput, c.CPUPerByte)
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
		{"bpftrace", "-e", `tracepoint:raw_syscalls:sys_exit /pid == ` + pid + ` && args->ret > 0/ { @accepted[args->id] = sum(args->ret); }
			tracepoint:net:net_dev_queue { @queued[pid] = sum(args->len); }
			tracepoint:net:net_dev_start_xmit { @door[pid] = sum(args->len); }`},
	} {
		if _, err := exec.LookPath(c[0]); err != nil {
			b.Logf("without %s: %v", c[0], err)
			continue
		}
		commands = append(commands, c)
	}
	return commands
}

// turn is one way to trace.
type turn struct {
	name    string
	command []string // of another tracer
}

// take sends for a while. The first part of it is not measured: a tracer looks
// at everything until it knows that this is too much.
func (t *turn) take(b *testing.B, send func(time.Duration) int64) (benchpair.Sample, error) {
	settle := 200 * time.Millisecond
	switch {
	case t.command != nil:
		settle = 2 * time.Second // not all of them say when they have begun
		defer trace(b, t.command)()
	case t.name != "none":
		tracer, err := ebpf.Open(b.Context(), ebpf.Options{Processes: []int{os.Getpid()}, Exact: t.name == "exact", Tier: ebpf.TierTracepoint})
		if err != nil {
			return benchpair.Sample{}, err
		}
		defer tracer.Close()
	}
	send(settle)
	return benchpair.Measure(benchpair.Process, func() (int64, error) { return send(800 * time.Millisecond), nil })
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
		// bpftrace misses a signal that comes while it does not wait for events.
		for range 100 {
			if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
				b.Error(err)
			}
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
		b.Errorf("%s does not end: %v", command[0], cmd.Process.Kill())
		<-done
	}
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
