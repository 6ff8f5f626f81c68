package lab

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDatagrams(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			s := newSink(t, Options{})
			c := dial(t, s, network).(*net.UDPConn)
			headers := map[string]int{"udp4": 28, "udp6": 48}[network]
			var want Traffic
			for _, size := range []int{0, 1, 100, 1500 - headers} {
				for range 250 {
					if _, err := c.Write(make([]byte, size)); err != nil {
						t.Fatal(err)
					}
					want.Bytes += uint64(size)
					want.Packets++
					want.Segments++
				}
			}
			if f, err := s.Flow(c); err != nil || f.Traffic != want || stats(t, s).UDP != want {
				t.Fatalf("got %+v, %v, totals %+v, want %+v", f, err, stats(t, s), want)
			}
			// Datagrams that the device would cut, and one that IP does.
			const gso, segment = 56_000, 1400
			blocking(t, c, func(fd int) {
				if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, segment); err != nil {
					t.Fatal(err)
				}
			})
			if _, err := c.Write(make([]byte, gso)); err != nil {
				t.Fatal(err)
			}
			want.Bytes, want.Packets, want.Segments = want.Bytes+gso, want.Packets+1, want.Segments+gso/segment
			blocking(t, c, func(fd int) {
				if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 0); err != nil {
					t.Fatal(err)
				}
			})
			f, err := s.Flow(c)
			if f.Packets == want.Packets+gso/segment-1 {
				want.Packets = f.Packets // veth cannot take it as one, in Linux 5.10
			}
			if err != nil || f.Traffic != want {
				t.Fatalf("after GSO: got %+v, %v, want %+v", f, err, want)
			}
			if _, err := c.Write(make([]byte, 4000)); err != nil {
				t.Fatal(err)
			}
			got := stats(t, s)
			want.Bytes, want.Packets, want.Segments = want.Bytes+4000, want.Packets+3, want.Segments+1
			if got.UDP != want || got.Fragments != 2 {
				t.Errorf("after fragments: got %+v, want %+v", got, want)
			}
		})
	}
}

func TestZeroCopyDatagrams(t *testing.T) {
	s := newSink(t, Options{})
	for _, network := range []string{"udp4", "udp6"} {
		c := dial(t, s, network)
		if got := zeroCopySends(t, c, make([]byte, 1400), 500); got.copied != 0 || got.done != 500 {
			t.Errorf("%s: %+v", network, got)
		}
	}
}
