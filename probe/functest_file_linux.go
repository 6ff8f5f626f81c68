package probe

import (
	"bytes"
	"errors"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// fileTests need neither network nor a directory.
func fileTests() []functest {
	return []functest{
		{"copy_file_range", testCopyFileRange, true},
		{"memfd.seal", testMemfdSeal, true},
		{"memfd_secret", testMemfdSecret, false},
		{"tcp.cork", testTCPCork, true},
	}
}

// testCopyFileRange copies between two files in memory. Seen: "sent_bytes",
// "received_bytes", "equal". It says nothing about shared extents, which are
// the file system's affair.
func testCopyFileRange(t *trial) {
	src, ok := t.source()
	if !ok {
		return
	}
	dst, err := t.k.Memfd("zcprobe")
	if !t.prep("memfd_create", err) {
		return
	}
	t.own(dst)
	var from, to int64
	n, err := move(testSize, func(done int) (int, error) {
		return t.k.CopyRange(src, &from, dst, &to, testSize-done)
	})
	if t.count("copy_file_range", n, testSize, err) {
		n, err := t.k.Pread(dst, t.buf[:testSize], 0)
		t.step("pread", err)
		t.compare(t.buf[:max(n, 0)], false)
	}
}

// testMemfdSeal makes a file that can no longer change, and tries to change
// it. Seen: "equal" 1 if that failed and the contents are as they were.
func testMemfdSeal(t *trial) {
	fd, err := t.k.Memfd("zcprobe")
	if !t.step("memfd_create", err) {
		return
	}
	t.own(fd)
	if n, err := t.k.Pwrite(fd, t.old, 0); !t.prep("pwrite", err) || n != testSize {
		return
	}
	const all = sys.SealWrite | sys.SealShrink | sys.SealGrow
	if !t.step("fcntl F_ADD_SEALS", t.k.AddSeals(fd, all)) {
		return
	}
	seals, err := t.k.Seals(fd)
	if !t.step("fcntl F_GET_SEALS", err) {
		return
	}
	_, writeErr := t.k.Pwrite(fd, t.fresh, 0)
	n, err := t.k.Pread(fd, t.buf[:testSize], 0)
	if !t.step("pread", err) {
		return
	}
	t.seeBool("equal", seals&all == all && errors.Is(writeErr, syscall.EPERM) && bytes.Equal(t.buf[:n], t.old))
}

// testMemfdSecret makes memory that only this process can read. Seen: "equal".
func testMemfdSecret(t *trial) {
	fd, err := t.k.MemfdSecret()
	if !t.step("memfd_secret", err) {
		return
	}
	t.own(fd)
	if !t.prep("ftruncate", t.k.Ftruncate(fd, pageSize)) {
		return
	}
	m, err := t.k.Mmap(fd, 0, pageSize, sys.ProtRead|sys.ProtWrite, sys.MapShared)
	if errors.Is(err, syscall.EAGAIN) { // the mapping is locked memory
		t.seeMemlock()
	}
	if !t.step("mmap", err) {
		return
	}
	t.mms = append(t.mms, m)
	src, ok := t.source()
	if !ok {
		return
	}
	// Linux 7.3 maps the memory over the limit, too, and has none on first
	// use. A system call meets that as EFAULT, an instruction of ours as
	// SIGBUS.
	n, err := t.k.Pread(src, m, 0)
	if errors.Is(err, syscall.EFAULT) {
		t.seeMemlock()
	}
	if t.count("first use of the mapping", n, len(m), err) {
		t.seeBool("equal", bytes.Equal(m, t.old[:len(m)]))
	}
}

// seeMemlock notes the limit that a call probably ran into: Seen
// "memlock_bytes", -1 for none.
func (t *trial) seeMemlock() {
	if limit, err := t.k.Memlock(); err == nil {
		t.see("memlock_bytes", int64(limit))
	}
}

// testTCPCork holds a small segment back until the socket is uncorked. Seen:
// "held" 1 if nothing arrived before, "equal".
func testTCPCork(t *trial) {
	out, in, ok := t.sharedPair()
	if !ok || !t.step("setsockopt TCP_CORK", t.k.SetInt(out, sys.SolTCP, sys.TCPCork, 1)) {
		return
	}
	msg := t.old[:100]
	if n, err := t.k.Send(out, msg, 0); !t.prep("send", err) || n != len(msg) {
		return
	}
	t.seeBool("held", !t.wait(in, sys.PollIn, 0))
	if !t.step("setsockopt TCP_CORK 0", t.k.SetInt(out, sys.SolTCP, sys.TCPCork, 0)) {
		return
	}
	got, err := t.receive(in, len(msg), waitArrival)
	t.step("recv", err)
	t.seeBool("equal", bytes.Equal(got, msg))
}
