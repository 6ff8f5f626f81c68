package ebpf_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/lab"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// pair makes a TCP connection over lo of a namespace of its own. What it is sent
// is read and counted.
func pair(t testing.TB, ns *testenv.NetNS, network string) (c net.Conn, got chan int64) {
	t.Helper()
	var l net.Listener
	var err error
	ns.Do(func() {
		if l, err = net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network]); err != nil {
			return
		}
		c, err = net.Dial(network, l.Addr().String())
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	got = make(chan int64, 1)
	go func() {
		defer l.Close()
		peer, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer peer.Close()
		n, _ := io.Copy(io.Discard, peer)
		got <- n
	}()
	return c, got
}

// TestLoopback: what is lent with a notice is copied on delivery; pages that
// nobody waits for are not.
func TestLoopback(t *testing.T) {
	ns := testenv.NewNetNS(t)
	tracer := shared(t)
	for _, network := range []string{"tcp4", "tcp6"} {
		for _, w := range ways {
			t.Run(network+"/"+w.name, func(t *testing.T) {
				const total = 1 << 20
				skipRing(t, w.name)
				c, got := pair(t, ns, network)
				inode := inodeOf(t, c)
				control(t, c, func(fd int) error { return w.send(fd, payload(total), 64<<10) })
				sent(t, c)
				c.Close()
				if n := <-got; n != total {
					t.Errorf("%d bytes arrived", n)
				}
				want := truth{}
				switch w.name {
				case "write", "writev", "io_uring_send":
					want = truth{copied: true, causes: []string{"api-copy"}}
				case "msg_zerocopy", "io_uring_send_zc":
					want = truth{copied: true, causes: []string{"loopback-delivery"}}
				}
				want.check(t, tracer, inode, w.name, total)
			})
		}
	}
}

