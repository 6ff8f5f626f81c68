package transmit

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// ringUse is what a Sender needs to send through a ring.
type ringUse struct {
	r   *Ring
	req request
	w   arrival
	msg sys.UringMessage

	refused bool      // for good: this connection does not go through it
	paused  time.Time // until when it does not

	fixed int   // the place of the job's buffer in the ring's table, or -1
	why   error // why it has none
	lent  int64 // bytes of the transfer that went by it, lent
	plain int64 // and copied

	reap int // transfers that wait for the peer from which on it is asked; under Sender.mu, as is
	out  int // sends that are not notified
}

func (s *Sender) joinRing() {
	switch s.o.Backend {
	case "", IoUringSend, IoUringSendZC, MmapZerocopy:
		if s.o.Ring != nil {
			s.ru = &ringUse{r: s.o.Ring, fixed: -1, w: arrival{ready: make(chan bool, 1)}}
		}
	}
}

// rings reports whether memory may be lent through the ring now.
func (s *Sender) rings() bool {
	u := s.ru
	if u == nil || u.refused || s.kind == kindFile {
		return false
	}
	if u.r.noZC != nil {
		s.refuseRing("fast-path-refused", "the kernel has no io_uring that sends without a copy", u.r.noZC)
		return false
	}
	if !u.paused.IsZero() {
		if s.k.Now().Before(u.paused) {
			return false
		}
		u.paused = time.Time{}
	}
	return true
}

// refuseRing makes the connection go on without the ring.
func (s *Sender) refuseRing(cause, reason string, err error) {
	s.ru.refused = true
	s.noteCause(IoUringSendZC, MsgZerocopy, cause, reason, err, false)
}

// ringRun returns how many of the parts go by one request, 0 if none: those that are
// lent, and what is around them, so that a header goes along with what follows it.
func (s *Sender) ringRun(fd int) int {
	j := &s.job
	most := 1
	if s.ru.r.noMessage == nil {
		most = min(len(j.rest), maxParts)
	}
	small := 0
	for k, p := range j.rest[:most] {
		if k == 0 {
			p = p[:len(p):len(p)]
			j.whole = max(j.whole, len(p))
			if j.whole >= s.threshold() {
				break
			}
		} else if len(p) >= s.threshold() {
			j.whole = maxInt // it goes the way of what is lent
			break
		}
		if small++; small > mostSmall || small == most {
			return 0
		}
	}
	if s.lendable(fd, j.whole, len(j.rest[0])) == 0 || !s.rings() {
		return 0
	}
	return most
}

// mostSmall is how many small parts in front of a large one are lent with it.
const mostSmall = 16

// lendRing sends the first k parts through the ring. The lock is held, and let go in
// the meantime.
func (s *Sender) lendRing(fd, k int) verdict {
	q, n := s.ringRequest(fd, k, nil)
	s.mu.Unlock()
	s.ru.r.submit(&s.ru.w, q)
	s.mu.Lock()
	return s.ringAnswer(q, n)
}

// lendDatagram sends all parts as one datagram, or a train of them, through the ring.
// The lock is held, and let go in the meantime.
func (s *Sender) lendDatagram(fd int, control []byte) verdict {
	q, n := s.ringRequest(fd, len(s.job.rest), control)
	s.mu.Unlock()
	s.ru.r.submit(&s.ru.w, q)
	s.mu.Lock()
	v := s.ringAnswer(q, n)
	if q.res > 0 {
		v = finish // whole, whatever is behind the last byte
	}
	return v
}

