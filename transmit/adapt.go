package transmit

import (
	"math/bits"
	"time"
)

// adapt decides whether lending memory still pays on a connection: where the
// kernel copies nearly everything after all, it costs more than copying at once.
type adapt struct {
	window  uint16 // the last 16 verdicts of the kernel, 1 copied
	seen    int    // how many of them there are
	until   time.Time
	penalty time.Duration
}

const (
	copiedWindow = 16 // verdicts looked at
	copiedMost   = 12 // of them copied: back off. One may come from anywhere, a tap that comes and goes copies a few
	firstPenalty = time.Second
	mostPenalty  = time.Minute
)

// observe takes in the verdict on n sends, and reports whether to back off.
func (a *adapt) observe(copied bool, n uint32, now func() time.Time) bool {
	for range min(n, copiedWindow) {
		a.window <<= 1
		if copied {
			a.window |= 1
		}
	}
	a.seen = min(a.seen+int(min(n, copiedWindow)), copiedWindow)
	copies := bits.OnesCount16(a.window)
	switch {
	case a.backedOff(): // verdicts of sends made before
	case a.seen == copiedWindow && copies >= copiedMost:
		a.penalty = min(max(2*a.penalty, firstPenalty), mostPenalty)
		a.until = now().Add(a.penalty)
		a.window, a.seen = 0, 0
		return true
	case a.seen == copiedWindow && copies == 0:
		a.penalty = 0
	}
	return false
}

func (a *adapt) backedOff() bool { return !a.until.IsZero() }

// allowed reports whether memory may be lent. After the penalty it may again, to
// see whether the kernel still copies.
func (a *adapt) allowed(now func() time.Time) bool {
	if a.until.IsZero() {
		return true
	}
	if now().Before(a.until) {
		return false
	}
	a.until = time.Time{}
	return true
}
