package transmit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// A figure is made of so many pairs: the shorter each is the less the machine changes
// within it.
const (
	shortRounds = 400
	longRounds  = 20
)

// compare runs two ways in turns and reports how the first does against the second.
func compare(b *testing.B, name string, rounds int, ours, theirs benchpair.Way) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		for b.Loop() {
			if _, err := benchpair.Rounds(b.Context(), 2, ours, theirs); err != nil { // warm up
				b.Fatal(err)
			}
			s, err := benchpair.Rounds(b.Context(), rounds, ours, theirs)
			if err != nil {
				b.Fatal(err)
			}
			c := benchpair.Compare(s[0], s[1])
			b.ReportMetric(benchpair.Throughput(s[0]).Median/1e9, "GB/s")
			b.ReportMetric(c.Throughput.Median, "x-throughput")
			b.ReportMetric(c.Throughput.Low, "x-low")
			b.ReportMetric(c.Throughput.High, "x-high")
			b.ReportMetric(c.CPUPerByte.Median, "x-cpu")
			b.ReportMetric(c.CPUPerByte.High, "x-cpu-high")
		}
	})
}

// benchTCP returns the ends of a connection over loopback.
func benchTCP(b *testing.B) (near, far *net.TCPConn) {
	b.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if near, err = net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr)); err == nil {
		far, err = l.AcceptTCP()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// relayBench is a client, a proxy and a server in one process.
type relayBench struct {
	client io.WriteCloser
	src    io.Reader
	dst    *net.TCPConn
	server *net.TCPConn
	block  []byte
}

func newRelayBench(b *testing.B, src string) *relayBench {
	r := &relayBench{block: make([]byte, 256<<10)}
	r.dst, r.server = benchTCP(b)
	if src == "pipe" {
		from, to, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = from.Close(); _ = to.Close() })
		r.src, r.client = from, to
	} else {
		near, far := benchTCP(b)
		r.src, r.client = near, far
	}
	return r
}

// send writes n bytes of the client.
func (r *relayBench) send(n int64) error {
	for n > 0 {
		m, err := r.client.Write(r.block[:min(n, int64(len(r.block)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

func (r *relayBench) receive(n int64, p []byte) error {
	for n > 0 {
		m, err := r.server.Read(p[:min(n, int64(len(p)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// alone relays pieces of size bytes one after the other, which fit in the buffers of
// the connections, and does the client's and the server's work in the same thread.
func (r *relayBench) alone(size int64, relay func(n int64) error) benchpair.Way {
	return func(context.Context) (benchpair.Sample, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p := make([]byte, 256<<10)
		return benchpair.Measure(benchpair.Thread, func() (int64, error) {
			const count = 100
			for range count {
				if err := errors.Join(r.send(size), relay(size), r.receive(size, p)); err != nil {
					return 0, err
				}
			}
			return count * size, nil
		})
	}
}

// stream relays pieces of size bytes, total in all, of a client that sends without a
// break to a server that reads all it gets.
func (r *relayBench) stream(size, total int64, relay func(n int64) error) benchpair.Way {
	return func(context.Context) (benchpair.Sample, error) {
		return benchpair.Measure(benchpair.Process, func() (int64, error) {
			errs := make(chan error, 3)
			go func() { errs <- r.send(total) }()
			go func() { errs <- r.receive(total, make([]byte, 256<<10)) }()
			go func() {
				for n := int64(0); n < total; n += size {
					if err := relay(size); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
			return total, errors.Join(<-errs, <-errs, <-errs)
		})
	}
}

func (r *relayBench) ours(ctx context.Context) func(int64) error {
	return func(n int64) error {
		var err error
		switch src := r.src.(type) {
		case *net.TCPConn:
			_, err = transmit.Relay(ctx, r.dst, src, n, transmit.RelayOptions{})
		case *os.File:
			_, err = transmit.Relay(ctx, r.dst, src, n, transmit.RelayOptions{})
		}
		return err
	}
}

func (r *relayBench) ioCopy(n int64) error {
	_, err := io.CopyN(r.dst, r.src, n)
	return err
}

// BenchmarkRelay compares Relay with io.CopyN, which splices as well from TCP to
// TCP, and reads and writes from a pipe. The context can end, as that costs.
func BenchmarkRelay(b *testing.B) {
	for _, src := range []string{"tcp", "pipe"} {
		for _, size := range []int64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 64 << 20, 1 << 30} {
			r := newRelayBench(b, src)
			name := fmt.Sprintf("%s/%d", src, size)
			if size <= 64<<10 && !(src == "pipe" && size == 64<<10) {
				compare(b, name+"/alone", shortRounds, r.alone(size, r.ours(b.Context())), r.alone(size, r.ioCopy))
				continue
			}
			total := max(size, 64<<20)
			compare(b, name+"/stream", longRounds, r.stream(size, total, r.ours(b.Context())), r.stream(size, total, r.ioCopy))
		}
	}
}

// BenchmarkCopyFile compares CopyFile with io.Copy, from file to new file.
func BenchmarkCopyFile(b *testing.B) {
	dirs := map[string][2]string{"tmp": {b.TempDir(), b.TempDir()}, "shm": {benchShm(b), benchShm(b)}, "tmp-to-shm": {b.TempDir(), benchShm(b)}}
	for name, dir := range dirs {
		for _, size := range []int64{4 << 10, 64 << 10, 1 << 20, 64 << 20, 1 << 30} {
			src, err := os.Create(filepath.Join(dir[0], fmt.Sprint(size)))
			if err != nil {
				b.Fatal(err)
			}
			block := make([]byte, min(size, 1<<20))
			for i := range block {
				block[i] = byte(i*7 + i>>8)
			}
			for at := int64(0); at < size; at += int64(len(block)) {
				if _, err := src.WriteAt(block, at); err != nil {
					b.Fatal(err)
				}
			}
			// Into a file that is there, so that no allocation of blocks is timed.
			dst, err := os.Create(filepath.Join(dir[1], "copy"))
			if err != nil {
				b.Fatal(err)
			}
			way := func(copy func() (int64, error)) benchpair.Way {
				return func(context.Context) (benchpair.Sample, error) {
					return benchpair.Measure(benchpair.Process, func() (total int64, err error) {
						for range max(1, min(20, 16<<20/size)) {
							n, err := copy()
							if total += n; err != nil {
								return 0, err
							}
						}
						return total, nil
					})
				}
			}
			ours := way(func() (int64, error) {
				r, err := transmit.CopyFile(b.Context(), dst, src, 0, 0, -1, transmit.CopyOptions{OnDowngrade: func(*transmit.Downgrade) {}})
				return r.Bytes, err
			})
			theirs := way(func() (int64, error) {
				_, err := src.Seek(0, io.SeekStart)
				if err == nil {
					_, err = dst.Seek(0, io.SeekStart)
				}
				if err != nil {
					return 0, err
				}
				return io.Copy(dst, src)
			})
			compare(b, fmt.Sprintf("%s/%d", name, size), max(10, min(shortRounds, int(4<<30/size))), ours, theirs)
			_, _ = src.Close(), dst.Close()
			_, _ = os.Remove(src.Name()), os.Remove(dst.Name())
		}
	}
}

func benchShm(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "zcprobe-bench-")
	if err != nil {
		b.Skip("needs /dev/shm")
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
