package ebpf_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// needSends skips where the beginnings of send calls are not seen.
func needSends(t *testing.T) {
	t.Helper()
	if before(t, 6, 16) {
		t.Skip("needs tcp_sendmsg_locked")
	}
}

// TestPipeOfTwo splices from a pipe that holds pages of a file and pages that were
// written into it: the latter were copied, whichever come first.
func TestPipeOfTwo(t *testing.T) {
	needSends(t)
	sink, tracer := newSink(t), shared(t)
	const half = 20_000 // of a pipe of sixteen pages
	for _, writtenFirst := range []bool{false, true} {
		t.Run(map[bool]string{false: "file first", true: "written first"}[writtenFirst], func(t *testing.T) {
			f, err := memfd(payload(half))
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, sink, "tcp4")
			control(t, c, func(fd int) error {
				var pipe [2]int
				if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
					return err
				}
				defer unix.Close(pipe[0])
				defer unix.Close(pipe[1])
				write := func() error { _, err := unix.Write(pipe[1], payload(half)); return err }
				if writtenFirst {
					if err := write(); err != nil {
						return err
					}
				}
				var start int64
				if _, err := unix.Splice(int(f.Fd()), &start, pipe[1], nil, half, 0); err != nil {
					return err
				}
				if !writtenFirst {
					if err := write(); err != nil {
						return err
					}
				}
				f.Close() // its pages belong to no file then
				return empty(pipe[0], fd, 2*half)
			})
			sent(t, c)
			flows, _ := flowsOf(t, tracer, inodeOf(t, c))
			if len(flows) != 1 || flows[0].Bytes != 2*half || flows[0].CopiedBytes != half || flows[0].UnknownBytes != 0 {
				t.Errorf("%+v\n%s", flows, tracer.Counts(inodeOf(t, c)))
			}
		})
	}
}

// TestOnePacketOfSeveral: what several calls put into one packet is copied with what is
// lent of it, and belongs to each of them.
func TestOnePacketOfSeveral(t *testing.T) {
	needSends(t)
	ns, tracer := testenv.NewNetNS(t), shared(t)
	c, got := pair(t, ns, "tcp4")
	inode := inodeOf(t, c)
	const rounds, lent, line = 10, 16_000, 10
	control(t, c, func(fd int) error {
		for range rounds {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 1); err != nil {
				return err
			}
			if err := sendZeroCopy(fd, payload(lent), lent); err != nil {
				return err
			}
			if err := sendWrite(fd, payload(line), line); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 0); err != nil {
				return err
			}
		}
		return nil
	})
	sent(t, c)
	c.Close()
	if n := <-got; n != rounds*(lent+line) {
		t.Errorf("%d bytes arrived", n)
	}
	checkMixed(t, tracer, inode, map[string]part{
		"msg_zerocopy": {bytes: rounds * lent, copied: true, causes: []string{"loopback-delivery"}},
		"write":        {bytes: rounds * line, copied: true, causes: []string{"api-copy"}},
	})
}