// ringRequest makes a request to lend the first k parts, of n bytes, with control
// messages that may be nil. The lock is held.
func (s *Sender) ringRequest(fd, k int, control []byte) (q *request, n int) {
	j, u := &s.job, s.ru
	flags := sys.MsgDontwait | sys.MsgNosignal
	if k < len(j.rest) || j.follows {
		flags |= sys.MsgMore
	}
	q = &u.req
	q.sqe = sys.UringSQE{Opcode: sys.UringOpSendZC, Fd: int32(fd), Ioprio: u.r.usage, OpFlags: uint32(flags)}
	if k == 1 && control == nil {
		p := j.rest[0]
		p = p[:min(len(p), mostRequest)]
		if n = len(p); n < len(j.rest[0]) {
			q.sqe.OpFlags |= sys.MsgMore
		}
		q.sqe.SetBuffer(p)
		if u.fixed >= 0 {
			q.sqe.Ioprio |= sys.UringSendFixedBuf
			q.sqe.BufIndex = uint16(u.fixed)
		} else if u.why != nil {
			s.notRegistered(u.why)
		}
	} else {
		j.iov = j.iov[:0]
		for _, p := range j.rest[:k] {
			j.iov = sys.AppendIovec(j.iov, p)
			n += len(p)
		}
		q.sqe.Opcode = sys.UringOpSendmsgZC
		u.msg.Set(j.iov, control)
		q.sqe.SetMessage(&u.msg)
	}
	j.more = q.sqe.OpFlags&sys.MsgMore != 0
	e := &s.led.entries[j.entry]
	e.pending++ // its notification may come before the answer is looked at
	u.out++
	q.s, q.item, q.gen = s, j.entry, e.gen
	return q, n
}

// mostRequest is the most that one request sends: the kernel's MAX_RW_COUNT, of whole
// pages.
const mostRequest = 1<<31 - 1<<16

// ringAnswer takes in the first answer to a request to lend n bytes. The lock is
// held.
func (s *Sender) ringAnswer(q *request, n int) verdict {
	j := &s.job
	clear(j.iov)
	runtime.KeepAlive(j.rest)
	if !q.more {
		s.ru.out--
		if e := &s.led.entries[q.item]; e.gen == q.gen {
			e.pending-- // the transfer's own part is still to be settled
		}
	}
	if q.lost {
		j.err = fmt.Errorf("io_uring: the ring broke, and whether the last %d bytes were sent is not known: %w", n, syscall.EIO)
		return finish
	}
	if q.res <= 0 {
		j.more = false
		return s.ringRefused(q, n)
	}
	s.stats.ZerocopySends++
	s.ru.lent += int64(q.res)
	s.advance(int(q.res), true)
	if len(j.rest) == 0 {
		return finish
	}
	if int(q.res) < n {
		j.whole = maxInt // the rest goes the way of all of it
		if s.full(int(q.sqe.Fd)) {
			return wait
		}
	}
	return goOn
}

// ringRefused decides what to do about a request that sent nothing.
func (s *Sender) ringRefused(q *request, n int) verdict {
	j, e := &s.job, syscall.Errno(-q.res)
	if q.refused != nil {
		return s.ringUnusable(q.refused, n)
	}
	err := sys.Wrap("io_uring send", e)
	switch {
	case e == syscall.EAGAIN:
		return wait
	case e == syscall.EINTR:
		return goOn
	case e == syscall.ENOMEM || e == syscall.ENOBUFS:
		s.stats.NoBufferSpace++
		s.ru.paused = s.k.Now().Add(ringPause)
		s.noteCause(IoUringSendZC, MsgZerocopy, "memlock-limit", "the locked memory of this user is used up", err, false)
	case e == syscall.EFAULT && s.ru.fixed >= 0:
		s.ru.fixed = -1 // not in what is registered; perhaps it can be looked up
	case e == syscall.EFAULT && !j.mapped:
		j.plain = n
		s.noteCause(IoUringSendZC, Write, "gup-efault", "the memory cannot be pinned", err, false)
	case e == syscall.EINVAL && s.ru.fixed >= 0:
		s.ru.fixed = -1
	case sys.Unsupported(e), e == syscall.EINVAL, e == 0:
		s.refuseRing("ulp", "the connection, or a protocol on top of it, takes no SEND_ZC", err)
	default:
		j.err = err
		return finish
	}
	return goOn
}

// ringPause is after which time a ring that found no memory is tried again.
const ringPause = time.Second

// ringUnusable decides what to do about a request that was not made.
func (s *Sender) ringUnusable(err error, n int) verdict {
	if errors.Is(err, errRingFull) {
		s.job.plain = n
		s.noteCause(IoUringSendZC, Write, "fast-path-refused", "the ring has as many sends in flight as it may", err, false)
		return goOn
	}
	reason := "the ring cannot be used any more"
	if errors.Is(err, ErrRingClosed) {
		reason = ErrRingClosed.Error()
	}
	s.refuseRing("fast-path-refused", reason, sys.Wrap("io_uring_enter", err))
	return goOn
}

