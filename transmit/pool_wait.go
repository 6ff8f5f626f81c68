package transmit

import (
	"context"
	"fmt"
)

// waiters are the calls of [Pool.Get] that wait, the first first. The pool's lock
// guards them.
type waiters struct {
	first, last *waiter
	spare       *waiter // to use again
	waits       int64
}

type waiter struct {
	got        chan *slot // of one: who hands over never waits
	prev, next *waiter
	queued     bool
}

// hand gives a buffer to the first who waits, or with nil tells it to try again.
// It reports whether anyone waited.
func (q *waiters) hand(s *slot) bool {
	w := q.first
	if w == nil {
		return false
	}
	q.remove(w)
	w.got <- s
	return true
}

func (q *waiters) add() *waiter {
	w := q.spare
	if w == nil {
		w = &waiter{got: make(chan *slot, 1)}
	} else {
		q.spare = w.next
	}
	w.prev, w.next, w.queued = q.last, nil, true
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.waits++
	return w
}

func (q *waiters) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
}

func (q *waiters) keep(w *waiter) { w.next, q.spare = q.spare, w }

// wait waits for a buffer; nil without an error means to try again.
func (p *Pool) wait(ctx context.Context) (*slot, error) {
	p.mu.Lock()
	if p.closed || len(p.free) > 0 || p.live < p.max {
		p.mu.Unlock()
		return nil, nil
	}
	w := p.queue.add()
	p.mu.Unlock()
	select {
	case s := <-w.got:
		p.mu.Lock()
		p.queue.keep(w)
		p.mu.Unlock()
		return s, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.queued {
		p.queue.remove(w)
	} else if s := <-w.got; s != nil {
		p.put(s) // it came too late, and is for the next
	} else {
		p.queue.hand(nil)
	}
	p.queue.keep(w)
	return nil, fmt.Errorf("waiting for a buffer: %w", context.Cause(ctx))
}