// TestDatagramsInQueue: datagrams that wait before their device are what they were when
// they were queued, whatever was queued since.
func TestDatagramsInQueue(t *testing.T) {
	if before(t, 6, 7) {
		t.Skip("needs sock_send_length")
	}
	w := newWire(t, false)
	w.a.Run("tc", "qdisc", "add", "dev", "va", "root", "tbf", "rate", "1mbit", "burst", "2kb", "latency", "4000ms")
	var server net.PacketConn
	var c net.Conn
	var err error
	w.b.Do(func() { server, err = net.ListenPacket("udp4", "10.1.0.2:0") })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w.a.Do(func() { c, err = net.Dial("udp4", server.LocalAddr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tracer := shared(t)
	const size, sends = 1000, 8
	for _, api := range []string{"write", "msg_zerocopy", "sendfile"} {
		control(t, c, func(fd int) error { return wayOf(api).send(fd, payload(size*sends), size) })
	}
	if err := server.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2*size)
	for range 3 * sends {
		if _, _, err := server.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
	}
	flows, _ := flowsOf(t, tracer, inodeOf(t, c))
	if len(flows) != 3 {
		t.Errorf("%d flows", len(flows))
	}
	for _, f := range flows {
		wrong := f.ZeroCopiedBytes
		if f.API == "sendfile" {
			wrong = f.CopiedBytes
		}
		// A hook that is met on top of itself is skipped: what it would have seen is unknown.
		if f.Bytes != size*sends || wrong > 0 || f.UnknownBytes > 2*size {
			t.Errorf("%+v\n%s", f, tracer.Counts(inodeOf(t, c)))
		}
	}
}

// TestFastOpen: what a SYN takes along is of the call that opens the connection, and so
// is the reason why that call copies.
func TestFastOpen(t *testing.T) {
	needSends(t)
	ns, tracer := testenv.NewNetNS(t), shared(t)
	ns.SetSysctl("net.ipv4.tcp_fastopen", "3")
	var l int
	var to unix.SockaddrInet4
	var err error
	ns.Do(func() {
		if l, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		if err = unix.SetsockoptInt(l, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16); err != nil {
			return
		}
		if err = unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return
		}
		if err = unix.Listen(l, 16); err != nil {
			return
		}
		var name unix.Sockaddr
		if name, err = unix.Getsockname(l); err == nil {
			to = *name.(*unix.SockaddrInet4)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	go func() {
		for {
			fd, _, err := unix.Accept(l)
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(fd), "accepted")
			go func() { io.Copy(io.Discard, f); f.Close() }()
		}
	}()
	defer unix.Shutdown(l, unix.SHUT_RDWR)
	const first = 3000
	for i, flags := range []int{0, 0, unix.MSG_ZEROCOPY} { // the first one gets the cookie
		var fd int
		ns.Do(func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
		if err != nil {
			t.Fatal(err)
		}
		c := os.NewFile(uintptr(fd), "opened")
		defer c.Close()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, payload(first), unix.MSG_FASTOPEN|flags, &to); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		want := map[string]part{"write": {bytes: first, copied: true, causes: []string{"api-copy"}}}
		if flags != 0 {
			want = map[string]part{"msg_zerocopy": {bytes: first, copied: true, causes: []string{"fastopen-or-unconnected"}}}
		}
		time.Sleep(20 * time.Millisecond)
		t.Logf("connection %d", i)
		checkMixed(t, tracer, st.Ino, want)
	}
}

// TestMultipath: a socket of MPTCP copies whatever it is given.
func TestMultipath(t *testing.T) {
	if before(t, 6, 7) {
		t.Skip("needs sock_send_length")
	}
	ns, tracer := testenv.NewNetNS(t), shared(t)
	var fd int
	var err error
	var l net.Listener
	ns.Do(func() {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP); err != nil {
			return
		}
		var config net.ListenConfig
		config.SetMultipathTCP(true)
		l, err = config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	})
	if err != nil {
		t.Skip("needs MPTCP: ", err)
	}
	defer l.Close()
	c := os.NewFile(uintptr(fd), "multipath")
	defer c.Close()
	go func() {
		peer, err := l.Accept()
		if err != nil {
			return
		}
		defer peer.Close()
		io.Copy(io.Discard, peer)
	}()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		t.Fatal(err)
	}
	if err := sendWrite(fd, payload(10_000), 10_000); err != nil {
		t.Fatal(err)
	}
	if err := sendSendfile(fd, payload(50_000), 50_000); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	checkMixed(t, tracer, st.Ino, map[string]part{
		"write":    {bytes: 10_000, copied: true, causes: []string{"api-copy"}},
		"sendfile": {bytes: 50_000, copied: true, causes: []string{"mptcp"}},
	})
}

// TestRaw: the protocol of a raw socket is what it carries. It is none of TCP or UDP.
func TestRaw(t *testing.T) {
	ns := testenv.NewNetNS(t)
	tracer := open(t, ebpf.Options{})
	ns.Do(func() {
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
			if err != nil {
				t.Error(err)
				return
			}
			if err := unix.Sendto(fd, make([]byte, 100), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Error(err)
			}
			if err := unix.Close(fd); err != nil {
				t.Error(err)
			}
		}
	})
	s, err := tracer.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Flows) > 0 {
		t.Errorf("%+v", s.Flows)
	}
}
