package zctest

import (
	"fmt"
	"strings"
	"syscall"
)

// reason says what usually is behind such calls, as a line, "" if nothing is known.
func (v *sight) reason() string {
	for _, known := range []func() string{v.refused, v.handed, v.looped, v.fromMemory} {
		if why := known(); why != "" {
			return "likely: " + why + "\n"
		}
	}
	return ""
}

// refused: the call was made and the kernel would not.
func (v *sight) refused() string {
	for _, c := range v.all.List {
		if c.Errno == 0 || c.Errno == syscall.EAGAIN || c.Errno == syscall.EINTR || c.Name != "sendfile" && c.Name != "splice" {
			continue
		}
		switch {
		case c.Name == "sendfile" && c.Source.pipe():
			return "the kernel takes no pipe as the source of sendfile; io.Copy does not splice from an *os.File that is a pipe (transmit.Relay and transmit.Copy do)"
		case v.on.contains(c):
			return fmt.Sprintf("%s was refused (%v), so the rest was copied", c.Name, c.Errno)
		}
	}
	return ""
}

func (c *Calls) contains(call Call) bool {
	for _, o := range c.List {
		if o == call {
			return true
		}
	}
	return false
}

// handed: it went by sendfile or splice, but elsewhere.
func (v *sight) handed() string {
	if v.inKernel > 0 || v.zeroCopied+v.copied > 0 {
		return ""
	}
	for _, c := range v.all.List {
		if c.Bytes > 0 && c.Target.socket() {
			return "another connection was written to: give the assertion the one that the payload is sent on"
		}
	}
	return "nothing at all was sent while the function ran: it must wait for what sends, and flush what it buffers"
}

// looped: it was read into the process and written from there.
func (v *sight) looped() string {
	in, ok := v.source()
	if !ok {
		return ""
	}
	switch {
	case v.writesRecords():
		return "this is TLS in user space, which encrypts in memory: crypto/tls has no sendfile (kernel TLS does)"
	case in.Name == "pread64":
		return "the source was read by ReadAt: io.SectionReader, which hides the file from sendfile. Seek in the *os.File and use io.LimitReader or io.CopyN"
	case v.inKernel > 0:
		return "part of it was read into the process first: a reader with a large buffer, or several ranges"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "a loop of %s and write%s is io.Copy that found no way around its own buffer. ", in.Name, asked(in))
	if in.Source.socket() || in.Source.pipe() {
		b.WriteString("Splice is used from a *net.TCPConn or *net.UnixConn to a *net.TCPConn, and from those to a *net.UnixConn or *os.File without O_APPEND: " +
			"one of the ends was wrapped in another type, or both are unix sockets")
		return b.String()
	}
	b.WriteString("The source was wrapped: sendfile sees through one io.LimitedReader and net/http's own, and no other reader, " +
		"nor an fs.File of os.DirFS. Or the connection was: a type around net.Conn, or a middleware's http.ResponseWriter, needs a ReadFrom that passes on to the one inside; " +
		"Unwrap is not enough. A chunked response (without Content-Length) is copied as well")
	return b.String()
}

func asked(c Call) string {
	if c.Asked <= 0 {
		return ""
	}
	return " of " + size(c.Asked)
}

func size(n int64) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return fmt.Sprintf("%d bytes", n)
}

// source is a read that is likely to be where the payload came from: the one that
// read most of what was read into memory from a file, pipe or other connection before
// the last write to the connection.
func (v *sight) source() (read Call, ok bool) {
	type from struct{ name, source string }
	sums := map[from]int64{}
	var best int64
	for _, c := range v.all.List {
		if c.Target != memory || c.Bytes <= 0 || c.Source.Name == "" || v.peerOf(c.Source) {
			continue
		}
		key := from{c.Name, c.Source.Name}
		sums[key] += c.Bytes
		if sums[key] > best {
			best, read, ok = sums[key], c, true
		}
	}
	return read, ok && best*2 >= v.copied // or most of it was in memory before
}

// peerOf says that reads from f may be those of the other end of the connection, in
// the same process: nothing was read from it before something was sent.
func (v *sight) peerOf(f FD) bool {
	if !f.socket() {
		return false
	}
	read, sent := len(v.all.List), len(v.all.List)
	for i, c := range v.all.List {
		if c.Bytes <= 0 {
			continue
		}
		if c.Source.Name == f.Name {
			read = min(read, i)
		}
		if c.Target.Name == v.id {
			sent = min(sent, c.Began)
		}
	}
	return read >= sent
}

// recordOverhead is what TLS 1.3 adds to a record: a header of 5 bytes, a type of
// one, and a tag of 16 (RFC 8446 5.2); 1.2 with AES-GCM has 29 (RFC 5288 3).
var recordOverhead = []int64{22, 29}

const maxRecord = 16 << 10

// writesRecords says that a write to the connection has the size of a full TLS record.
func (v *sight) writesRecords() bool {
	for _, c := range v.on.List {
		for _, more := range recordOverhead {
			if c.Target != memory && c.Asked == maxRecord+more {
				return true
			}
		}
	}
	return false
}

func (v *sight) fromMemory() string {
	if v.copied == 0 {
		return ""
	}
	return "it was sent from memory (Write): send the file itself, or memory by a transmit.Sender"
}
