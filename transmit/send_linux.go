package transmit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// job is the transfer that is under way.
type job struct {
	entry   int
	parts   [][]byte // what is to be sent
	rest    [][]byte // the part of it that is not sent yet
	follows bool     // something is to be sent after the parts
	vector  bool     // there were several parts
	mapped  bool     // the parts are of a mapped file, but for what goes around it
	least   int      // mmap_zerocopy was asked for by name: what is smaller is copied
	iov     []sys.Iovec
	result  Result
	lent    int64 // bytes sent from memory that the kernel may hold
	shared  bool  // some of it without a notification
	whole   int   // size of the part that is under way, all of which goes one way
	plain   int   // bytes to copy before lending is tried again
	more    bool  // the last send said that more follows
	waits   bool  // the last attempt found no room
	gso     [gsoControl]byte
	loan    loan // to be kept instead of the parts
	err     error
	run     func(fd int) verdict // sends a piece of what is left
}

// verdict is what became of an attempt to send a piece.
type verdict uint8

const (
	goOn   verdict = iota // sent something, or may try another way at once
	wait                  // the socket has no room
	finish                // all is sent, or job.err says what is wrong
)

// Send sends p, all of it unless an error comes. It returns when the kernel has
// taken it; the Completion says when p is the caller's again, and how much went
// if there is an error. Until then p must not be written to, and is referenced by
// the Sender.
//
// Over UDP, and on unix sockets with messages, p is one datagram (or, with
// Options.SegmentBytes, a train of them) and is sent whole or not at all.
//
// A deadline of the connection is kept, and so is the context's end; with both
// the rest is not sent, and on a stream the peer has part of p. When a context
// ends while Send waits, the write deadline of the connection is set to the past
// and then to none.
func (s *Sender) Send(ctx context.Context, p []byte) (Completion, error) {
	if err := s.begin(ctx); err != nil {
		return Completion{}, err
	}
	defer s.end()
	s.job.parts = append(s.job.parts[:0], p)
	return s.transfer(ctx)
}

// Sendv sends several parts as if they were one, as few calls as that takes. Each
// part is lent or copied by its own size.
func (s *Sender) Sendv(ctx context.Context, parts ...[]byte) (Completion, error) {
	if err := s.begin(ctx); err != nil {
		return Completion{}, err
	}
	defer s.end()
	s.job.parts = append(s.job.parts[:0], parts...)
	return s.transfer(ctx)
}

// SendBuffer sends the bytes of a buffer of a [Pool]. It may be released at once:
// its memory is given out again when the completion is released, and never if the
// connection is closed before that.
func (s *Sender) SendBuffer(ctx context.Context, b Buffer) (Completion, error) {
	if err := s.begin(ctx); err != nil {
		return Completion{}, err
	}
	defer s.end()
	memory, err := b.lend()
	if err != nil {
		return Completion{}, err
	}
	s.job.parts, s.job.loan = append(s.job.parts[:0], b.Bytes()), memory
	s.registerBuffer(memory)
	return s.transfer(ctx)
}

// begin waits for the turn to send.
func (s *Sender) begin(ctx context.Context) error {
	select {
	case <-s.turn:
	default:
		select {
		case <-s.turn:
		case <-ctx.Done():
			return fmt.Errorf("transmit: %w", context.Cause(ctx))
		}
	}
	if err := context.Cause(ctx); err != nil {
		s.end()
		return fmt.Errorf("transmit: %w", err)
	}
	return nil
}

func (s *Sender) end() { s.turn <- struct{}{} }

// transfer sends the memory in job.parts.
func (s *Sender) transfer(ctx context.Context) (Completion, error) {
	if err := s.openMemory(); err != nil {
		return Completion{}, err
	}
	if len(s.job.rest) > 0 {
		s.drive(ctx)
	}
	return s.closeMemory()
}

// openMemory begins a transfer of the memory in job.parts.
func (s *Sender) openMemory() error {
	j := &s.job
	j.vector = len(j.parts) > 1
	lent := j.loan
	j.loan = nil
	if err := s.open(); err != nil {
		if lent != nil {
			lent.returned(false)
		}
		return err
	}
	if s.o.Backend == IoUringSend && s.ru == nil && s.kind != kindFile {
		s.noteCause(IoUringSend, Write, "fast-path-refused", "the sender has no ring", errors.ErrUnsupported, false)
	}
	s.mu.Lock()
	if e := &s.led.entries[j.entry]; lent != nil {
		e.loans = append(e.loans, lent)
	} else {
		e.parts = append(e.parts, j.parts...)
	}
	s.mu.Unlock()
	j.run = s.memory
	if s.kind.datagrams() {
		j.run = s.datagram
	} else {
		if s.vm.moved = 0; s.vmsplices() {
			j.run = s.pages
		}
		j.parts = dropEmpty(j.parts)
	}
	j.rest = j.parts
	return nil
}