// landed takes in a notification, and reports whether transfers wait for the peer.
func (s *Sender) landed(l *landing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ru.out--
	if l.bytes > 0 {
		s.stats.Notified++
		if l.copied {
			s.stats.CopiedSends++
		}
		if !l.silent {
			s.zc.adapt.observe(l.copied, 1, s.k.Now)
		}
	}
	if e := &s.led.entries[l.item]; e.gen == l.gen && e.out {
		if l.bytes > 0 && !l.silent {
			e.notified++
			if l.copied {
				e.copied++
			}
		}
		s.led.settle(l.item)
	}
	return len(s.led.gated) > 0
}

// copyRing copies the first k parts, most bytes of them, through the ring: where it
// was asked for by name. The lock is held, and let go in the meantime. ENOSYS says
// that the ring is not to be used.
func (s *Sender) copyRing(fd, k, most, flags int, control []byte) (int, syscall.Errno) {
	q, _ := s.copyRequest(fd, k, most, flags, control)
	s.mu.Unlock()
	s.ru.r.submit(&s.ru.w, q)
	s.mu.Lock()
	return s.copyAnswer(q)
}

// copyRequest makes a request to copy the first k parts, most bytes of them: n.
func (s *Sender) copyRequest(fd, k, most, flags int, control []byte) (q *request, n int) {
	j, u := &s.job, s.ru
	q = &u.req
	q.sqe = sys.UringSQE{Opcode: sys.UringOpSend, Fd: int32(fd), OpFlags: uint32(flags)}
	q.s, q.item, q.gen = s, j.entry, s.led.entries[j.entry].gen
	if k == 1 && control == nil {
		p := j.rest[0]
		p = p[:min(len(p), most, mostRequest)]
		q.sqe.SetBuffer(p)
		return q, len(p)
	}
	j.iov = j.iov[:0]
	for _, p := range j.rest[:k] {
		p = p[:min(len(p), most)]
		j.iov = sys.AppendIovec(j.iov, p)
		most -= len(p)
		n += len(p)
	}
	q.sqe.Opcode = sys.UringOpSendmsg
	u.msg.Set(j.iov, control)
	q.sqe.SetMessage(&u.msg)
	return q, n
}

// copyAnswer takes in what became of a request to copy.
func (s *Sender) copyAnswer(q *request) (int, syscall.Errno) {
	j, u := &s.job, s.ru
	clear(j.iov)
	runtime.KeepAlive(j.rest)
	switch {
	case q.refused != nil:
		if u.refused = !errors.Is(q.refused, errRingFull); u.refused {
			s.noteCause(IoUringSend, Write, "fast-path-refused", "the ring cannot be used any more", sys.Wrap("io_uring_enter", q.refused), false)
		}
		return 0, syscall.ENOSYS
	case q.lost:
		return 0, syscall.EIO
	case q.res < 0:
		return 0, syscall.Errno(-q.res)
	}
	u.plain += int64(q.res)
	return int(q.res), 0
}

// copiesByRing reports whether what is copied goes through the ring.
func (s *Sender) copiesByRing() bool {
	return s.ru != nil && s.o.Backend == IoUringSend && !s.ru.refused && s.kind != kindFile
}

// askPeer asks how far the peer is when many transfers wait for it. The Sender's lock
// is held.
func (u *ringUse) askPeer(s *Sender, fd int) {
	if len(s.led.gated) >= max(u.reap, reapAt) {
		s.drainLocked(fd)
		u.reap = 2 * len(s.led.gated)
	}
}

// flying reports whether notifications of a ring are to come.
func (s *Sender) flying() bool {
	if s.ru == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ru.out > 0
}

// lookRing takes in what the ring has.
func (s *Sender) lookRing() {
	if s.flying() {
		s.ru.r.look(s)
	}
}

// hurryRing has the ring tell at once.
func (s *Sender) hurryRing() {
	if s.flying() {
		s.ru.r.hurry()
	}
}
