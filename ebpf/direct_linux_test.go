package ebpf_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openDirect makes a file and opens it with O_DIRECT.
func openDirect(t *testing.T, dir string, size int) *os.File {
	t.Helper()
	name := filepath.Join(dir, "source")
	if err := os.WriteFile(name, payload(size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Skip("needs a file system with O_DIRECT: ", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestDirect: who has written pages that were read past the page cache is not known,
// unless the file is nowhere but in memory.
func TestDirect(t *testing.T) {
	needSends(t)
	sink, tracer := newSink(t), shared(t)
	const total = 128 << 10
	memory, err := os.MkdirTemp("/dev/shm", "zcprobe")
	if err != nil {
		t.Skip("needs /dev/shm: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(memory) })
	disk := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	onDisk := st.Type != unix.TMPFS_MAGIC
	for name, c := range map[string]struct {
		dir    string
		copied bool
		send   func(fd int, f *os.File, total, size int) error
	}{
		"sendfile": {disk, !onDisk, sendfileFrom},
		"splice":   {disk, false, spliceFrom},
		"memory":   {memory, true, sendfileFrom},
	} {
		t.Run(name, func(t *testing.T) {
			f := openDirect(t, c.dir, total)
			conn := dial(t, sink, "tcp4")
			control(t, conn, func(fd int) error { return c.send(fd, f, total, 64<<10) })
			sent(t, conn)
			flows, _ := flowsOf(t, tracer, inodeOf(t, conn))
			if len(flows) != 1 {
				t.Fatalf("%+v", flows)
			}
			causes := causesOf(t, flows[0])
			if c.copied && (flows[0].CopiedBytes != total || causes["odirect-source"] != total) ||
				!c.copied && (flows[0].UnknownBytes != total || len(causes) > 0) {
				t.Errorf("%+v", flows[0])
			}
		})
	}
}

// TestTimestamps: packets that come back with a timestamp are copied for that, where the
// notice of MSG_ZEROCOPY says so; of others nothing is known.
func TestTimestamps(t *testing.T) {
	needSends(t)
	sink, tracer := newSink(t), shared(t)
	const size, sends = 1000, 10
	for _, c := range []struct {
		name    string
		flags   int
		api     string
		copied  bool
		unknown bool
	}{
		{"with the packet", unix.SOF_TIMESTAMPING_TX_SOFTWARE, "msg_zerocopy", true, false},
		{"alone", unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_TSONLY, "msg_zerocopy", false, false},
		{"of a file", unix.SOF_TIMESTAMPING_TX_SOFTWARE, "sendfile", false, false},
		{"by io_uring", unix.SOF_TIMESTAMPING_TX_SOFTWARE, "io_uring_send_zc", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			skipRing(t, c.api)
			conn := dial(t, sink, "udp4")
			control(t, conn, func(fd int) error {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, c.flags); err != nil {
					return err
				}
				return wayOf(c.api).send(fd, payload(size*sends), size)
			})
			time.Sleep(20 * time.Millisecond)
			want := part{bytes: size * sends, copied: c.copied, lost: c.unknown}
			if c.copied {
				want.causes = []string{"tx-timestamp"}
			}
			checkMixed(t, tracer, inodeOf(t, conn), map[string]part{c.api: want})
		})
	}
}
