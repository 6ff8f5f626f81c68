package transmit_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/transmit"
	"net"
)

func BenchmarkSink(b *testing.B) {
	sink, err := lab.NewSink(lab.Options{AckCPUs: []int{1}})
	if err != nil {
		b.Skip(err)
	}
	defer sink.Close()
	for _, backend := range []transmit.Backend{"", transmit.Write, transmit.MsgZerocopy} {
		for _, size := range []int{4 << 10, 64 << 10, 256 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", backend, size), func(b *testing.B) {
				c, err := sink.Dial(b.Context(), "tcp4")
				if err != nil {
					b.Fatal(err)
				}
				s, err := transmit.NewSender(c.(*net.TCPConn), transmit.Options{Backend: backend})
				if err != nil {
					b.Fatal(err)
				}
				p := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Send(context.Background(), p); err != nil {
						b.Fatal(err)
					}
				}
				st := s.Stats()
				b.ReportMetric(float64(st.CopiedSends)/float64(max(st.ZerocopySends, 1)), "copied")
				b.ReportMetric(float64(st.ZerocopySends)/float64(b.N), "zc/op")
				if _, err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
