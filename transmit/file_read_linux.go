package transmit

import (
	"errors"
	"fmt"
	"syscall"
)

// byReading sends a piece by two copies, together with the header and the trailer.
func (s *Sender) byReading(fd int) verdict {
	fs := s.file
	if len(fs.window) == 0 {
		n, err := s.peek()
		if err != nil {
			s.job.err = err
			return finish
		}
		if n == 0 {
			return s.ended()
		}
		fs.window = (*fs.buf)[:n]
	}
	// Never lent: the buffer is used again.
	v, n := s.copyParts(fd, fs.window)
	fs.window = fs.window[n:]
	return v
}

// copyParts is sendParts that lends nothing.
func (s *Sender) copyParts(fd int, window []byte) (verdict, int) {
	s.job.plain = maxInt
	if s.to.holds() {
		if s.wouldHold(fd) {
			return s.noRoom(fd), 0
		}
		s.job.plain = blockingPipeBytes
	}
	return s.sendParts(fd, window)
}

// peek reads what comes next in the file into a buffer, and returns how much that
// is, 0 at the end.
func (s *Sender) peek() (int, error) {
	fs := s.file
	if fs.buf == nil {
		fs.buf = copyBuffers.Get().(*[]byte)
	}
	fs.window = nil
	for range mostStalled {
		n, err := s.calls.Pread(fs.src, (*fs.buf)[:fs.left(copyBytes)], fs.pos)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		return n, nil
	}
	return 0, fmt.Errorf("pread: %w", syscall.EINTR)
}

// fileDatagram sends everything as one datagram. By default it is read into memory
// first: what is to be one datagram has to be known whole, or nothing is sent.
func (s *Sender) fileDatagram() {
	fs, j := s.file, &s.job
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
