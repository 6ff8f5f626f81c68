package transmit

import (
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
