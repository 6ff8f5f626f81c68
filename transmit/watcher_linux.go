package transmit

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// watcher follows the Senders whose memory the kernel holds.
var watcher = &completions{}

// completions releases memory on connections that nobody sends on: one goroutine
// for the process, which ends a second after there is nothing left to follow.
//
// It has an epoll instance of its own. The runtime's cannot be used: waiting for a
// completion there is waiting for reading, which is the application's affair. A
// connection that sends takes in its completions as it goes; once it pauses it is
// armed, for one event at a time, and looked at by the clock for what raises no
// event: the acknowledgement of what nothing notifies, and the connection's end.
type completions struct {
	mu      sync.Mutex
	running bool
	gen     uint32 // of the epoll instance
	file    *os.File
	raw     syscall.RawConn
	epfd    int
	key     uint64
	hot     []*Sender // followed
	armed   map[uint64]*Sender
}

// polling is the watcher's part of a Sender; the watcher locks it.
type polling struct {
	armed bool
	added uint32 // the epoll instance that has the descriptor
	key   uint64
	due   time.Time // when to look next
	turns int       // looks in a row that found nothing new
	sends uint64    // Sender.sent at the last look
	left  uint32    // completions to come at the last look
}

const (
	lookEvery  = 10 * time.Millisecond // while a connection sends, or just did
	lookArmed  = 5 * time.Second       // while an event is to come: the connection may be closed under us
	lingerIdle = time.Second
)

// follow looks after s until the kernel holds nothing of it any more.
func (w *completions) follow(s *Sender) {
	if !s.followed.Load() {
		w.lookBy(s, time.Now().Add(lookEvery))
	}
}

// hurry looks after s at once: somebody waits for it.
func (w *completions) hurry(s *Sender) { w.lookBy(s, time.Now()) }

func (w *completions) lookBy(s *Sender, due time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.followed.Load() {
		if due.Before(s.poll.due) {
			s.poll.due, s.poll.turns = due, 0
			w.kick(due)
		}
		return
	}
	if w.start() != nil {
		return // without an epoll instance sends and waits look themselves
	}
	s.followed.Store(true)
	s.poll.due, s.poll.turns = due, 0
	w.hot = append(w.hot, s)
	w.kick(due)
}

// kick makes the goroutine look again no later than at t.
func (w *completions) kick(t time.Time) {
	// Setting a deadline fails on a closed descriptor only.
	_ = w.file.SetReadDeadline(t)
}

func (w *completions) start() error {
	if w.running {
		return nil
	}
	fd, err := sys.EpollCreate()
	if err != nil {
		return err
	}
	w.file = os.NewFile(uintptr(fd), "epoll")
	if w.raw, err = w.file.SyscallConn(); err != nil {
		return errors.Join(err, w.file.Close())
	}
	w.epfd, w.running, w.armed = fd, true, map[uint64]*Sender{}
	w.gen++
	go w.run(w.file, w.raw)
	return nil
}

// run follows Senders until there has been nothing to follow for a while.
func (w *completions) run(file *os.File, raw syscall.RawConn) {
	var events []sys.EpollEvent
	var ready []*Sender
	look := func(fd uintptr) bool {
		var err error
		events, err = sys.EpollWait(int(fd), events[:0])
		return err != nil || len(events) > 0
	}
	for idle := time.Now(); ; {
		// What ends the wait is an event or the deadline, and the next look tells
		// which.
		waitErr := raw.Read(look)
		now := time.Now()
		w.mu.Lock()
		if errors.Is(waitErr, os.ErrDeadlineExceeded) {
			events, waitErr = sys.EpollWait(w.epfd, events[:0])
		}
		ready = w.due(ready[:0], events, now)
		events = events[:0]
		if len(w.hot) > 0 {
			idle = now
		}
		if waitErr != nil || now.Sub(idle) >= lingerIdle {
			w.running = false
			w.mu.Unlock()
			file.Close()
			return
		}
		w.mu.Unlock()
		for i, s := range ready {
			w.look(s)
			ready[i] = nil
		}
		w.rest(file)
	}
}

// due returns the Senders to look at now: those with events, and those whose time
// has come.
func (w *completions) due(dst []*Sender, events []sys.EpollEvent, now time.Time) []*Sender {
	for _, e := range events {
		if s := w.armed[e.Key]; s != nil {
			delete(w.armed, e.Key)
			s.poll.armed, s.poll.due = false, now
		}
	}
	for _, s := range w.hot {
		if !s.poll.due.After(now) {
			dst = append(dst, s)
		}
	}
	return dst
}

// rest sets the time of the next look.
func (w *completions) rest(file *os.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := time.Now().Add(lingerIdle)
	for _, s := range w.hot {
		if s.poll.due.Before(next) {
			next = s.poll.due
		}
	}
	_ = file.SetReadDeadline(next)
}

// look takes in what the kernel said about one Sender and decides when to look
// again.
func (w *completions) look(s *Sender) {
	sent, waiting := s.sent.Load(), s.waiting.Load() > 0
	w.mu.Lock()
	sending := sent != s.poll.sends && !waiting
	s.poll.sends = sent
	w.mu.Unlock()
	if _, _, gated := s.holds(); !sending || gated > 0 {
		s.lookNow() // who sends takes in notifications, not acknowledgements
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// From here on a send that finds itself not followed asks for it.
	s.followed.Store(false)
	out, left, gated := s.holds()
	if out == 0 {
		w.cool(s)
		return
	}
	s.followed.Store(true)
	p := &s.poll
	if sending || left != p.left {
		p.turns = 0
	} else {
		p.turns++
	}
	p.left = left
	now := time.Now()
	switch {
	case sending:
		p.due = now.Add(lookEvery)
	case gated == 0 && left == 0 && s.flying():
		p.due = now.Add(lookArmed) // the ring tells
	case left > 0 && gated == 0 && p.turns < patience && (p.armed || w.arm(s)):
		p.due = now.Add(lookArmed)
	case waiting:
		p.due = now.Add(min(firstPause<<min(p.turns, 10), mostPause))
	default:
		p.due = now.Add(min(lookEvery<<min(p.turns, 10), 2*mostPause))
	}
}

// The peer is asked after firstPause, and twice as long every time up to
// mostPause.
const (
	firstPause = time.Millisecond
	mostPause  = 50 * time.Millisecond
)

// patience is after how many looks in vain events are no longer waited for: a
// connection with an error pending raises one at once each time.
const patience = 20

// cool ends following s.
func (w *completions) cool(s *Sender) {
	for i, h := range w.hot {
		if h == s {
			last := len(w.hot) - 1
			w.hot[i], w.hot[last] = w.hot[last], nil
			w.hot = w.hot[:last]
			break
		}
	}
	if s.poll.armed {
		// An event still comes, and finds nobody.
		delete(w.armed, s.poll.key)
		s.poll.armed = false
	}
}

// arm asks for one event of s: errors come unasked.
func (w *completions) arm(s *Sender) bool {
	p := &s.poll
	if p.key == 0 {
		w.key++
		p.key = w.key
	}
	var err error
	ctl := s.raw.Control(func(fd uintptr) {
		if p.added == w.gen {
			err = sys.EpollMod(w.epfd, int(fd), sys.EpollOneshot, p.key)
			return
		}
		err = sys.EpollAdd(w.epfd, int(fd), sys.EpollOneshot, p.key)
	})
	if ctl != nil || err != nil {
		return false
	}
	p.added, p.armed = w.gen, true
	w.armed[p.key] = s
	return true
}
