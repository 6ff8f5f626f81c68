package ebpf_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestDatagramsToHere: lent datagrams are copied on delivery.
func TestDatagramsToHere(t *testing.T) {
	ns := testenv.NewNetNS(t)
	tracer := shared(t)
	for _, api := range []string{"write", "msg_zerocopy", "io_uring_send_zc", "sendfile"} {
		t.Run(api, func(t *testing.T) {
			skipRing(t, api)
			var server net.PacketConn
			var c net.Conn
			var err error
			ns.Do(func() {
				if server, err = net.ListenPacket("udp4", "127.0.0.1:0"); err == nil {
					c, err = net.Dial("udp4", server.LocalAddr().String())
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() {
				b := make([]byte, 1<<16)
				for {
					if _, _, err := server.ReadFrom(b); err != nil {
						return
					}
				}
			}()
			const size, sends = 8000, 50
			control(t, c, func(fd int) error {
				return each(payload(size*sends), size, func(p []byte) (int, error) {
					defer time.Sleep(time.Millisecond)
					return len(p), wayOf(api).send(fd, p, size)
				})
			})
			time.Sleep(50 * time.Millisecond)
			server.Close()
			want := map[string]truth{
				"write":            {copied: true, causes: []string{"api-copy"}},
				"msg_zerocopy":     {copied: true, causes: []string{"loopback-delivery"}},
				"io_uring_send_zc": {copied: true, causes: []string{"loopback-delivery"}},
			}[api]
			if api == "sendfile" && before(t, 6, 5) && !before(t, 5, 11) { // begun as one that more is added to
				want = truth{copied: true, causes: []string{"checksum-pass", "udp-splice-copy"}}
			}
			if before(t, 5, 11) {
				switch api {
				case "msg_zerocopy": // a part of each is copied before, into its head
					checkParts(t, tracer, inodeOf(t, c), size*sends, "loopback-delivery", "udp-linear-head")
					return
				case "sendfile":
					want.causes = []string{"udp-splice-csum"}
				}
			}
			want.check(t, tracer, inodeOf(t, c), api, size*sends)
		})
	}
}

// TestProxy splices from one connection to another: what was received is sent on
// as it is, unless it lay in the packets' own memory.
func TestProxy(t *testing.T) {
	ns := testenv.NewNetNS(t)
	sink := newSink(t)
	var l net.Listener
	var in net.Conn
	var err error
	ns.Do(func() {
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err == nil {
			in, err = net.Dial("tcp4", l.Addr().String())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	from, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	const total = 1 << 20
	go func() { in.Write(payload(total)); in.Close() }()
	tracer := shared(t)
	out := dial(t, sink, "tcp4")
	control(t, from, func(source int) error {
		control(t, out, func(fd int) error {
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
				return err
			}
			defer unix.Close(pipe[0])
			defer unix.Close(pipe[1])
			return each(make([]byte, total), 32<<10, func(p []byte) (int, error) {
				n, err := unix.Splice(source, nil, pipe[1], nil, len(p), 0)
				if err == nil && n == 0 {
					err = io.ErrUnexpectedEOF
				}
				if err != nil {
					return 0, err
				}
				return int(n), empty(pipe[0], fd, int(n))
			})
		})
		return nil
	})
	sent(t, out)
	truth{}.check(t, tracer, inodeOf(t, out), "splice", total)
}

// TestMidStream opens the tracer while a connection is busy: what was sent
// before is not counted.
func TestMidStream(t *testing.T) {
	sink := newSink(t)
	if err := sink.Hold(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, sink, "tcp4")
	control(t, c, func(fd int) error {
		// Room for all that is not taken, or the last send waits for what comes after it.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20); err != nil {
			return err
		}
		return sendSendfile(fd, payload(200_000), 200_000)
	})
	tracer := open(t, ebpf.Options{})
	control(t, c, func(fd int) error { return sendZeroCopy(fd, payload(100_000), 100_000) })
	if err := sink.Release(); err != nil {
		t.Fatal(err)
	}
	sent(t, c)
	truth{}.check(t, tracer, inodeOf(t, c), "msg_zerocopy", 100_000)
}

// TestMapped lends the pages of a mapped file, a hole of it among them.
func TestMapped(t *testing.T) {
	sink := newSink(t)
	f, err := memfd(payload(100_000))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const total = 300_000
	if err := f.Truncate(total); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, total, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	tracer := open(t, ebpf.Options{})
	c := dial(t, sink, "tcp6")
	control(t, c, func(fd int) error { return sendZeroCopy(fd, memory, 64<<10) })
	sent(t, c)
	truth{}.check(t, tracer, inodeOf(t, c), "msg_zerocopy", total)
	hole, err := memfd(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	if err := hole.Truncate(total); err != nil {
		t.Fatal(err)
	}
	c = dial(t, sink, "tcp4")
	control(t, c, func(fd int) error { return sendfileFrom(fd, hole, total, total) })
	sent(t, c)
	truth{}.check(t, tracer, inodeOf(t, c), "sendfile", total)
}

// TestStrace compares with what strace sees a program send.
func TestStrace(t *testing.T) {
	strace := testenv.Tool(t, "strace")
	sink := newSink(t)
	c := dial(t, sink, "tcp4")
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := t.TempDir() + "/log"
	cmd := command(strace, "-f", "-q", "-o", log, "-e", "trace=write,sendfile", "-P", "socket:["+strconv.FormatUint(inodeOf(t, c), 10)+"]",
		"dd", "if=/dev/zero", "bs=7000", "count=40", "status=none")
	cmd.Stdout = f
	tracer := open(t, ebpf.Options{Processes: []int{os.Getpid()}})
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	sent(t, c)
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var written uint64
	for _, m := range regexp.MustCompile(`write\(1, .* = (\d+)`).FindAllSubmatch(raw, -1) {
		n, _ := strconv.ParseUint(string(m[1]), 10, 64)
		written += n
	}
	flows, _ := flowsOf(t, tracer, inodeOf(t, c))
	if len(flows) != 1 || flows[0].Bytes != written || written == 0 || flows[0].CopiedBytes != written || flows[0].Comm != "dd" {
		t.Errorf("strace saw %d bytes in %d calls: %+v", written, bytes.Count(raw, []byte("write(1")), flows)
	}
}
