package transmit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// fileDatagram sends everything as one datagram. By default it is read into memory
// first: what is to be one datagram has to be known whole, or nothing is sent.
func (s *Sender) fileDatagram() {
	fs, j := s.file, &s.job
	if s.sendfileDatagram() {
		return
	}
	fs.way, fs.now = ReadWrite, ReadWrite
	data, err := s.readDatagram()
	if j.err = err; err == nil {
		s.checkLease(0)
	}
	if j.err != nil {
		return
	}
	j.rest = append(j.parts[:0], fs.head...)
	if len(data) > 0 {
		j.rest = append(j.rest, data)
	}
	if j.rest = append(j.rest, fs.tail...); len(j.rest) == 0 {
		j.rest = append(j.rest, nil) // a datagram of nothing
	}
	j.parts = j.rest
	j.plain = maxInt // never lent: the buffer is used again
	j.run = s.datagram
	s.drive(fs.ctx)
	if j.err == nil {
		fs.advance(len(data))
	}
}

// mostDatagram is the most bytes that one call sends as datagrams: what UDP's
// length field can say, and what the default buffer of a unix socket takes
// (net.core.wmem_max, which is asked).
const mostDatagram = 64 << 10

// readDatagram reads the whole range.
func (s *Sender) readDatagram() ([]byte, error) {
	fs := s.file
	most := mostDatagram
	if s.kind == kindUnixDatagram {
		most = 16 << 20
	}
	if fs.end != noEnd && fs.end-fs.pos > int64(most) {
		return nil, tooLong(fs.end - fs.pos)
	}
	fs.buf = copyBuffers.Get().(*[]byte)
	b := *fs.buf
	if fs.end != noEnd && int(fs.end-fs.pos) > len(b) {
		b = make([]byte, fs.end-fs.pos)
	}
	have := 0
	for {
		p := b[have:]
		if fs.end != noEnd {
			p = b[have : fs.end-fs.pos]
		}
		if len(p) == 0 {
			break
		}
		n, err := s.calls.Pread(fs.src, p, fs.pos+int64(have))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			fs.pos += int64(have)
			v := s.ended()
			fs.pos -= int64(have)
			if v == finish { // nothing was sent
				return nil, &TruncatedError{Want: fs.end - fs.start}
			}
			break
		}
		if have += n; have > most || have == len(b) && fs.end == noEnd {
			return nil, tooLong(int64(have))
		}
	}
	return b[:have], nil
}

func tooLong(n int64) error {
	return fmt.Errorf("%d bytes are more than a datagram: %w", n, syscall.EMSGSIZE)
}

// sendfileDatagram sends the file as one datagram of references to its pages, if that
// was asked for by name, and reports whether it did: it is not done where it may lose
// data, and gains little.
func (s *Sender) sendfileDatagram() bool {
	fs, j := s.file, &s.job
	asked := fs.o.Backend
	if asked == "" {
		asked = s.o.Backend
	}
	if asked != Sendfile || s.kind != kindUDP || fs.o.Snapshot {
		return false
	}
	fs.way, fs.now = Sendfile, Sendfile
	if cause, reason := s.datagramRisk(); reason != "" {
		s.noteCause(Sendfile, ReadWrite, cause, reason, nil, false)
		return false
	}
	j.run = s.sendOneDatagram
	s.drive(fs.ctx)
	if j.err != nil && j.result.Bytes == 0 && refuses(j.err) {
		s.noteCause(Sendfile, ReadWrite, "fast-path-refused", "the kernel does not send this file to the connection", j.err, false)
		j.err = nil
		return false
	}
	return true
}

// datagramRisk says why sendfile might not send exactly the datagram, "" if nothing
// is known against it.
func (s *Sender) datagramRisk() (cause, reason string) {
	fs := s.file
	switch n := fs.end - fs.pos; {
	case len(fs.head)+len(fs.tail) > 0:
		return "udp-corked", "a header would have to wait in the socket for the file"
	case n == 0 || fs.open:
		return "udp-sendfile-emsgsize", "the size of the datagram is not known"
	case n > datagramMax4:
		return "udp-sendfile-emsgsize", "all of it would be one datagram, which holds at most 65507 bytes"
	case local(s.conn) && !fs.o.Immutable:
		return "loopback-delivery", nearBlind
	}
	ids := []string{"udp-sendfile-loss", "udp-splice-csum-loss"}
	k, err := probe.Kernel(context.WithoutCancel(fs.ctx), "hazard."+ids[0], "hazard."+ids[1])
	for _, id := range ids {
		h, ok := probe.Hazard{}, false
		if err == nil {
			h, ok = k.Hazard(id)
		}
		switch {
		case ok && h.Status == probe.Fail:
			return id, h.Detail
		case !ok || h.Status != probe.Pass:
			return id, "some kernels lose such datagrams, and it is not known whether this one does"
		}
	}
	return "", ""
}

// sendOneDatagram makes the one call that sends the file.
func (s *Sender) sendOneDatagram(fd int) verdict {
	fs, j := s.file, &s.job
	if fs.ctx.Err() != nil {
		j.err = context.Cause(fs.ctx)
		return finish
	}
	n := fs.left(datagramMax4)
	fs.off = fs.pos
	m, err := s.calls.Sendfile(fd, fs.src, &fs.off, n)
	switch {
	case err == syscall.EAGAIN:
		return wait
	case err == syscall.EINTR:
		return goOn
	case err != nil:
		j.err = err
		return finish
	}
	s.took(m)
	if m < n {
		// The kernel may wait for the rest of the datagram, to which the next would be
		// added. Where this fails there is nothing that waits.
		_ = s.k.SetInt(fd, sys.SolUDP, sys.UDPCork, 0)
		if st, err := s.calls.Fstat(fs.src); err == nil && st.Size < fs.end {
			j.err = &TruncatedError{Sent: int64(m), Want: int64(n)}
		} else {
			j.err = fmt.Errorf("the datagram went out with %d bytes of %d: %w", m, n, io.ErrShortWrite)
		}
	}
	return finish
}
