package transmit

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// Whoever comes first hands over the requests of all who come meanwhile: it leads.
// Requests are made inside of io_uring_enter, since sockets of Go never block, so
// that their first answers are there when it returns. Nobody waits in the kernel.

// landings are lists of notifications on their way from a ring to Senders.
var landings = sync.Pool{New: func() any { return new([]landing) }}

// submit hands over requests and returns when each has its first answer. No lock of
// a Sender may be held.
func (r *Ring) submit(w *arrival, reqs ...*request) {
	r.mu.Lock()
	w.left = len(reqs)
	for _, q := range reqs {
		q.by, q.res, q.more, q.lost, q.refused = w, 0, false, false, nil
	}
	r.queue = append(r.queue, reqs...)
	switch {
	case r.leading:
		r.crowded = true
		w.parked = true
		r.mu.Unlock()
		if lead := <-w.ready; !lead {
			return
		}
		r.mu.Lock()
	case r.crowded:
		// Others are about: their requests may come along.
		r.leading = true
		r.mu.Unlock()
		runtime.Gosched()
		r.mu.Lock()
	default:
		r.leading = true
	}
	list := landings.Get().(*[]landing)
	for w.left > 0 {
		r.commit(list)
	}
	r.leading = len(r.queue) > 0
	if r.leading {
		r.queue[0].by.wake(true)
	}
	kick := r.watch()
	r.mu.Unlock()
	if kick {
		r.kick(lookEvery)
	}
	deliver(list, reqs[0].s)
}

// wake lets a goroutine go on that waits for its answers, to lead or not.
func (w *arrival) wake(lead bool) {
	if w.parked {
		w.parked = false
		w.ready <- lead
	}
}

// answered takes in that a request has its first answer.
func (q *request) answered() {
	if q.by.left--; q.by.left == 0 {
		q.by.wake(false)
	}
}

// commit hands over what is queued, as much as one call takes, and takes in answers.
// The lock is held, and let go in the meantime.
func (r *Ring) commit(list *[]landing) {
	n := min(len(r.queue), r.o.Requests)
	r.batch = r.batch[:0]
	r.crowded = r.crowded && n > 1 || len(r.queue) > n
	r.stats.Requests += int64(n)
	for i, q := range r.queue[:n] {
		r.queue[i] = nil
		switch {
		case r.dead != nil:
			r.refuse(q, r.dead)
		case r.closed:
			r.refuse(q, ErrRingClosed)
		case !r.flights.begin(q):
			r.refuse(q, errRingFull)
		default:
			r.u.Push(q.sqe) // has room: nothing else is in the queue
			r.batch = append(r.batch, q.sqe.UserData)
		}
	}
	left := copy(r.queue, r.queue[n:])
	clear(r.queue[left:])
	r.queue = r.queue[:left]
	if len(r.batch) > 0 {
		r.enter(list)
	}
}

// errRingFull says that as many sends are in flight as the ring may have.
var errRingFull = fmt.Errorf("as many sends are in flight as the ring may have: %w", syscall.EBUSY)

// refuse answers a request that was not made.
func (r *Ring) refuse(q *request, err error) {
	r.stats.Refused++
	q.res, q.refused = -int32(syscall.ECANCELED), err
	q.answered()
}

// enter makes the requests that were pushed, and takes in answers until each has
// its first. The lock is held, and let go in the meantime.
func (r *Ring) enter(list *[]landing) {
	if r.armed {
		r.u.Quiet(true) // answers to this call are looked at anyway
	}
	r.calls++
	for try := 0; r.unanswered() && r.dead == nil; try++ {
		pending := r.u.Pending()
		wait, flags := uint32(0), uint32(0)
		if pending == 0 {
			wait, flags = 1, sys.UringEnterGetevents // one is made later, by a link or a worker
		} else {
			r.stats.Calls++
		}
		r.inside = true
		r.mu.Unlock()
		n, err := r.k.Enter(r.fd, uint32(pending), wait, flags)
		r.mu.Lock()
		r.inside = false
		r.pop(list)
		switch {
		case err == nil && n > 0 && r.u.Pending() == pending:
			r.die(syscall.EBADF) // it was another ring's descriptor
		case err == nil || errors.Is(err, syscall.EINTR):
			if n > 0 {
				try = 0
			}
			if try > mostTries && pending > 0 {
				r.retract(syscall.ENOMEM)
			}
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EBUSY):
			// No memory, or no place for answers. Both may pass.
			r.flush(list)
			if try > mostTries {
				r.retract(syscall.ENOMEM)
			}
		default:
			r.die(err)
		}
	}
	if r.dead != nil && r.unanswered() {
		r.leaveBehind(list)
	}
	if r.armed {
		r.u.Quiet(false)
		r.pop(list) // what came before the kernel could know
	}
}

