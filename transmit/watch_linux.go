package transmit

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// watch ends a wait for a socket when a context ends, by setting the deadline of
// the connection to the past. It is asked for only when a send has to wait, and
// kept from one send to the next as long as the context stays the same.
type watch struct {
	quit func() bool

	mu     sync.Mutex
	done   <-chan struct{} // of the context
	conn   writeDeadline
	inside bool
	fired  bool
}

type writeDeadline interface{ SetWriteDeadline(time.Time) error }

var longAgo = time.Unix(1, 0)

func (w *watch) enter(ctx context.Context, c syscall.Conn) {
	conn, ok := c.(writeDeadline)
	if !ok {
		return
	}
	done := ctx.Done()
	w.mu.Lock()
	known := w.done == done
	w.conn, w.done, w.inside = conn, done, true
	w.mu.Unlock()
	if !known {
		if w.quit != nil {
			w.quit()
		}
		w.quit = context.AfterFunc(ctx, func() { w.fire(done) })
	} else if ctx.Err() != nil {
		w.fire(done)
	}
}

// fire ends the wait that is for the given context; that of an earlier one may be
// late.
func (w *watch) fire(done <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inside && w.done == done {
		// Regular files have no deadlines, and do not wait either.
		w.fired = w.conn.SetWriteDeadline(longAgo) == nil
	}
}

func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside = false
	if w.fired {
		w.fired = false
		// A connection that was closed meanwhile has no deadline to take back.
		_ = w.conn.SetWriteDeadline(time.Time{})
	}
}

// stop forgets the context.
func (w *watch) stop() {
	if w.quit != nil {
		w.quit()
	}
	w.quit = nil
	w.mu.Lock()
	w.done = nil
	w.mu.Unlock()
}
