package transmit

import (
	"context"
	"fmt"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// drain looks at what the kernel has said, from any goroutine.
func (s *Sender) drain(fd uintptr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainLocked(int(fd))
}

// mostEntries bounds how many entries of the error queue one look takes, so that
// a flood of foreign ones holds nobody up.
const mostEntries = 256

// drainLocked empties the error queue, and releases what the peer acknowledged.
func (s *Sender) drainLocked(fd int) {
	if s.led.ids.n > 0 {
		s.readErrqueue(fd)
	}
	s.reapFrom = s.led.ids.n + reapAt
	if len(s.led.gated) > 0 {
		s.askPeer(fd)
	}
}

func (s *Sender) readErrqueue(fd int) {
	for range mostEntries {
		n, e := s.k.Errqueue(fd, s.oob[:])
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			// EAGAIN: it is empty. Nothing else is known to come, and the memory
			// stays lent if it does.
			return
		}
		entries, err := sys.AppendErrqueue(s.ee[:0], s.oob[:n])
		if err != nil || len(entries) == 0 {
			s.foreignEntry(s.oob[:n])
			continue
		}
		for _, entry := range entries {
			if entry.Origin != sys.OriginZerocopy {
				s.foreignEntry(s.oob[:n])
				continue
			}
			s.notified(entry.Lo, entry.Hi, entry.Code&sys.ZerocopyCopied != 0)
		}
	}
}

func (s *Sender) foreignEntry(control []byte) {
	s.stats.ForeignEntries++
	if s.o.OnErrqueue != nil {
		s.o.OnErrqueue(control)
	}
}

// notified takes in that the kernel is done with the sends lo to hi.
func (s *Sender) notified(lo, hi uint32, copied bool) {
	if !s.zc.numbered && s.led.ids.n == 1 {
		s.led.sound(lo)
		s.zc.numbered = true
	}
	before := s.led.foreign
	s.led.notify(lo, hi, copied)
	foreign := s.led.foreign - before
	n := uint64(hi-lo) + 1 - foreign
	s.stats.Notified += int64(n)
	if foreign > 0 {
		s.stats.ForeignEntries++
	}
	if copied {
		s.stats.CopiedSends += int64(n)
	}
	s.zc.adapt.observe(copied, uint32(n), s.k.Now)
}

// askPeer finds out how much the peer has acknowledged. It is at least what we
// have sent less what is in the queue: bytes that others wrote in between only
// make it look like less.
func (s *Sender) askPeer(fd int) {
	sent := s.sent.Load()
	if s.kind == kindFile {
		s.askReader(fd, sent)
		return
	}
	queued, e := s.k.OutQueue(fd)
	if e != 0 {
		return
	}
	switch {
	case s.kind == kindTCP:
		s.led.take(s.peerHas(sent - min(uint64(queued), sent)))
	case queued == 0: // of other sockets the queue counts memory
		s.led.acknowledge(sent)
	}
	if len(s.led.gated) > 0 && s.kind == kindTCP {
		// What was queued on a connection that is dead is freed.
		if p, e := s.k.TCPInfo(fd); e == 0 && p.State == sys.TCPStateClose {
			s.led.openGate(ErrUnacknowledged)
		}
	}
}

func (s *Sender) released(c Completion) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.led.entries[c.entry]
	return e.gen != c.gen || !e.out
}

// await waits for the release of a transfer.
func (s *Sender) await(ctx context.Context, c Completion) (Result, error) {
	for looked := false; ; looked = true {
		s.mu.Lock()
		e := &s.led.entries[c.entry]
		if e.gen != c.gen || !e.out {
			r, err := c.sent, error(nil)
			if e.gen == c.gen {
				r, err = e.result, e.err
				e.wake() // of several who wait only one was woken
			}
			s.mu.Unlock()
			return r, err
		}
		if !looked {
			s.mu.Unlock()
			s.lookRing()
			s.lookNow()
			continue
		}
		if e.woken == nil {
			e.woken = make(chan struct{}, 1)
		}
		woken := e.woken
		e.waiters++
		s.mu.Unlock()
		s.waiting.Add(1)
		watcher.hurry(s)
		s.hurryRing()
		var err error
		select {
		case <-woken:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.waiting.Add(-1)
		s.mu.Lock()
		e = &s.led.entries[c.entry]
		if e.gen == c.gen {
			e.waiters--
		}
		s.mu.Unlock()
		if err != nil {
			return c.sent, fmt.Errorf("transmit: %w", err)
		}
	}
}

// lookNow looks at what the kernel has said, and gives up what is out if the
// connection was closed by somebody else.
func (s *Sender) lookNow() {
	if err := s.raw.Control(s.reap); err != nil {
		s.abandon()
	}
}

// holds returns how many transfers are not released, how many completions are to
// come, and how many transfers only wait for the peer.
func (s *Sender) holds() (out int, left uint32, gated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.led.out == 0 {
		s.led.shrink()
	}
	return s.led.out, s.led.ids.n, len(s.led.gated)
}
