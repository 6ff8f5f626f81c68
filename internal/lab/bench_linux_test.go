package lab

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// These measure the sink more than the sender: one connection, one thread on
// the first CPU that does nothing but send, ACKs on the last. Hot sends one
// buffer again and again; cold goes through 256 MiB, more than caches hold.
//
//	go test -run '^$' -bench Sink -benchtime 2s ./internal/lab
//
// On a busy machine cpu-ns/KB, the time of the sending thread with the softirq
// work it does, is the figure to look at.

func BenchmarkSinkWrite(b *testing.B) {
	sinkBenchmark(b, func(b *testing.B, fd int, next func() []byte) {
		for b.Loop() {
			for left := next(); len(left) > 0; {
				n, err := unix.SendmsgN(fd, left, nil, nil, 0)
				if err != nil {
					b.Fatalf("send: %v", err)
				}
				left = left[n:]
			}
		}
	})
}

func BenchmarkSinkZeroCopy(b *testing.B) {
	sinkBenchmark(b, func(b *testing.B, fd int, next func() []byte) {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
			b.Fatal(err)
		}
		var got completions
		var sends uint32
		for b.Loop() {
			for left := next(); len(left) > 0; {
				n, err := unix.SendmsgN(fd, left, nil, nil, unix.MSG_ZEROCOPY)
				if errors.Is(err, unix.ENOBUFS) {
					got.wait(b, fd, got.done+1)
					continue
				}
				if err != nil {
					b.Fatalf("send: %v", err)
				}
				sends++
				left = left[n:]
			}
			got.read(b, fd)
		}
		got.wait(b, fd, sends)
		if got.copied > 0 {
			b.Errorf("%d of %d sends were copied", got.copied, got.done)
		}
	})
}

// sinkBenchmark runs send for each size of buffer. It is given a blocking socket
// and what returns the buffer to send next.
func sinkBenchmark(b *testing.B, send func(b *testing.B, fd int, next func() []byte)) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
		for _, pool := range []struct {
			name string
			size int
		}{{"hot", size}, {"cold", 256 << 20}} {
			b.Run(fmt.Sprintf("%dK/%s", size>>10, pool.name), func(b *testing.B) {
				memory := make([]byte, pool.size)
				for i := range memory {
					memory[i] = 0x5a
				}
				at := 0
				oneSender(b, size, func(fd int) {
					send(b, fd, func() []byte {
						if at+size > len(memory) {
							at = 0
						}
						at += size
						return memory[at-size : at]
					})
				})
			})
		}
	}
}

func oneSender(b *testing.B, size int, send func(fd int)) {
	last := runtime.NumCPU() - 1
	s := newSink(b, Options{AckCPUs: []int{last}})
	c := dial(b, s, "tcp4")
	runtime.LockOSThread() // and not unlocked: the thread keeps to its CPU, and ends
	if err := sys.SetThreadCPUs(0); err != nil {
		b.Fatal(err)
	}
	blocking(b, c, func(fd int) {
		// The congestion control of the machine may pace.
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(size))
		before := threadTime(b)
		send(fd)
		b.ReportMetric(float64(threadTime(b)-before)/(float64(size)*float64(b.N)/1000), "cpu-ns/KB")
	})
	want := uint64(size) * uint64(b.N)
	if f := eventually(b, s, c, "complete", func(f Flow) bool { return f.Bytes == want }); f.Duplicates != 0 {
		b.Logf("%d retransmissions", f.Duplicates)
	}
}

// threadTime is the CPU time of the calling thread, in nanoseconds.
func threadTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime)
}