// TestSources sends what splice cannot take from the page cache.
func TestSources(t *testing.T) {
	sink := newSink(t)
	tracer := shared(t)
	const total = 256 << 10
	disk := func(t *testing.T) *os.File {
		name := t.TempDir() + "/file"
		if err := os.WriteFile(name, payload(total), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	zero := func(t *testing.T) *os.File {
		f, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, c := range []struct {
		name   string
		open   func(t *testing.T) *os.File
		splice bool
		want   truth
	}{
		{"disk", disk, false, truth{}},
		{"disk", disk, true, truth{}},
		{"zero", zero, false, truth{copied: true, causes: []string{"copy-splice-read"}}},
		{"zero", zero, true, truth{copied: true, causes: []string{"copy-splice-read"}}},
	} {
		api := map[bool]string{false: "sendfile", true: "splice"}[c.splice]
		t.Run(c.name+"/"+api, func(t *testing.T) {
			if c.name == "zero" && before(t, 6, 5) {
				t.Skip("needs splice from /dev/zero")
			}
			f := c.open(t)
			defer f.Close()
			conn := dial(t, sink, "tcp4")
			control(t, conn, func(fd int) error {
				if c.splice {
					return spliceFrom(fd, f, total, 64<<10)
				}
				return sendfileFrom(fd, f, total, 64<<10)
			})
			sent(t, conn)
			c.want.check(t, tracer, inodeOf(t, conn), api, total)
		})
	}
	t.Run("written pipe", func(t *testing.T) {
		conn := dial(t, sink, "tcp4")
		control(t, conn, func(fd int) error {
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
				return err
			}
			defer unix.Close(pipe[0])
			defer unix.Close(pipe[1])
			return each(payload(total), 32<<10, func(p []byte) (int, error) {
				n, err := unix.Write(pipe[1], p)
				if err != nil {
					return n, err
				}
				return n, empty(pipe[0], fd, n)
			})
		})
		sent(t, conn)
		truth{copied: true, causes: []string{"api-copy"}}.check(t, tracer, inodeOf(t, conn), "splice", total)
	})
	t.Run("no SO_ZEROCOPY", func(t *testing.T) {
		conn := dial(t, sink, "tcp4")
		control(t, conn, func(fd int) error { return sendFlagged(fd, payload(total), 64<<10) })
		sent(t, conn)
		truth{copied: true, causes: []string{"no-so-zerocopy"}}.check(t, tracer, inodeOf(t, conn), "msg_zerocopy", total)
	})
	t.Run("untouched memory", func(t *testing.T) {
		memory, err := unix.Mmap(-1, 0, total, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(memory)
		conn := dial(t, sink, "tcp4")
		control(t, conn, func(fd int) error { return sendZeroCopy(fd, memory, 64<<10) })
		sent(t, conn)
		truth{}.check(t, tracer, inodeOf(t, conn), "msg_zerocopy", total)
	})
}

// TestMixed sends headers and bodies on one connection.
func TestMixed(t *testing.T) {
	sink := newSink(t)
	tracer := shared(t)
	f, err := memfd(payload(64 << 10))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	conn := dial(t, sink, "tcp4")
	const rounds, header, body, lent = 50, 300, 64 << 10, 20 << 10
	control(t, conn, func(fd int) error {
		for range rounds {
			if err := sendWrite(fd, payload(header), header); err != nil {
				return err
			}
			if err := sendfileFrom(fd, f, body, body); err != nil {
				return err
			}
			if err := sendZeroCopy(fd, payload(lent), lent); err != nil {
				return err
			}
		}
		return nil
	})
	sent(t, conn)
	flows, _ := flowsOf(t, tracer, inodeOf(t, conn))
	got := map[string][3]uint64{}
	for _, f := range flows {
		got[f.API] = [3]uint64{f.Bytes, f.ZeroCopiedBytes, f.CopiedBytes}
	}
	want := map[string][3]uint64{
		"write":        {rounds * header, 0, rounds * header},
		"sendfile":     {rounds * body, rounds * body, 0},
		"msg_zerocopy": {rounds * lent, rounds * lent, 0},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v\n%s", got, want, tracer.Counts(inodeOf(t, conn)))
	}
}

func newSink(t testing.TB) *lab.Sink {
	t.Helper()
	testenv.Root(t)
	sink, err := lab.NewSink(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	return sink
}

func dial(t testing.TB, sink *lab.Sink, network string) net.Conn {
	t.Helper()
	c, err := sink.Dial(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestDatagrams sends datagrams to the sink and over lo.
func TestDatagrams(t *testing.T) {
	const sends = 100
	for _, c := range []struct {
		name, api string
		size      int
		segment   int
		off       []string
		want      truth
	}{
		{name: "small", api: "write", size: 1200, want: truth{copied: true, causes: []string{"api-copy"}}},
		{name: "small", api: "msg_zerocopy", size: 1200},
		{name: "small", api: "io_uring_send", size: 1200, want: truth{copied: true, causes: []string{"api-copy"}}},
		{name: "small", api: "io_uring_send_zc", size: 1200},
		{name: "small", api: "sendfile", size: 1200},
		{name: "large", api: "write", size: 8000, want: truth{copied: true, causes: []string{"api-copy", "checksum-pass"}}},
		{name: "large", api: "msg_zerocopy", size: 8000, want: truth{copied: true, causes: []string{"checksum-pass", "udp-over-mtu"}}},
		{name: "large", api: "io_uring_send_zc", size: 8000, want: truth{copied: true, causes: []string{"checksum-pass", "udp-over-mtu"}}},
		{name: "segmented", api: "msg_zerocopy", size: 42000, segment: 1400},
		{name: "segmented", api: "write", size: 42000, segment: 1400, want: truth{copied: true, causes: []string{"api-copy"}}},
		{name: "no sg", api: "msg_zerocopy", size: 1200, off: []string{"sg"}, want: truth{copied: true, causes: []string{"no-scatter-gather"}}},
		{name: "no checksum", api: "msg_zerocopy", size: 1200, off: []string{"tx"}, want: truth{copied: true, causes: []string{"checksum-pass", "no-tx-csum"}}},
		{name: "no checksum", api: "write", size: 1200, off: []string{"tx"}, want: truth{copied: true, causes: []string{"api-copy", "checksum-pass"}}},
		{name: "no sg", api: "sendfile", size: 1200, off: []string{"sg"}, want: truth{copied: true, causes: []string{"no-scatter-gather"}}},
	} {
		for _, network := range []string{"udp4", "udp6"} {
			t.Run(c.name+"/"+c.api+"/"+network, func(t *testing.T) {
				sink := newSink(t)
				for _, feature := range c.off {
					run(t, sink, testenv.Tool(t, "ethtool"), "-K", lab.Device, feature, "off")
				}
				tracer := open(t, ebpf.Options{})
				conn := dial(t, sink, network)
				control(t, conn, func(fd int) error {
					if c.segment > 0 {
						if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, c.segment); err != nil {
							return err
						}
					}
					return wayOf(c.api).send(fd, payload(c.size*sends), c.size)
				})
				time.Sleep(20 * time.Millisecond)
				want := c.want
				want.causes = slices.Clone(want.causes)
				want.check(t, tracer, inodeOf(t, conn), c.api, uint64(c.size*sends))
			})
		}
	}
}
