package transmit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/transmit"
)

// BenchmarkConnFile copies a file by io.Copy and by io.CopyN to a Conn, and to the
// *net.TCPConn itself, over loopback. The peer reads between the copies where they fit
// into the buffers, so that only the copies are measured.
func BenchmarkConnFile(b *testing.B) {
	for _, size := range []int64{1 << 10, 16 << 10, 64 << 10, 1 << 20} {
		for _, how := range []string{"Copy", "CopyN"} {
			c := newConnBench(b, size, how == "CopyN")
			compare(b, fmt.Sprintf("%s/%dKiB", how, size>>10), shortRounds, c.way(c.wrapped), c.way(c.plain))
		}
	}
}

type connBench struct {
	plain, peer *net.TCPConn
	wrapped     *transmit.Conn
	file        *os.File
	size        int64
	batch       int
	exact       bool
	buf         []byte
	drained     bool // by a goroutine
}

func newConnBench(b *testing.B, size int64, exact bool) *connBench {
	c := &connBench{size: size, exact: exact, batch: int(max(1, 128<<10/size)), buf: make([]byte, 256<<10)}
	c.plain, c.peer = benchTCP(b)
	var err error
	if c.wrapped, err = transmit.Wrap(c.plain, transmit.ConnOptions{}); err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(benchShm(b), "f")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	if c.file, err = os.Open(name); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.file.Close() })
	if c.drained = size > 256<<10; c.drained {
		go func() { _, _ = io.Copy(io.Discard, c.peer) }()
	}
	return c
}

func (c *connBench) way(to io.Writer) benchpair.Way {
	return func(context.Context) (benchpair.Sample, error) {
		s, err := benchpair.Measure(benchpair.Thread, func() (sent int64, err error) {
			for range c.batch {
				if _, err := c.file.Seek(0, io.SeekStart); err != nil {
					return sent, err
				}
				var n int64
				if c.exact {
					n, err = io.CopyN(to, c.file, c.size)
				} else {
					n, err = io.Copy(to, c.file)
				}
				if sent += n; err != nil {
					return sent, err
				}
			}
			return sent, nil
		})
		for left := s.Bytes; left > 0 && err == nil && !c.drained; {
			var n int
			n, err = c.peer.Read(c.buf[:min(left, int64(len(c.buf)))])
			left -= int64(n)
		}
		return s, err
	}
}
