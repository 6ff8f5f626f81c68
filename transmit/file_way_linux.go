package transmit

import (
	"errors"
	"slices"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// order holds the ways to send a file, from the best on: where one is refused the
// next in line goes on. The last always works.
var order = [...]Backend{MmapZerocopy, Sendfile, Splice, MmapWrite, ReadWrite}

// ways is a set of ways, by their rank.
type ways uint8

func rank(b Backend) int { return slices.Index(order[:], b) }

func (w ways) has(b Backend) bool { return w>>rank(b)&1 != 0 }

// choose finds the way to begin with.
func (fs *fileSend) choose(s *Sender) {
	fs.refused |= fs.demoted
	if fs.way = s.firstWay(); fs.refused.has(fs.way) {
		fs.way = fs.next(fs.way)
	}
	switch {
	case s.tls.on:
		s.chooseEncrypted()
	case !fs.way.Copies() && !fs.o.Immutable && s.near.unknown(s.k):
		s.copyNear()
	}
	if fs.way == MmapZerocopy || fs.way == MmapWrite {
		s.openMapping()
	}
	fs.now = fs.way
}

// copyNear rules out what shares pages with a peer on this machine without a
// notification.
func (s *Sender) copyNear() {
	fs := s.file
	from := fs.way
	fs.refused |= 1<<rank(Sendfile) | 1<<rank(Splice)
	if fs.refused.has(from) {
		fs.way = fs.next(from)
		s.noteCause(from, fs.way, "loopback-delivery", nearBlind, nil, false)
	}
}

// nearBlind is why nothing is shared with a peer on this machine.
const nearBlind = "the peer is on this machine, and what it has not read cannot be told"

// firstWay is the way that was asked for, or the one that the rules have.
func (s *Sender) firstWay() Backend {
	fs := s.file
	asked := fs.o.Backend
	if asked == "" {
		asked = s.o.Backend
	}
	switch asked {
	case Write, Writev:
		asked = ReadWrite // the one of them that goes with a file
	}
	switch {
	case fs.o.Snapshot && !asked.Copies():
		return ReadWrite
	case rank(asked) >= 0:
		fs.asked = true
		return asked
	case fs.open && fs.stat.Mode&sys.ModeType == sys.ModeRegular:
		return ReadWrite // made when it is read, if it is not empty
	case len(fs.head)+len(fs.tail) > 0 && fs.end-fs.pos <= smallFile:
		return ReadWrite
	case !fs.o.Immutable && fs.stale(s.calls):
		s.noteCause(Sendfile, ReadWrite, "stale-source", "the page cache may not have what the file holds", nil, false)
		return ReadWrite
	}
	if s.mappingPays() {
		return MmapZerocopy
	}
	if s.to.kind == sys.ModeFIFO {
		return Splice // kernels before 5.12 copy in sendfile to a pipe
	}
	return Sendfile
}

// stale reports whether what the page cache has of the file may be old. File systems
// are few, and asked once each time they change.
func (fs *fileSend) stale(k *calls) bool {
	if !fs.known || fs.device != fs.stat.Device {
		fs.known, fs.device, fs.old = true, fs.stat.Device, stalePages(k, fs.src)
	}
	return fs.old
}

// smallFile is up to which size in bytes a file is read and sent with its header in
// one call: a packet or so, for which a copy costs less than a second call.
const smallFile = 4 << 10

// next returns the way that follows b.
func (fs *fileSend) next(b Backend) Backend {
	for _, n := range order[rank(b)+1:] {
		if !fs.refused.has(n) && (n != MmapWrite || fs.mapping.region != nil) {
			return n
		}
	}
	return ReadWrite
}

// refuse goes on by the next way.
func (s *Sender) refuse(cause, reason string, err error) verdict {
	fs := s.file
	from := fs.now
	fs.refused |= 1 << rank(from)
	switch {
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		// Neither this file nor the next.
		fs.demoted |= 1 << rank(from)
	}
	if fs.pipe != nil { // what it holds is read again from the file
		s.pipes.put(fs.pipe)
		fs.pipe = nil
	}
	fs.now, fs.stalled = fs.next(from), 0
	if fs.way == from {
		fs.way = fs.now
	}
	s.noteCause(from, fs.now, cause, reason, err, false)
	return goOn
}

// failed decides what to do about an error of a call that moves bytes from the
// file to the target.
func (s *Sender) failed(fd int, err error) verdict {
	switch {
	case err == syscall.EAGAIN:
		return s.again(fd)
	case err == syscall.EINTR:
		return goOn
	case errors.Is(err, syscall.EIO):
		// From the disk, or the kernel does not send these pages by reference.
		if _, rerr := s.peek(); errors.Is(rerr, syscall.EIO) {
			s.job.err = rerr
			return finish
		}
		return s.refuse("page-not-sendable", "the kernel does not send the pages of this file by reference", err)
	case refuses(err), errors.Is(err, syscall.ESPIPE), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EFAULT):
		return s.refuse("fast-path-refused", "the kernel does not do this between the file and the connection", err)
	}
	s.job.err = err
	return finish
}

// again decides about EAGAIN, which does not say whether it is the target that is
// not ready, or the source.
func (s *Sender) again(fd int) verdict {
	fs := s.file
	got, err := s.calls.Poll(fd, sys.PollOut, 0)
	if err != nil || got&sys.PollOut == 0 {
		fs.stalled = 0
		s.mu.Lock()
		if s.led.ids.n == 0 {
			s.zc.growing.foundFull()
		}
		s.mu.Unlock()
		return s.noRoom(fd)
	}
	if fs.stalled++; fs.stalled > mostStalled {
		return s.refuse("fast-path-refused", "the kernel finds the file not ready", syscall.EAGAIN)
	}
	return goOn
}

// mostStalled is how often a way may say that there is no room while there is: the
// room may have come in between.
const mostStalled = 4

// most returns the way that moved the most.
func (fs *fileSend) most() Backend {
	best := fs.way
	for i, n := range fs.moved {
		if best == "" || n > fs.moved[rank(best)] {
			best = order[i]
		}
	}
	return best
}
