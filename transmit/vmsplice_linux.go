package transmit

import (
	"errors"
	"io"
	"runtime"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// vmsend is what sending memory by vmsplice(2) keeps.
type vmsend struct {
	pipe    *pipe // with the bytes that job.rest begins with
	moved   int64 // bytes of this transfer
	refused bool  // the kernel does not do it for this process
}

// vmsplices reports whether memory goes by vmsplice: where it was asked for, and
// applies. To a blocking pipe it does not, nor to a file, of which it is none.
func (s *Sender) vmsplices() bool {
	if s.o.Backend != Vmsplice || s.vm.refused || s.kind.datagrams() {
		return false
	}
	if s.tls.on { // which reads memory in place by itself
		id, reason := s.tls.cause()
		s.noteCause(Vmsplice, Write, id, reason, nil, true)
		return false
	}
	return s.kind != kindFile || s.to.kind == sys.ModeFIFO && !s.to.blocking
}

// sendPages sends a piece of memory as references to its pages, by way of a pipe. The
// kernel does not say when it has let go of them; the peer's acknowledgement does.
func (s *Sender) sendPages(fd int) verdict {
	j, v := &s.job, &s.vm
	if len(j.rest) == 0 {
		return finish
	}
	if s.kind == kindFile {
		m, err := s.vmsplice(fd)
		if err != nil {
			return s.pagesFailed(err)
		}
		v.moved += int64(m)
		s.advance(m, true)
		return goOn
	}
	if v.pipe == nil {
		if s.near.unknown(s.k) {
			return s.refusePages("loopback-delivery", nearBlind, nil)
		}
		p, err := s.pipes.get()
		if err != nil {
			return s.refusePages("fast-path-refused", "there is no pipe to splice through", err)
		}
		v.pipe = p
	}
	if v.pipe.held == 0 {
		m, err := s.vmsplice(v.pipe.w)
		if err == syscall.EAGAIN { // of an empty pipe
			return s.refusePages("fast-path-refused", "the kernel takes nothing into an empty pipe", err)
		}
		if err != nil {
			return s.pagesFailed(err)
		}
		v.pipe.held = m
	}
	return s.sendPipe(fd)
}

// sendPipe sends what is in the pipe.
func (s *Sender) sendPipe(fd int) verdict {
	j, p := &s.job, s.vm.pipe
	n := s.room(fd, p.held)
	if n == 0 {
		return wait
	}
	flags := sys.SpliceNonblock
	if n < p.held || p.held < total(j.rest) {
		flags |= sys.SpliceMore
	}
	m, err := s.calls.Splice(p.r, nil, fd, nil, n, flags)
	if err != nil {
		return s.pagesFailed(err)
	}
	if m == 0 {
		return s.refusePages("fast-path-refused", "the kernel takes nothing out of a pipe that holds bytes", io.ErrShortWrite)
	}
	p.held -= m
	j.more = flags&sys.SpliceMore != 0 || m < n
	s.vm.moved += int64(m)
	s.zc.room -= m
	j.shared = true
	s.advance(m, true)
	return goOn
}

// vmsplice puts references to the first parts into a pipe.
func (s *Sender) vmsplice(pipe int) (int, error) {
	j := &s.job
	j.iov = j.iov[:0]
	for _, p := range j.rest[:min(len(j.rest), maxParts)] {
		j.iov = sys.AppendIovec(j.iov, p)
	}
	n, err := s.calls.Vmsplice(pipe, j.iov, sys.SpliceNonblock)
	clear(j.iov)
	runtime.KeepAlive(j.rest)
	if err == nil && n == 0 {
		err = io.ErrShortWrite
	}
	return n, err
}

// pagesFailed decides what to do about an error of vmsplice or splice.
func (s *Sender) pagesFailed(err error) verdict {
	switch {
	case err == syscall.EAGAIN:
		return wait
	case err == syscall.EINTR:
		return goOn
	case errors.Is(err, syscall.EFAULT):
		// Memory that cannot be pinned, but perhaps read.
		return s.refusePages("gup-efault", "the memory cannot be pinned", err)
	case errors.Is(err, syscall.EIO):
		return s.refusePages("page-not-sendable", "the kernel does not send these pages by reference", err)
	case refuses(err), errors.Is(err, syscall.ENOMEM), errors.Is(err, io.ErrShortWrite):
		return s.refusePages("fast-path-refused", "the kernel does not splice memory to the connection", err)
	}
	s.job.err = err
	return finish
}

// refusePages goes on by the ordinary ways, at the byte where the peer has nothing
// yet: what is in the pipe is dropped.
func (s *Sender) refusePages(cause, reason string, err error) verdict {
	switch {
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		s.vm.refused = true
	}
	s.noteCause(Vmsplice, Write, cause, reason, err, false)
	s.endPages()
	s.job.run = s.memory
	return goOn
}

// endPages gives the pipe back, which is closed if it holds bytes.
func (s *Sender) endPages() {
	if p := s.vm.pipe; p != nil {
		s.vm.pipe = nil
		s.pipes.put(p)
	}
}

func total(parts [][]byte) int {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return n
}
