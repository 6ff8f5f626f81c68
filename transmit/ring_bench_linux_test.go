package transmit_test

import (
	"context"
	"net"
	"testing"

	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/transmit"
)

// BenchmarkRingBatch sends 4 KiB on each of 100 connections to the sink: by a batch,
// and by a call for each.
func BenchmarkRingBatch(b *testing.B) {
	const conns, size = 100, 4 << 10
	sink, err := lab.NewSink(lab.Options{AckCPUs: []int{1}})
	if err != nil {
		b.Skip(err)
	}
	defer sink.Close()
	for _, c := range []struct {
		name  string
		o     transmit.Options
		ring  bool
		batch bool
	}{
		{name: "conn.Write"},
		{name: "write", o: transmit.Options{Backend: transmit.Write}},
		{name: "io_uring_send", o: transmit.Options{Backend: transmit.IoUringSend}, ring: true},
		{name: "io_uring_send/batch", o: transmit.Options{Backend: transmit.IoUringSend}, ring: true, batch: true},
		{name: "io_uring_send_zc", o: transmit.Options{Backend: transmit.IoUringSendZC}, ring: true},
		{name: "io_uring_send_zc/batch", o: transmit.Options{Backend: transmit.IoUringSendZC}, ring: true, batch: true},
		{name: "msg_zerocopy", o: transmit.Options{Backend: transmit.MsgZerocopy}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var ring *transmit.Ring
			var batch *transmit.Batch
			if c.ring {
				ring = newRing(b, transmit.RingOptions{})
				c.o.Ring = ring
				batch = ring.NewBatch()
			}
			var tcp [conns]net.Conn
			var senders [conns]*transmit.Sender
			for i := range tcp {
				if tcp[i], err = sink.Dial(b.Context(), "tcp4"); err != nil {
					b.Fatal(err)
				}
				defer tcp[i].Close()
				c.o.OnDowngrade = func(*transmit.Downgrade) {}
				if senders[i], err = transmit.NewSender(tcp[i].(*net.TCPConn), c.o); err != nil {
					b.Fatal(err)
				}
			}
			pool, err := transmit.NewPool(transmit.PoolOptions{BufferBytes: size})
			if err != nil {
				b.Fatal(err)
			}
			buffer, err := pool.Get(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			p := buffer.Bytes()
			ctx := context.Background()
			b.ReportAllocs()
			b.SetBytes(conns * size)
			for b.Loop() {
				for i, s := range senders {
					var err error
					switch {
					case c.batch:
						batch.SendBuffer(s, buffer)
					case c.name == "conn.Write":
						_, err = tcp[i].Write(p)
					default:
						_, err = s.SendBuffer(ctx, buffer)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				if c.batch {
					if err := batch.Flush(ctx); err != nil {
						b.Fatal(err)
					}
				}
			}
			var lent, bytes int64
			for _, s := range senders {
				st := s.Stats()
				lent, bytes = lent+st.Bytes-st.PlainBytes, bytes+st.Bytes
			}
			b.ReportMetric(float64(lent)/float64(max(bytes, 1)), "lent")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/conns, "ns/send")
			for _, s := range senders {
				if _, err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			buffer.Release()
			if err := pool.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
