package transmit

import "github.com/zcprobe/zcprobe/internal/sys"

// bySendfile sends a piece by sendfile(2).
func (s *Sender) bySendfile(fd int) verdict {
	fs, j := s.file, &s.job
	if len(fs.head) > 0 {
		v, _ := s.sendParts(fd, nil)
		return v
	}
	if len(fs.tail) > 0 && !fs.corked {
		s.cork(fd)
	}
	// Never past the end of the file: kernels before 6.5 keep the last packet back
	// for what does not come (splice_direct_to_actor).
	most := pieceBytes
	if s.to.holds() {
		if most = blockingPipeBytes; s.wouldHold(fd) {
			return s.noRoom(fd)
		}
	}
	n := s.room(fd, fs.left(most))
	if n == 0 {
		return s.noRoom(fd)
	}
	fs.off = fs.pos
	m, err := s.calls.Sendfile(fd, fs.src, &fs.off, n)
	if err != nil {
		return s.failed(fd, err)
	}
	if m == 0 {
		return s.endOrNot()
	}
	j.more = m < n
	s.took(m)
	if fs.pos == fs.end && len(fs.tail) == 0 {
		return finish
	}
	return goOn
}

// endOrNot decides about a call that found nothing more in the file: read(2) has the
// last word, since some files have no size before they are read, or have grown
// elsewhere.
func (s *Sender) endOrNot() verdict {
	n, err := s.peek()
	switch {
	case err != nil:
		s.job.err = err
		return finish
	case n == 0:
		s.job.more = true
		return s.ended()
	}
	return s.refuse("fast-path-refused", "the kernel finds the end of the file where read does not", errFalseEnd)
}

// cork makes the kernel keep the end of the file for the trailer, with which it
// goes out. TCP_NODELAY does not matter to it; the cork comes out in any case, see
// flushFD. One that the application put in stays.
func (s *Sender) cork(fd int) {
	if s.kind != kindTCP {
		return
	}
	if on, err := s.k.GetInt(fd, sys.SolTCP, sys.TCPCork); err != nil || on != 0 {
		return
	}
	s.file.corked = s.k.SetInt(fd, sys.SolTCP, sys.TCPCork, 1) == nil
}
