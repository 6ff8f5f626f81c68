package transmit

import (
	"errors"
	"math"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// lending is whether and how much memory a Sender may lend to the kernel with
// MSG_ZEROCOPY, and why not.
type lending struct {
	refused  bool   // for good: this socket does not take it
	cause    string // why nothing is lent, a catalogue id or ""
	reason   string
	err      error
	expected bool // in the nature of the path

	enabled  bool // SO_ZEROCOPY is set
	numbered bool // the number of the next send is known
	adapt    adapt

	// most is the size in bytes of a send that fits the locked memory this user
	// may have, 0 unless one was refused with nothing outstanding.
	most  int
	again time.Time // when to try more

	// fullAt is how many sends were outstanding when one more was refused for lack
	// of memory: nothing is lent until there are fewer. 0: nothing was refused.
	fullAt uint32

	room  int // bytes that may be queued before the socket is asked again
	lowat int // TCP_NOTSENT_LOWAT, 0 if none

	growing growth
}

func (z *lending) refuse(cause, reason string, err error) {
	z.refused, z.cause, z.reason, z.err = true, cause, reason, err
}

// begin looks at a socket that has not lent anything yet.
func (z *lending) begin(s *Sender, fd int) {
	// A socket on which nobody set SO_ZEROCOPY, or that has sent nothing, has given
	// no number away: the first is 0.
	on, err := s.k.GetInt(fd, sys.SolSocket, sys.SoZerocopy)
	if err != nil {
		z.refuse("non-zc-proto", "the socket knows no SO_ZEROCOPY", err)
		return
	}
	z.numbered = on == 0
	if s.kind != kindTCP {
		return
	}
	if p, e := s.k.TCPInfo(fd); e == 0 && p.BytesSent == 0 && p.BytesAcked <= 1 && on != 0 {
		z.numbered = outQueueEmpty(s.k, fd)
	}
}

func outQueueEmpty(k *socketCalls, fd int) bool {
	n, e := k.OutQueue(fd)
	return e == 0 && n == 0
}

// enable sets SO_ZEROCOPY, once, and reports whether memory can be lent now.
func (s *Sender) enable(fd int) bool {
	z := &s.zc
	if z.refused {
		return false
	}
	if !z.enabled {
		if err := s.k.SetInt(fd, sys.SolSocket, sys.SoZerocopy, 1); err != nil {
			z.refuse("non-zc-proto", "the socket refuses SO_ZEROCOPY", err)
			return false
		}
		z.enabled = true
		if s.kind == kindTCP {
			z.lowat = notsentLowat(s.k, fd)
			z.growing.begin(s.k, fd)
		}
	}
	if z.numbered {
		return true
	}
	// Somebody sent with MSG_ZEROCOPY before us. Once nothing of that is
	// outstanding, the first notification tells the number of our first send,
	// which must be the only one until then.
	if s.led.ids.n > 0 {
		return false
	}
	m, e := s.k.Memory(fd)
	return e == 0 && m.Options == 0
}

// lendable returns how many of the n bytes left of a part of so many may be lent
// now, 0 for none.
func (s *Sender) lendable(fd, whole, n int) int {
	if whole < s.threshold() {
		return 0
	}
	z := &s.zc
	if z.refused {
		s.noteCause(MsgZerocopy, Write, z.cause, z.reason, z.err, z.expected)
		return 0
	}
	ring := s.rings()
	if s.ru == nil && s.o.Backend == IoUringSendZC {
		s.noteCause(IoUringSendZC, MsgZerocopy, "fast-path-refused", "the sender has no ring", errors.ErrUnsupported, false)
	}
	if !ring && z.growing.copies() {
		return 0
	}
	if !s.insists() && !z.adapt.allowed(s.k.Now) {
		s.noteCause(MsgZerocopy, Write, "", "the kernel copied nearly all that was lent last", nil, false)
		return 0
	}
	if ring {
		return n
	}
	if !s.enable(fd) {
		if z.refused {
			s.noteCause(MsgZerocopy, Write, z.cause, z.reason, z.err, z.expected)
		}
		return 0
	}
	if z.most > 0 && s.k.Now().After(z.again) {
		z.most = 0
	}
	if z.fullAt > 0 {
		if s.led.ids.n >= z.fullAt {
			return 0
		}
		z.fullAt = 0
	}
	if z.most > 0 && n > z.most {
		if s.kind.datagrams() || z.most < max(s.threshold(), pageSize) {
			s.noteCause(MsgZerocopy, Write, "memlock-limit", "the locked memory of this user does not allow a send of this size", syscall.ENOBUFS, false)
			return 0
		}
		n = z.most
	}
	return n
}

// copies reports whether a part of n bytes would be copied now.
func (s *Sender) copies(n int) bool {
	return n < s.threshold() || s.zc.refused || !s.insists() && s.zc.adapt.backedOff()
}

// threshold is the size from which a part of a send is lent.
func (s *Sender) threshold() int {
	if s.job.least > 0 {
		return s.job.least
	}
	switch s.o.Backend {
	case Write, Writev, ReadWrite, MmapWrite, IoUringSend:
		return math.MaxInt
	}
	switch {
	case s.o.Threshold > 0:
		return s.o.Threshold
	case s.o.Backend == MsgZerocopy, s.o.Backend == IoUringSendZC:
		return 1
	}
	return DefaultThreshold // of other backends, too, which are for files
}

// insists reports whether lending was asked for by name, so that copies that the
// kernel makes are no reason against it.
func (s *Sender) insists() bool {
	return s.job.least > 0 || s.o.Backend == MsgZerocopy || s.o.Backend == IoUringSendZC
}

// lend sends n bytes of the next part with MSG_ZEROCOPY.
func (s *Sender) lend(fd, n int) verdict {
	j := &s.job
	part := j.rest[0]
	room := s.makeRoom(fd, n)
	if room == 0 {
		if s.zc.growing.copies() {
			return goOn
		}
		if s.led.ids.n > 0 || s.full(fd) {
			return wait
		}
		// The buffer of this socket is too small to lend anything.
		j.plain = n
		return goOn
	}
	n = min(n, room)
	flags := sys.MsgZerocopy | sys.MsgDontwait | sys.MsgNosignal
	if n == len(part) && (len(j.rest) > 1 || j.follows) {
		flags |= sys.MsgMore
	}
	s.led.sending(j.entry)
	m, e := s.k.Send(fd, part[:n], flags)
	if e != 0 {
		s.led.notSent(j.entry)
		return s.notLent(fd, n, e)
	}
	j.more = flags&sys.MsgMore != 0 // kept back even by a send that a fault cut short
	s.stats.ZerocopySends++
	s.zc.room -= m
	s.advance(m, true)
	if len(j.rest) == 0 {
		return finish
	}
	return goOn
}

// notLent decides what to do about a send of n bytes with MSG_ZEROCOPY that
// failed.
func (s *Sender) notLent(fd, n int, e syscall.Errno) verdict {
	j := &s.job
	switch {
	case e == syscall.EAGAIN:
		s.zc.room = 0
		return wait
	case e == syscall.EINTR:
		return goOn
	case e == syscall.ENOBUFS:
		s.noBuffers(fd, n)
	case e == syscall.EFAULT && !j.mapped:
		// The pages cannot be pinned (memfd_secret, device memory), but perhaps read.
		j.plain = n
		s.noteCause(MsgZerocopy, Write, "gup-efault", "the memory cannot be pinned", sys.Wrap("send", e), false)
	case sys.Unsupported(e):
		// The protocol took SO_ZEROCOPY and refuses the flag: a protocol on top of it.
		s.zc.refuse("ulp", "a protocol on top of the connection refuses MSG_ZEROCOPY", sys.Wrap("send", e))
	default:
		j.err = sys.Wrap("send MSG_ZEROCOPY", e)
		return finish
	}
	return goOn
}

// noBuffers handles ENOBUFS: the locked memory of the user or the option memory
// of the socket does not suffice. With sends outstanding it does again when these
// are done, without it never may; neither is waited for, the bytes are copied.
func (s *Sender) noBuffers(fd, n int) {
	s.stats.NoBufferSpace++
	s.job.plain = n
	cause, reason := refusedBy(0)
	if m, e := s.k.Memory(fd); e == 0 {
		cause, reason = refusedBy(m.Options)
	}
	s.drainLocked(fd)
	z := &s.zc
	if z.fullAt = s.led.ids.n; z.fullAt == 0 && cause == "memlock-limit" {
		z.most, z.again = mostLockable(n), s.k.Now().Add(retryLocked)
		reason = "the locked memory of this user does not allow a send of this size"
	}
	s.noteCause(MsgZerocopy, Write, cause, reason, sys.Wrap("send", syscall.ENOBUFS), false)
}

// retryLocked is after which time sends that were too large for the locked memory
// are tried again: other processes of the user may have let go of theirs.
const retryLocked = time.Minute

// makeRoom returns how many bytes may be queued now, 0 if it is better to wait
// before n are sent.
//
// A completion makes the socket report EPOLLERR. Go's runtime takes an event that
// is EPOLLERR and nothing else for a broken descriptor: every Read on the
// connection fails with "not pollable" from then on, even one that was waiting.
// So as long as completions may come the socket is kept writable, which adds
// EPOLLOUT: TCP is while its queue takes two thirds of the send buffer or less
// (sk_stream_is_writeable), UDP while what it sent takes less than half
// (sock_writeable). Nothing is lost by that: a blocking send sleeps until the
// queue is down to as much.
func (s *Sender) makeRoom(fd, n int) int {
	z := &s.zc
	if s.o.NoReader {
		return n
	}
	if z.room >= min(n, wantRoom) {
		return z.room
	}
	s.drainLocked(fd)
	m, e := s.k.Memory(fd)
	if e != 0 { // before Linux 4.12
		return n
	}
	most, queued := m.SendBuffer/3*2, m.SendQueued
	if s.kind == kindUDP {
		most, queued = m.SendBuffer/2, m.SendAlloc
	}
	room := roomFor(most - queued)
	if z.lowat > 0 {
		if unsent, e := s.k.NotSent(fd); e == 0 {
			room, most = min(room, z.lowat/2-unsent-1), min(most, z.lowat/2)
		}
	}
	z.room = max(room, 0)
	if z.room >= min(n, wantRoom, most*3/4) && (z.room >= n || !s.kind.datagrams()) {
		return z.room
	}
	if s.kind == kindTCP && z.lowat == 0 && z.growing.grow(s.k, fd, m.SendBuffer) {
		z.room = roomFor(z.growing.size/3*2 - queued)
		return max(z.room, 0)
	}
	return 0
}

// wantRoom is how much room is waited for before more is sent: one full skb, so
// that a large send is not cut into crumbs.
const wantRoom = 64 << 10

// roomFor returns the payload that fits into so many bytes of a send buffer, in
// which every 64 KiB skb takes another kilobyte or so for itself.
func roomFor(buffer int) int { return buffer - buffer/16 - 2048 }

// full reports whether the socket is not writable, and if so makes the kernel say
// when it is again (SOCK_NOSPACE is set by polling).
func (s *Sender) full(fd int) bool {
	got, err := s.k.Poll(fd, sys.PollOut, 0)
	return err == nil && got&sys.PollOut == 0
}
