package transmit

import (
	"encoding/binary"
	"runtime"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// gsoControl is the length of a control message that holds one uint16.
const gsoControl = 24

// segmentControl is the UDP_SEGMENT control message: the payload leaves as
// datagrams of that many bytes.
func (j *job) segmentControl(bytes int) []byte {
	ne := binary.NativeEndian
	clear(j.gso[:])
	ne.PutUint64(j.gso[0:], 18) // CMSG_LEN(2)
	ne.PutUint32(j.gso[8:], sys.SolUDP)
	ne.PutUint32(j.gso[12:], sys.UDPSegment)
	ne.PutUint16(j.gso[16:], uint16(bytes))
	return j.gso[:]
}

// sendDatagram sends all of the job as one datagram, or as a train of them.
func (s *Sender) sendDatagram(fd int) verdict {
	j := &s.job
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.led.ids.n >= s.reapFrom {
		s.drainLocked(fd)
	}
	total := 0
	for _, p := range j.rest {
		total += len(p)
	}
	var control []byte
	if s.kind == kindUDP && s.o.SegmentBytes > 0 && total > s.o.SegmentBytes {
		control = j.segmentControl(s.o.SegmentBytes)
	}
	flags := sys.MsgDontwait | sys.MsgNosignal
	lend := j.plain == 0 && s.kind == kindUDP && s.lendable(fd, total, total) == total
	if lend && control == nil && !s.fitsMTU(fd, total) {
		lend = false
		s.noteCause(MsgZerocopy, Write, "udp-over-mtu", "a datagram longer than the path's MTU is copied by the kernel", nil, false)
	}
	if lend && s.rings() {
		if s.ru.r.noMessage == nil || len(j.rest) == 1 && control == nil {
			return s.lendDatagram(fd, control)
		}
		lend = false
	}
	if (lend || s.led.ids.n > 0) && s.makeRoom(fd, total) == 0 {
		if s.led.ids.n > 0 || s.full(fd) {
			return wait
		}
		lend = false // a send buffer that is too small to lend
	}
	if lend {
		flags |= sys.MsgZerocopy
		s.led.sending(j.entry)
	}
	n, e := 0, syscall.ENOSYS
	if !lend && s.copiesByRing() {
		n, e = s.copyRing(fd, len(j.rest), maxInt, flags, control)
	}
	if e == syscall.ENOSYS {
		n, e = s.sendmsg(fd, control, flags)
	}
	if e != 0 {
		if lend {
			s.led.notSent(j.entry)
			return s.notLent(fd, total, e)
		}
		return s.notCopied(e)
	}
	if lend {
		s.stats.ZerocopySends++
		j.lent += int64(n)
	} else {
		j.result.PlainBytes += int64(n)
	}
	s.zc.room -= n
	j.result.Bytes += int64(n)
	s.sent.Add(uint64(n))
	return finish
}

func (s *Sender) notCopied(e syscall.Errno) verdict {
	switch e {
	case syscall.EAGAIN:
		return wait
	case syscall.EINTR:
		return goOn
	}
	s.job.err = sys.Wrap("send", e)
	return finish
}

func (s *Sender) sendmsg(fd int, control []byte, flags int) (int, syscall.Errno) {
	j := &s.job
	if len(j.rest) == 1 && control == nil {
		return s.k.Send(fd, j.rest[0], flags)
	}
	j.iov = j.iov[:0]
	for _, p := range j.rest {
		j.iov = sys.AppendIovec(j.iov, p)
	}
	n, e := s.k.Sendmsg(fd, j.iov, control, flags)
	clear(j.iov)
	runtime.KeepAlive(j.rest)
	return n, e
}

// fitsMTU reports whether a datagram leaves unfragmented, as far as the route of
// the connected socket tells.
func (s *Sender) fitsMTU(fd, payload int) bool {
	if mtu, err := s.k.GetInt(fd, sys.SolIP, sys.IPMTU); err == nil {
		return payload+28 <= mtu
	}
	if mtu, err := s.k.GetInt(fd, sys.SolIPv6, sys.IPv6MTU); err == nil {
		return payload+48 <= mtu
	}
	return false
}
