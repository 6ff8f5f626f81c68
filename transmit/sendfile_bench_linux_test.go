package transmit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/transmit"
)

// BenchmarkSendFile sends parts of a cached file on a path without a copy, each
// backend beside Go's own io.Copy.
func BenchmarkSendFile(b *testing.B) {
	sink, err := lab.NewSink(lab.Options{AckCPUs: []int{1}})
	if err != nil {
		b.Skip(err)
	}
	defer sink.Close()
	name := filepath.Join(b.TempDir(), "file")
	const whole = 256 << 20
	if err := os.WriteFile(name, make([]byte, whole), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	kept := transmit.NewMappings(transmit.MappingsOptions{})
	defer kept.Close()
	for _, size := range []int64{4 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("io.Copy/%d", size), func(b *testing.B) {
			c := sinkConn(b, sink)
			b.SetBytes(size)
			b.ReportAllocs()
			off := int64(0)
			defer threadCost(b, size)()
			for b.Loop() {
				if _, err := f.Seek(off, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyN(c, f, size); err != nil {
					b.Fatal(err)
				}
				off = (off + size) % whole
			}
		})
		for _, way := range []transmit.Backend{"", transmit.Sendfile, transmit.Splice, transmit.MmapZerocopy, transmit.MmapWrite, transmit.ReadWrite} {
			b.Run(fmt.Sprintf("%s/%d", way, size), func(b *testing.B) {
				c := sinkConn(b, sink)
				s, err := transmit.NewSender(c, transmit.Options{Backend: way})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(size)
				b.ReportAllocs()
				off := int64(0)
				report := threadCost(b, size)
				for b.Loop() {
					if _, err := s.SendFile(context.Background(), f, off, size, transmit.FileOptions{Mappings: kept}); err != nil {
						b.Fatal(err)
					}
					off = (off + size) % whole
				}
				report()
				st := s.Stats()
				b.ReportMetric(float64(st.ZerocopySends)/float64(b.N), "zc/op")
				if _, err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// threadCost measures what the CPU does for the calls of this thread, which other work
// on the machine disturbs less than the rate.
func threadCost(b *testing.B, size int64) (report func()) {
	runtime.LockOSThread()
	cpu := func() float64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano() + u.Stime.Nano())
	}
	from := cpu()
	return func() {
		b.ReportMetric((cpu()-from)/float64(b.N)/float64(size)*1024, "cpu-ns/KiB")
		runtime.UnlockOSThread()
	}
}

func sinkConn(b *testing.B, sink *lab.Sink) *net.TCPConn {
	b.Helper()
	c, err := sink.Dial(b.Context(), "tcp4")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}