// closeMemory ends a transfer of memory.
func (s *Sender) closeMemory() (Completion, error) {
	j := &s.job
	clear(j.parts)
	j.rest = nil
	way := Write
	if j.vector {
		way = Writev
	}
	s.endPages()
	switch u := s.ru; {
	case 2*s.vm.moved > j.result.Bytes:
		way = Vmsplice
	case j.lent > j.result.PlainBytes && u != nil && 2*u.lent > j.lent:
		way = IoUringSendZC
	case j.lent > j.result.PlainBytes:
		way = MsgZerocopy
	case u != nil && 2*u.plain > j.result.PlainBytes:
		way = IoUringSend
	}
	if s.ru != nil {
		s.ru.fixed, s.ru.why = -1, nil
	}
	return s.close(way)
}

// open begins a transfer.
func (s *Sender) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("transmit: %w", net.ErrClosed)
	}
	j := &s.job
	if s.ru != nil {
		s.ru.lent, s.ru.plain = 0, 0
	}
	j.entry, j.result, j.lent, j.whole, j.plain, j.more, j.shared, j.err = s.led.open(), Result{}, 0, 0, 0, false, false, nil
	return nil
}

// close ends a transfer that went by way.
func (s *Sender) close(way Backend) (Completion, error) {
	j := &s.job
	j.run = nil
	j.result.Backend = way
	s.mu.Lock()
	c := Completion{s: s, entry: j.entry, gen: s.led.entries[j.entry].gen, sent: j.result}
	s.stats.Transfers++
	s.stats.Bytes += j.result.Bytes
	s.stats.PlainBytes += j.result.PlainBytes
	// UDP's notification is the last word; a stream's must be confirmed by the
	// peer, and what nothing notifies has only that.
	gate := j.lent > 0 && (s.kind != kindUDP || !way.Notifies())
	s.led.entries[j.entry].shared = j.shared
	s.led.close(j.entry, j.result, s.sent.Load(), gate)
	watch, soon := s.led.out > 0, s.ru != nil && len(s.led.gated) > 0
	s.mu.Unlock()
	switch {
	case soon:
		watcher.lookBy(s, s.k.Now().Add(lookEvery)) // it may wait for a ring's signal
	case watch:
		watcher.follow(s)
	}
	s.tell()
	if j.err == nil {
		return c, nil
	}
	return c, fmt.Errorf("transmit: after %d bytes: %w", j.result.Bytes, j.err)
}

// drive makes attempts until the job is finished, waiting for the socket between
// them.
func (s *Sender) drive(ctx context.Context) {
	j := &s.job
	var err error
	if ctx.Done() == nil {
		err = s.raw.Write(s.step)
	} else if err = s.raw.Write(s.try); err == nil && j.waits {
		s.ctx.enter(ctx, s.conn)
		err = s.raw.Write(s.step)
		s.ctx.leave()
	}
	if err == nil {
		return
	}
	// The runtime says that the deadline passed or that the connection is closed.
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = cause
	}
	if j.err == nil {
		j.err = err
	}
	s.flush()
}

// attempt makes attempts until there is no room or nothing left. With false the
// runtime calls it again when the socket has room.
func (s *Sender) attempt(fd uintptr) bool {
	j := &s.job
	for {
		before := j.result.Bytes
		v := j.run(int(fd))
		s.yield(j.result.Bytes - before)
		if j.waits = v == wait; j.waits {
			return false
		}
		if v == finish {
			if j.err != nil {
				s.flushFD(int(fd))
			}
			return true
		}
	}
}

// yield lets the scheduler run once in a while. From a goroutine that makes system
// calls for 10 ms without that, the runtime's monitor takes the P in every call that
// it meets from then on, even with nobody to give it to, and looks for that every 20
// microseconds (sysmon and retake in runtime/proc.go, Go 1.26). On one CPU together
// with the monitor, bulk sends of 256 KiB took a quarter more CPU time.
func (s *Sender) yield(bytes int64) {
	if s.unyielded += bytes + callBytes; s.unyielded >= yieldBytes {
		s.unyielded = 0
		runtime.Gosched()
	}
}

const (
	// 1 to 4 milliseconds of copying. A yield is a fifth of a microsecond, and 15 of them
	// for a goroutine that is locked to its thread, which has to hand over.
	yieldBytes = 8 << 20
	callBytes  = 4 << 10 // that a call of few bytes takes as long as
)

// flush sends what a call kept back because more was to follow, and now does not.
func (s *Sender) flush() {
	if s.job.more {
		// The connection may be closed, and then there is nothing to flush.
		_ = s.raw.Control(func(fd uintptr) { s.flushFD(int(fd)) })
	}
}

