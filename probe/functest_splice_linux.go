package probe

import (
	"errors"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// spliceTests move page references: sendfile, splice, vmsplice and tee. Each
// overwrites the last page of its source after sending it; Seen "page_ref" 1
// says the receiver got the new bytes, so nothing was copied on the way; 0, it
// got the old ones. Other values of Seen: "sent_bytes", "received_bytes",
// "equal".
func spliceTests() []functest {
	return []functest{
		{"sendfile.tcp", testSendfileTCP, true},
		{"sendfile.udp", testSendfileUDP, true},
		{"sendfile.unix", testSendfileUnix, true},
		{"sendfile.pipe", testSendfilePipe, true},
		{"sendfile.file", testSendfileFile, true},
		{"splice.file-tcp", testSpliceFileTCP, true},
		{"splice.tcp-tcp", testSpliceTCPTCP, true},
		{"vmsplice", testVmsplice, true},
		{"tee", testTee, true},
		{"pipe.resize", testPipeResize, true},
	}
}

// sendfile sends the whole of a source and records the call.
func (t *trial) sendfile(what string, out, src int) bool {
	var off int64
	n, err := move(testSize, func(done int) (int, error) {
		return t.k.Sendfile(out, src, &off, testSize-done)
	})
	return t.count("sendfile "+what, n, testSize, err)
}

// arrive receives what a stream test sent, and compares.
func (t *trial) arrive(fd int, renewed bool) {
	got, err := t.receive(fd, testSize, waitArrival)
	t.stepValue("recv", "", err)
	t.compare(got, renewed)
}

func testSendfileTCP(t *trial) {
	out, in, ok := t.sharedPair()
	if !ok {
		return
	}
	if src, ok := t.source(); ok && t.sendfile("file to TCP", out, src) && t.renew(src) {
		t.arrive(in, true)
	}
}

func testSendfileUnix(t *trial) {
	// Sockets of this family are built into nearly every kernel; where it is
	// a module, socket() would load it.
	if len(t.host.Protocols) > 0 && !t.loaded("AF_UNIX", "UNIX") {
		return
	}
	p, err := t.k.Socketpair(sys.AFUnix, sys.SockStream)
	if !t.prep("socketpair AF_UNIX", err) {
		return
	}
	t.own(p[0], p[1])
	if src, ok := t.source(); ok && t.sendfile("file to unix stream", p[0], src) && t.renew(src) {
		t.arrive(p[1], true)
	}
}

// testSendfileUDP sends one datagram. Where the kernel computes its checksum
// as it takes the pages, the receiver throws the overwritten one away, which
// proves a page reference as well: Seen "summed_at_send" 1.
func testSendfileUDP(t *trial) {
	out, in, ok := t.udpPair(loopback4)
	if !ok {
		return
	}
	src, ok := t.source()
	if !ok || !t.sendDatagram("file to UDP", out, src) {
		return
	}
	got, err := t.datagrams(out, in)
	if !t.step("recv", err) {
		return
	}
	t.compare(got, false)
	if !t.sendDatagram("file to UDP, then overwrite the file", out, src) || !t.renew(src) {
		return
	}
	got, err = t.datagrams(out, in)
	switch {
	case !t.prep("recv", err):
	case len(got) > 0:
		t.compare(got, true)
	default:
		t.see("page_ref", 1)
		t.see("summed_at_send", 1)
	}
}

// sendDatagram sends the whole of a source in one call: what a second call sent
// would be another datagram.
func (t *trial) sendDatagram(what string, out, src int) bool {
	var off int64
	n, err := t.k.Sendfile(out, src, &off, testSize)
	return t.count("sendfile "+what, n, testSize, err)
}

func testSendfilePipe(t *trial) {
	r, w, ok := t.pipe()
	if !ok {
		return
	}
	if src, ok := t.source(); ok && t.sendfile("file to pipe", w, src) && t.renew(src) {
		got, err := t.readPipe(r, testSize)
		t.step("read", err)
		t.compare(got, true)
	}
}

func testSendfileFile(t *trial) {
	src, ok := t.source()
	if !ok {
		return
	}
	dst, err := t.k.Memfd("zcprobe")
	if !t.prep("memfd_create", err) {
		return
	}
	t.own(dst)
	if t.sendfile("file to file", dst, src) {
		n, err := t.k.Pread(dst, t.buf[:testSize], 0)
		t.step("pread", err)
		t.compare(t.buf[:max(n, 0)], false)
	}
}

// splice moves testSize bytes by splice and records the call.
func (t *trial) splice(what string, in int, off *int64, out int) bool {
	n, err := move(testSize, func(done int) (int, error) {
		return t.k.Splice(in, off, out, testSize-done, sys.SpliceMove|sys.SpliceNonblock)
	})
	return t.count("splice "+what, n, testSize, err)
}

func testSpliceFileTCP(t *trial) {
	out, in, ok := t.sharedPair()
	if !ok {
		return
	}
	r, w, ok := t.pipe()
	if !ok {
		return
	}
	src, ok := t.source()
	if !ok {
		return
	}
	var off int64
	if t.splice("file to pipe", src, &off, w) && t.splice("pipe to TCP", r, nil, out) && t.renew(src) {
		t.arrive(in, true)
	}
}

// testSpliceTCPTCP moves what one connection receives into another, as a proxy does.
func testSpliceTCPTCP(t *trial) {
	client, server, ok := t.tcpPair(loopback4)
	if !ok {
		return
	}
	up, backend, ok := t.sharedPair()
	if !ok {
		return
	}
	r, w, ok := t.pipe()
	if !ok {
		return
	}
	n, err := t.k.Send(client, t.old, 0)
	if err == nil && n != testSize {
		err = errors.New("short send")
	}
	if !t.prep("send", err) {
		return
	}
	// A pipe slot holds one page or less of a socket's data, so the way goes
	// in small steps that fit the smallest pipe.
	total, stage := 0, "splice TCP to pipe"
	for total < testSize && err == nil {
		if !t.wait(server, sys.PollIn, waitArrival) {
			err = errWait
			break
		}
		var in, moved int
		stage = "splice TCP to pipe"
		in, err = t.k.Splice(server, nil, w, testSize-total, sys.SpliceMove|sys.SpliceNonblock)
		if errors.Is(err, syscall.EINTR) {
			err = nil
			continue
		}
		if err != nil || in <= 0 {
			break
		}
		stage = "splice pipe to TCP"
		moved, err = move(in, func(done int) (int, error) {
			return t.k.Splice(r, nil, up, in-done, sys.SpliceMove|sys.SpliceNonblock)
		})
		total += moved
		if moved < in {
			break
		}
	}
	if t.count(stage, total, testSize, err) {
		t.arrive(backend, false)
	}
}

// testVmsplice puts references to user memory into a pipe.
func testVmsplice(t *trial) {
	r, w, ok := t.pipe()
	if !ok {
		return
	}
	mem, ok := t.memory(testSize)
	if !ok {
		return
	}
	copy(mem, t.old)
	n, err := move(testSize, func(done int) (int, error) {
		return t.k.Vmsplice(w, [][]byte{mem[done:]}, sys.SpliceNonblock)
	})
	if !t.count("vmsplice memory to pipe", n, testSize, err) {
		return
	}
	copy(mem[testSize-pageSize:], t.fresh)
	got, err := t.readPipe(r, testSize)
	t.step("read", err)
	t.compare(got, true)
}

// testTee duplicates a pipe's contents and reads both.
func testTee(t *trial) {
	r, w, ok := t.pipe()
	if !ok {
		return
	}
	r2, w2, ok := t.pipe()
	if !ok {
		return
	}
	src, ok := t.source()
	if !ok {
		return
	}
	var off int64
	if !t.prepSplice(src, &off, w) {
		return
	}
	n, err := t.k.Tee(r, w2, testSize, sys.SpliceNonblock)
	if !t.count("tee", n, testSize, err) {
		return
	}
	got, err := t.readPipe(r, testSize)
	t.step("read the first pipe", err)
	t.compare(got, false)
	if t.out.Seen["equal"] == 1 {
		got, err = t.readPipe(r2, testSize)
		t.step("read the second pipe", err)
		t.compare(got, false)
	}
}

// prepSplice fills a pipe for a test of something else.
func (t *trial) prepSplice(in int, off *int64, out int) bool {
	n, err := move(testSize, func(done int) (int, error) {
		return t.k.Splice(in, off, out, testSize-done, sys.SpliceNonblock)
	})
	if err == nil && n != testSize {
		err = errors.New("short splice")
	}
	return t.prep("splice", err)
}

// testPipeResize enlarges a pipe. Seen: "default_bytes", "bytes".
func testPipeResize(t *trial) {
	_, w, ok := t.pipe()
	if !ok {
		return
	}
	was, err := t.k.PipeSize(w)
	if !t.step("fcntl F_GETPIPE_SZ", err) {
		return
	}
	t.see("default_bytes", int64(was))
	t.see("bytes", int64(was))
	for _, want := range []int{pipeWantedBytes, max(2*was, 2*pageSize)} {
		_, err := t.k.SetPipeSize(w, want)
		ok := t.step("fcntl F_SETPIPE_SZ", err)
		if now, err := t.k.PipeSize(w); err == nil {
			t.see("bytes", int64(now))
		}
		if ok || !errors.Is(err, syscall.EPERM) {
			return
		}
	}
}
