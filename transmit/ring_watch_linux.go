package transmit

import (
	"errors"
	"os"
	"runtime"
	"time"
)

// Who sends takes in notifications as it goes. One goroutine looks for the rest: by
// the clock while others send, and else when the kernel signals an eventfd.

// watch makes somebody look for notifications that are to come. It reports whether
// the reaper has to be told. The lock is held.
func (r *Ring) watch() (kick bool) {
	if r.watched || r.flights.used == 0 {
		return false
	}
	r.watched = true
	return true
}

// kick makes the reaper look after d.
func (r *Ring) kick(d time.Duration) {
	// Setting a deadline fails on a closed descriptor only.
	_ = r.event.SetReadDeadline(time.Now().Add(d))
}

// hurry makes the reaper wait for notifications instead of looking now and then.
func (r *Ring) hurry() {
	r.mu.Lock()
	kick := r.flights.used > 0 && !r.armed && !r.hurried
	r.hurried = r.hurried || kick
	r.watched = r.watched || kick
	r.mu.Unlock()
	if kick {
		r.kick(0)
	}
}

// look takes in what there is, for one who looks at his peer himself.
func (r *Ring) look(self *Sender) {
	list := landings.Get().(*[]landing)
	r.mu.Lock()
	if !r.inside && r.u != nil {
		r.pop(list)
	}
	r.mu.Unlock()
	deliver(list, self)
}

// lookEveryArmed is how long the reaper waits for a signal before it looks all the
// same: nothing promises that the kernel sees the permission to signal before it
// posts the next answer.
const lookEveryArmed = 200 * time.Millisecond

// manyCalls between two signals say that those who send look often enough.
const manyCalls = 8

// reap takes in notifications until the ring is closed and nothing is in flight.
func (r *Ring) reap() {
	var count [8]byte
	calls := uint64(0)
	for {
		_, err := r.event.Read(count[:])
		signalled := err == nil
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			// Only a descriptor that somebody closed: the clock will do.
			time.Sleep(lookEvery)
		}
		list := landings.Get().(*[]landing)
		r.mu.Lock()
		made := r.calls - calls
		calls = r.calls
		if !r.inside {
			r.pop(list)
		}
		armed := made <= 1 || r.hurried || signalled && made < manyCalls
		r.hurried = false
		idle := r.flights.used == 0 && !r.leading
		if r.armed = armed && !idle; !r.inside {
			r.u.Quiet(!r.armed)
			if r.armed {
				r.pop(list)
				idle = r.flights.used == 0 && !r.leading
			}
		}
		if idle {
			r.armed, r.watched = false, false
			r.u.Quiet(true)
		}
		end := idle && r.closed
		next := time.Time{}
		switch {
		case idle:
		case r.armed:
			next = time.Now().Add(lookEveryArmed)
		default:
			next = time.Now().Add(lookEvery)
		}
		if !end {
			// Under the lock, so that it does not undo the deadline of a later kick.
			_ = r.event.SetReadDeadline(next)
		}
		r.mu.Unlock()
		deliver(list, nil)
		if end {
			r.finish()
			return
		}
		runtime.Gosched()
	}
}

// finish gives the ring back.
func (r *Ring) finish() {
	r.bufs.end()
	r.mu.Lock()
	// Of those who come later nobody is to touch the memory.
	r.dead = errors.Join(ErrRingClosed, r.dead)
	_ = r.tearDown()
	r.mu.Unlock()
	close(r.done)
}
