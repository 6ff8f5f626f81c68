package transmit

import (
	"github.com/zcprobe/zcprobe/internal/sys"
)

// target is what an *os.File is that is sent to.
type target struct {
	kind uint32 // sys.Mode*
	// blocking says that a write may hold the thread: the descriptor is in blocking
	// mode, so the runtime does not watch it either.
	blocking bool
}

func (t *target) look(k *calls, fd int) error {
	st, err := k.Fstat(fd)
	if err != nil {
		return err
	}
	flags, err := k.StatusFlags(fd)
	t.kind, t.blocking = st.Mode&sys.ModeType, flags&sys.OpenNonblock == 0
	return err
}

// refers reports whether references to pages stay in what is sent to, to be
// consumed by somebody else. Files copy into pages of their own.
func (t *target) refers() bool {
	return t.kind == 0 || t.kind == sys.ModeFIFO || t.kind == sys.ModeSocket
}

// holds reports whether a write of more than blockingPipeBytes may hold the thread.
func (t *target) holds() bool { return t.blocking && t.kind == sys.ModeFIFO }

// wouldHold reports whether a write to a blocking pipe would hold the thread: it is
// full, and somebody may read it.
func (s *Sender) wouldHold(fd int) bool {
	got, err := s.calls.Poll(fd, sys.PollOut, 0)
	return err == nil && got == 0
}

// askReader finds out how much the reader of a pipe, or of a socket that came as a
// file, has taken. Bytes that others wrote behind ours only make it look like less.
func (s *Sender) askReader(fd int, sent uint64) {
	if s.to.kind != sys.ModeFIFO {
		if outQueueEmpty(s.k, fd) {
			s.led.acknowledge(sent)
		}
		return
	}
	queued, e := s.k.InQueue(fd)
	if e != 0 {
		return
	}
	s.led.acknowledge(sent - min(uint64(queued), sent))
	if len(s.led.gated) == 0 {
		return
	}
	if got, err := s.k.Poll(fd, 0, 0); err == nil && got&sys.PollErr != 0 {
		s.led.openGate(ErrUnacknowledged) // nobody has it open for reading
	}
}
