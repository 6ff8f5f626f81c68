package transmit_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A shape is a way in which Go programs move a body, as they write it. It is run as
// the standard library has it, and with the line changed that brings this library in.
type shape struct {
	name string
	with string // the change: "Wrap" of the connections, "Copy" in place of io.Copy, "WrapListener"
	why  string // why the kernel or the shape allows no better; "" where nothing is lost

	// inside: a call that avoids copies is made, and the kernel copies within it.
	inside bool

	// make prepares both ends and returns what is recorded.
	make func(s *stage) func()
}

// Wrappers of the kind that people write, without a name and with one.
type (
	named    struct{ net.Conn }
	forwards struct{ net.Conn } // NetConn says what is inside
)

func (c forwards) NetConn() net.Conn { return c.Conn }

const (
	whyTee      = "TeeReader hands every byte to a writer of its own: somebody wants to see it"
	whyMulti    = "MultiWriter writes the same bytes to others, from memory"
	whyNamed    = "a type of somebody else's may look at the bytes in Read and Write: only those without a name and methods are opened"
	whyTLS      = "crypto/tls encrypts in memory; kernel TLS (EnableKTLS) is for those who have the keys"
	whyInKernel = "the file system makes the bytes when they are read: the call is sendfile, and the kernel copies within it"
	whyMade     = "the file is made when it is read, and sendfile copies it within the kernel: nothing is lost by reading it"
	whyNoSplice = "this file can only be read: sendfile is refused (EINVAL)"
	whyDirect   = "O_DIRECT goes round the page cache: the call is sendfile, and the kernel reads into pages of its own (no copy by the CPU where the device does that)"
	whyAppend   = "the kernel splices into no file with O_APPEND (EINVAL)"
	whyMemory   = "Write and writev may not keep memory after they return: a Body or a Sender lends it"
	whyBuffers  = whyMemory + ". One write per part: package net has writev for connections of its own alone; Sendv has it, too"
)

