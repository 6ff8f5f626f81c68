package ebpf_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// part is what one of several APIs sent on a socket.
type part struct {
	bytes  uint64
	copied bool
	causes []string // each of all of it
	lost   bool     // it never came to a device
}

// checkMixed compares the flows of a socket with what each API sent.
func checkMixed(t *testing.T, tracer *ebpf.Tracer, inode uint64, want map[string]part) {
	t.Helper()
	flows, _ := flowsOf(t, tracer, inode)
	if len(flows) != len(want) {
		t.Errorf("%d flows, of %d ways: %+v", len(flows), len(want), flows)
	}
	for _, f := range flows {
		w := want[f.API]
		copied := map[bool]uint64{true: w.bytes}[w.copied]
		lost := map[bool]uint64{true: w.bytes}[w.lost]
		if f.Bytes != w.bytes || f.CopiedBytes != copied || f.UnknownBytes != lost {
			t.Errorf("%s: %d bytes, %d copied, %d unknown; want %d, %d: %+v", f.API, f.Bytes, f.CopiedBytes, f.UnknownBytes, w.bytes, copied, f)
		}
		causes := causesOf(t, f)
		for _, id := range w.causes {
			if causes[id] != w.bytes {
				t.Errorf("%s: %s of %d bytes, of %d", f.API, id, causes[id], w.bytes)
			}
		}
		if len(causes) != len(w.causes) {
			t.Errorf("%s: causes %v, not %v", f.API, causes, w.causes)
		}
	}
	if t.Failed() {
		t.Log(tracer.Counts(inode))
	}
}

// TestDatagramInParts: what several calls put into one datagram is theirs,
// whichever call lets the kernel send it.
func TestDatagramInParts(t *testing.T) {
	if before(t, 6, 7) {
		t.Skip("needs sock_send_length")
	}
	sink, tracer := newSink(t), shared(t)
	cork := func(fd, on int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_CORK, on) }
	corked := func(send func(fd int) error) func(fd int) error {
		return func(fd int) error {
			if err := cork(fd, 1); err != nil {
				return err
			}
			if err := send(fd); err != nil {
				return err
			}
			return cork(fd, 0)
		}
	}
	header := part{bytes: 100, copied: true, causes: []string{"api-copy", "checksum-pass"}}
	for _, c := range []struct {
		name string
		send func(fd int) error
		want map[string]part
	}{
		{"vmsplice", corked(func(fd int) error { return sendVmsplice(fd, payload(600), 100) }),
			map[string]part{"vmsplice": {bytes: 600, causes: []string{"udp-splice-csum"}}}},
		{"sendfile", corked(func(fd int) error { return sendSendfile(fd, payload(1200), 100) }),
			map[string]part{"sendfile": {bytes: 1200, causes: []string{"udp-splice-csum"}}}},
		{"write", corked(func(fd int) error { return sendWrite(fd, payload(600), 100) }),
			map[string]part{"write": {bytes: 600, copied: true, causes: []string{"api-copy", "checksum-pass"}}}},
		{"msg_zerocopy", corked(func(fd int) error { return sendZeroCopy(fd, payload(1200), 400) }),
			map[string]part{"msg_zerocopy": {bytes: 1200, copied: true, causes: []string{"udp-corked", "checksum-pass"}}}},
		{"write and sendfile", func(fd int) error {
			if err := unix.Send(fd, payload(100), unix.MSG_MORE); err != nil {
				return err
			}
			return sendSendfile(fd, payload(1000), 1000)
		}, map[string]part{"write": header, "sendfile": {bytes: 1000, causes: []string{"udp-splice-csum"}}}},
		{"write and io_uring", func(fd int) error {
			if err := unix.Send(fd, payload(100), unix.MSG_MORE); err != nil {
				return err
			}
			return wayOf("io_uring_send_zc").send(fd, payload(1000), 1000)
		}, map[string]part{"write": header, "io_uring_send_zc": {bytes: 1000, copied: true, causes: []string{"udp-corked", "checksum-pass"}}}},
		{"abandoned", func(fd int) error { // what never came to a device takes no part in what comes after
			if err := unix.Send(fd, payload(100), unix.MSG_MORE); err != nil {
				return err
			}
			if _, err := unix.Write(fd, payload(65500)); err != unix.EMSGSIZE {
				return fmt.Errorf("a datagram that is too long: %v", err)
			}
			return sendSendfile(fd, payload(1000), 1000)
		}, map[string]part{"write": {bytes: 100, lost: true}, "sendfile": {bytes: 1000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, sink, "udp4")
			control(t, conn, c.send)
			time.Sleep(20 * time.Millisecond)
			checkMixed(t, tracer, inodeOf(t, conn), c.want)
		})
	}
}

// TestNamespaceNumbers: the number of a namespace is soon another's, and what was
// sent in the first one went to its device, not to the other's.
func TestNamespaceNumbers(t *testing.T) {
	tracer := open(t, ebpf.Options{})
	sent := map[uint64]string{} // by inode of the socket: device
	var numbers []uint64
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			ns := testenv.NewNetNS(t)
			var st unix.Stat_t
			if err := unix.Stat(ns.Path(), &st); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, st.Ino)
			name := fmt.Sprintf("loop%d", i)
			ns.Run("ip", "link", "set", "lo", "down")
			ns.Run("ip", "link", "set", "lo", "name", name)
			ns.Run("ip", "link", "set", name, "up")
			ns.Do(func() {
				l, err := net.Listen("tcp4", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				c, err := net.Dial("tcp4", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Write(payload(1000)); err != nil {
					t.Fatal(err)
				}
				sent[inodeOf(t, c)] = name
			})
		})
		time.Sleep(50 * time.Millisecond) // the kernel takes the namespace down meanwhile
	}
	t.Logf("numbers %v", numbers)
	_, s := flowsOf(t, tracer, 0)
	for _, f := range s.Flows {
		if want, ok := sent[f.Inode]; ok && f.Device != want {
			t.Errorf("went to %s, not to %s", want, f.Device)
		}
		delete(sent, f.Inode)
	}
	if len(sent) > 0 {
		t.Errorf("no flow of %v", sent)
	}
}
