package transmit

import (
	"io"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// bySplice sends a piece by splice(2): through a pipe of ours, or into the pipe that
// is sent to.
func (s *Sender) bySplice(fd int) verdict {
	fs, j := s.file, &s.job
	if len(fs.head) > 0 {
		v, _ := s.sendParts(fd, nil)
		return v
	}
	if s.to.kind == sys.ModeFIFO {
		return s.intoPipe(fd)
	}
	if fs.pipe == nil {
		p, err := s.pipes.get()
		if err != nil {
			return s.refuse("fast-path-refused", "there is no pipe to splice through", err)
		}
		fs.pipe = p
	}
	if fs.pipe.held == 0 {
		fs.off = fs.pos
		n, err := fs.pipe.fill(s.calls, fs.src, &fs.off, fs.left(pipeBytes))
		if err != nil {
			return s.failed(fd, err)
		}
		if n == 0 {
			return s.endOrNot()
		}
	}
	n := s.room(fd, fs.pipe.held)
	if n == 0 {
		return s.noRoom(fd)
	}
	flags := sys.SpliceNonblock
	if fs.pos+int64(n) < fs.end || len(fs.tail) > 0 {
		flags |= sys.SpliceMore
	}
	m, err := s.calls.Splice(fs.pipe.r, nil, fd, nil, n, flags)
	if err != nil {
		return s.failed(fd, err)
	}
	if m == 0 {
		return s.refuse("fast-path-refused", "the kernel takes nothing out of a pipe that holds bytes", io.ErrShortWrite)
	}
	fs.pipe.held -= m
	j.more = flags&sys.SpliceMore != 0 || m < n
	s.took(m)
	if fs.pos == fs.end && len(fs.tail) == 0 {
		return finish
	}
	return goOn
}

// intoPipe splices a piece into the pipe that is sent to.
func (s *Sender) intoPipe(fd int) verdict {
	fs := s.file
	fs.off = fs.pos
	m, err := s.calls.Splice(fs.src, &fs.off, fd, nil, fs.left(pieceBytes), sys.SpliceNonblock)
	if err != nil {
		return s.failed(fd, err)
	}
	if m == 0 {
		return s.endOrNot()
	}
	s.took(m)
	return goOn
}