// unanswered reports whether a request of the batch has no answer yet.
func (r *Ring) unanswered() bool {
	for _, id := range r.batch {
		if x := r.flights.of(id); x != nil && x.req != nil {
			return true
		}
	}
	return false
}

// die ends the use of the ring: its descriptor is gone, or the process may not use
// it any more. Answers to what was made before still come.
func (r *Ring) die(err error) {
	r.dead = err
	r.broken.Store(true)
	r.retract(err)
}

// retract refuses the requests of the batch that the kernel has not taken: the last.
func (r *Ring) retract(err error) {
	n := r.u.Retract()
	for _, id := range r.batch[len(r.batch)-n:] {
		if x := r.flights.of(id); x != nil && x.req != nil {
			q := x.req
			x.first, x.more, x.req = true, false, nil
			r.flights.end(id)
			r.refuse(q, err)
		}
	}
}

// leaveBehind waits a while for answers of a ring that cannot be entered, and then
// gives them up: whether these requests sent anything is not known.
func (r *Ring) leaveBehind(list *[]landing) {
	for range 100 {
		r.mu.Unlock()
		time.Sleep(time.Millisecond)
		r.mu.Lock()
		if r.pop(list); !r.unanswered() {
			return
		}
	}
	for _, id := range r.batch {
		if x := r.flights.of(id); x != nil && x.req != nil {
			// Its memory stays lent for as long as nothing is heard of it.
			q := x.req
			x.req, x.first, x.more = nil, true, true
			q.more, q.lost = true, true
			q.answered()
		}
	}
}

// flush makes the kernel bring answers that found no place.
func (r *Ring) flush(list *[]landing) {
	if r.dead != nil {
		return
	}
	r.stats.Overflows++
	r.inside = true
	r.mu.Unlock()
	_, err := r.k.Enter(r.fd, 0, 0, sys.UringEnterGetevents)
	r.mu.Lock()
	r.inside = false
	if err != nil && !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EBUSY) {
		r.die(err)
	}
	r.popReady(list)
}

// pop takes in all answers. The lock is held, and let go if some found no place.
func (r *Ring) pop(list *[]landing) {
	r.popReady(list)
	for try := 0; try < mostTries && r.dead == nil && r.u.Overflowed(); try++ {
		r.flush(list)
	}
}

func (r *Ring) popReady(list *[]landing) {
	for {
		c, ok := r.u.Pop()
		if !ok {
			return
		}
		x := r.flights.of(c.UserData)
		if x == nil {
			continue // nobody's: a request that was tried when the ring was made
		}
		if c.Flags&sys.UringCQENotif != 0 {
			x.notified, x.copied = true, uint32(c.Res)&sys.UringNotifCopied != 0
		} else if q := x.req; q != nil {
			x.first, x.more, x.bytes, x.req = true, c.Flags&sys.UringCQEMore != 0, max(c.Res, 0), nil
			q.res, q.more = c.Res, x.more
			q.answered()
		}
		r.land(c.UserData, x, list)
	}
}

// land ends a flight of which nothing more is to come.
func (r *Ring) land(id uint64, x *flight, list *[]landing) {
	if x.first && x.lends && x.bytes > 0 && !x.notified {
		r.stats.Sends++
	}
	l := landing{s: x.s, item: x.item, gen: x.itemGen, bytes: x.bytes, copied: x.copied}
	if notified := x.more && x.notified; !r.flights.end(id) || !notified {
		return
	}
	if n := len(*list); n > 0 && l.merged(&(*list)[n-1]) {
		l.copied, l.silent = false, true
	}
	if l.bytes > 0 {
		r.stats.Notified++
		switch {
		case l.copied:
			r.stats.Copied++
		case l.silent:
			r.stats.Merged++
		}
	}
	*list = append(*list, l)
}

// deliver gives notifications to their Senders, and the list back. self is who is
// sending, and looks for itself how far its peer is. No lock is held.
func deliver(list *[]landing, self *Sender) {
	l := *list
	for i := range l {
		if s := l[i].s; s.landed(&l[i]) && s != self {
			s.lookNow()
			if _, _, gated := s.holds(); gated > 0 {
				watcher.lookBy(s, time.Now().Add(lookEvery))
			}
		}
	}
	clear(l)
	*list = l[:0]
	landings.Put(list)
}