func (s *Sender) flushFD(fd int) {
	if s.job.more && s.kind == kindTCP {
		if s.tls.on {
			closeRecord(s.k.Sendmsg, fd)
		}
		// Taking the cork out, even where none is in, sends what MSG_MORE kept back
		// (__tcp_sock_set_cork). Where that fails the kernel does it in 200 ms.
		_ = s.k.SetInt(fd, sys.SolTCP, sys.TCPCork, 0)
		s.job.more = false
	}
}

// sendMemory sends a piece of memory on a stream.
func (s *Sender) sendMemory(fd int) verdict {
	j := &s.job
	if len(j.rest) == 0 {
		return finish
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.led.ids.n >= s.reapFrom || s.zc.fullAt > 0 {
		s.drainLocked(fd)
	}
	if s.ru != nil && j.plain == 0 {
		s.ru.askPeer(s, fd)
		if k := s.ringRun(fd); k > 0 {
			return s.lendRing(fd, k)
		}
	}
	j.whole = max(j.whole, len(j.rest[0]))
	if j.plain == 0 {
		if n := s.lendable(fd, j.whole, len(j.rest[0])); n > 0 {
			return s.lend(fd, n)
		}
	}
	most := int(^uint(0) >> 1)
	if j.plain > 0 {
		most = j.plain
	}
	if s.led.ids.n > 0 {
		// While completions are to come the socket must stay writable.
		room := s.makeRoom(fd, min(most, len(j.rest[0])))
		if room == 0 {
			return wait
		}
		most = min(most, room)
	}
	return s.copyOut(fd, most)
}

// reapAt is how many sends later than the last look a send looks for completions.
// They come in ranges, so that looking at each is a system call in vain.
const reapAt = 16

// copyOut copies the parts up to the next that is lent, most bytes at most.
func (s *Sender) copyOut(fd, most int) verdict {
	j := &s.job
	k, total := 1, len(j.rest[0])
	for k < len(j.rest) && k < maxParts && total < most && s.copies(len(j.rest[k])) {
		total += len(j.rest[k])
		k++
	}
	flags := sys.MsgDontwait | sys.MsgNosignal
	if k < len(j.rest) || j.follows {
		flags |= sys.MsgMore
	}
	var n int
	e := syscall.ENOSYS
	if s.copiesByRing() {
		n, e = s.copyRing(fd, k, most, flags, nil)
	}
	if e == syscall.ENOSYS {
		n, e = s.write(fd, k, most, flags)
	}
	switch e {
	case 0:
		j.more = flags&sys.MsgMore != 0
		j.plain = max(j.plain-n, 0)
		s.zc.room -= n
		s.zc.growing.copied(n)
		s.advance(n, false)
		if len(j.rest) == 0 {
			return finish
		}
		return goOn
	case syscall.EAGAIN:
		if s.led.ids.n == 0 {
			s.zc.growing.foundFull()
		}
		return wait
	case syscall.EINTR:
		return goOn
	}
	j.err = sys.Wrap("send", e)
	return finish
}

// maxParts is the most parts that one call takes; UIO_MAXIOV, linux/uio.h.
const maxParts = 1024

// write sends the first k parts, at most that many bytes of them.
func (s *Sender) write(fd, k, most, flags int) (int, syscall.Errno) {
	j := &s.job
	if k == 1 && s.kind != kindFile {
		p := j.rest[0]
		return s.k.Send(fd, p[:min(len(p), most)], flags)
	}
	j.iov = j.iov[:0]
	left := most
	for _, p := range j.rest[:k] {
		p = p[:min(len(p), left)]
		j.iov = sys.AppendIovec(j.iov, p)
		left -= len(p)
	}
	var n int
	var e syscall.Errno
	if s.kind == kindFile {
		n, e = s.k.Writev(fd, j.iov)
	} else {
		n, e = s.k.Sendmsg(fd, j.iov, nil, flags)
	}
	clear(j.iov)
	runtime.KeepAlive(j.rest)
	return n, e
}

// advance takes in that n bytes were sent, lent or copied.
func (s *Sender) advance(n int, lent bool) {
	j := &s.job
	if n <= 0 {
		return
	}
	j.result.Bytes += int64(n)
	s.sent.Add(uint64(n))
	if lent {
		j.lent += int64(n)
	} else {
		j.result.PlainBytes += int64(n)
	}
	for n > 0 {
		p := j.rest[0]
		if n < len(p) {
			j.rest[0] = p[n:]
			return
		}
		n -= len(p)
		j.rest, j.whole = j.rest[1:], 0
	}
}

func dropEmpty(parts [][]byte) [][]byte {
	kept := parts[:0]
	for _, p := range parts {
		if len(p) > 0 {
			kept = append(kept, p)
		}
	}
	return kept
}