// shapes are all but those of net/http.
var shapes = []shape{
	{name: "TCPConn ← os.File", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.file()) }},
	{name: "TCPConn ← LimitReader(File)", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), io.LimitReader(s.file(), s.cut()))
	}},
	{name: "TCPConn ← CopyN(File)", with: "Wrap", make: func(s *stage) func() {
		dst, src, n := s.tcp(), s.file(), s.cut()
		return s.moved(func() (int64, error) { return io.CopyN(dst, src, n) })
	}},
	{name: "TCPConn ← CopyBuffer(File)", with: "Wrap", make: func(s *stage) func() {
		dst, src := s.tcp(), s.file()
		return s.moved(func() (int64, error) { return io.CopyBuffer(dst, src, make([]byte, 64<<10)) })
	}},
	{name: "TCPConn ← NopCloser(File)", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), io.NopCloser(s.file())) }},
	{name: "TCPConn ← bufio.Reader(File)", with: "Wrap", make: func(s *stage) func() {
		b := bufio.NewReader(s.file())
		_, _ = b.Peek(1)
		return s.copying(s.tcp(), b)
	}},
	{name: "TCPConn ← MultiReader(header, File)", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), io.MultiReader(s.header(), s.file()))
	}},
	{name: "bufio.Writer(TCPConn) ← File", with: "Wrap", make: func(s *stage) func() {
		w, src := bufio.NewWriter(s.tcp()), s.file()
		return s.moved(func() (int64, error) {
			n, err := s.copy(w, src)
			if err == nil {
				err = w.Flush()
			}
			return n, err
		})
	}},
	{name: "TCPConn ← LimitReader(LimitReader(File))", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), io.LimitReader(io.LimitReader(s.file(), s.cut()+1), s.cut()))
	}},
	{name: "TCPConn ← SectionReader(File)", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), io.NewSectionReader(s.file(), 0, s.cut()))
	}},
	{name: "TCPConn ← TeeReader(File)", with: "Wrap", why: whyTee, make: func(s *stage) func() {
		return s.copying(s.tcp(), io.TeeReader(s.file(), io.Discard))
	}},
	{name: "TCPConn ← struct{io.Reader}{File}", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), struct{ io.Reader }{s.file()})
	}},
	{name: "struct{io.Writer}{TCPConn} ← File", with: "Copy", make: func(s *stage) func() {
		return s.copying(struct{ io.Writer }{s.tcp()}, s.file())
	}},
	{name: "struct{net.Conn}{TCPConn} ← File", with: "Copy", make: func(s *stage) func() {
		return s.copying(struct{ net.Conn }{s.tcp()}, s.file())
	}},
	{name: "MultiWriter(TCPConn) ← File", with: "Copy", why: whyMulti, make: func(s *stage) func() {
		return s.copying(io.MultiWriter(s.tcp(), io.Discard), s.file())
	}},
	{name: "UnixConn ← File", with: "Wrap", make: func(s *stage) func() { return s.copying(s.unix(), s.file()) }},
	{name: "UnixConn ← CopyN(File)", with: "Wrap", make: func(s *stage) func() {
		dst, src, n := s.unix(), s.file(), s.cut()
		return s.moved(func() (int64, error) { return io.CopyN(dst, src, n) })
	}},
	{name: "UnixConn ← LimitReader(File)", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.unix(), io.LimitReader(s.file(), s.cut()))
	}},
	{name: "TCPConn ← TCPConn", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.fromTCP()) }},
	{name: "TCPConn ← CopyN(TCPConn)", with: "Wrap", make: func(s *stage) func() {
		dst, src, n := s.tcp(), s.fromTCP(), s.cut()
		return s.moved(func() (int64, error) { return io.CopyN(dst, src, n) })
	}},
	{name: "TCPConn ← UnixConn", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.fromUnix()) }},
	{name: "TCPConn ← bufio.Reader(TCPConn)", with: "Wrap", make: func(s *stage) func() {
		b := bufio.NewReader(s.fromTCP())
		_, _ = b.Peek(1)
		return s.copying(s.tcp(), b)
	}},
	{name: "UnixConn ← TCPConn", with: "Wrap", make: func(s *stage) func() { return s.copying(s.unix(), s.fromTCP()) }},
	{name: "UnixConn ← UnixConn", with: "Wrap", make: func(s *stage) func() { return s.copying(s.unix(), s.fromUnix()) }},
	{name: "TCPConn ← struct{net.Conn}{TCPConn}", with: "Wrap", make: func(s *stage) func() {
		return s.copying(s.tcp(), struct{ net.Conn }{s.fromTCP()})
	}},
	{name: "TCPConn ← named type around a TCPConn", with: "Wrap", why: whyNamed, make: func(s *stage) func() {
		return s.copying(s.tcp(), named{s.fromTCP()})
	}},
	{name: "named type around a TCPConn ← TCPConn", with: "Copy", why: whyNamed, make: func(s *stage) func() {
		return s.copying(named{s.tcp()}, s.fromTCP())
	}},
	{name: "TCPConn ← named type with NetConn around a TCPConn", with: "Wrap", why: whyNamed, make: func(s *stage) func() {
		return s.copying(s.tcp(), forwards{s.fromTCP()})
	}},
	{name: "TCPConn ← pipe (exec.Cmd)", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.program()) }},
	{name: "File ← TCPConn", with: "Wrap", make: func(s *stage) func() { return s.copying(s.toFile(0), s.fromTCP()) }},
	{name: "File with O_APPEND ← TCPConn", with: "Wrap", why: whyAppend, make: func(s *stage) func() {
		return s.copying(s.toFile(os.O_APPEND), s.fromTCP())
	}},
	{name: "File ← File", with: "Copy", make: func(s *stage) func() { return s.copying(s.toFile(0), s.file()) }},
	{name: "os.Stdout (pipe) ← pipe", with: "Copy", make: func(s *stage) func() { return s.copying(s.toPipe(), s.program()) }},
	{name: "TCPConn ← memfd", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.memfd()) }},
	{name: "TCPConn ← File on tmpfs", with: "Wrap", make: func(s *stage) func() { return s.copying(s.tcp(), s.fileIn("/dev/shm", 0)) }},
	{name: "TCPConn ← File with O_DIRECT", with: "Wrap", why: whyDirect, inside: true, make: func(s *stage) func() {
		return s.copying(s.tcp(), s.fileIn("", syscall.O_DIRECT))
	}},
	{name: "TCPConn ← procfs (/proc/filesystems)", with: "Wrap", why: whyMade, inside: true, make: func(s *stage) func() {
		return s.copying(s.tcp(), s.existing("/proc/filesystems"))
	}},
	{name: "TCPConn ← procfs (/proc/self/limits)", with: "Wrap", why: whyNoSplice, make: func(s *stage) func() {
		return s.copying(s.tcp(), s.existing("/proc/self/limits"))
	}},
	{name: "TCPConn ← sysfs", with: "Wrap", why: whyInKernel, inside: true, make: func(s *stage) func() {
		return s.copying(s.tcp(), s.existing("/sys/kernel/btf/vmlinux"))
	}},
	{name: "tls.Conn(TCPConn) ← File", with: "Wrap", why: whyTLS, make: func(s *stage) func() {
		return s.copying(s.tls(), s.file())
	}},
	{name: "TCPConn ← net.Buffers", with: "Wrap", why: whyBuffers, make: func(s *stage) func() {
		dst, b := s.tcp(), s.buffers()
		return s.moved(func() (int64, error) { return b.WriteTo(dst) })
	}},
	{name: "struct{net.Conn}{TCPConn} ← net.Buffers", with: "Wrap", why: whyBuffers, make: func(s *stage) func() {
		dst, b := struct{ net.Conn }{s.tcp()}, s.buffers()
		return s.moved(func() (int64, error) { return b.WriteTo(dst) })
	}},
}

// program is a program that writes the content to its standard output.
func (s *stage) program() io.Reader {
	name := s.file().Name()
	cmd := exec.CommandContext(s.t.Context(), "cat", name)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = out.Close()
		_ = cmd.Wait()
	})
	s.watch(out.(syscall.Conn))
	return out
}

// tls is a server's end of TLS 1.3, whose handshake is done.
func (s *stage) tls() io.Writer {
	cert := certificate(s.t)
	near, far := s.pair("tcp4")
	s.target = s.watch(near.(syscall.Conn))
	server := tls.Server(s.wrap(near), &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true}) // of a certificate made just now
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	s.receive(client)
	s.finish = server.Close
	return server
}

func TestShapes(t *testing.T) { runShapes(t) }
