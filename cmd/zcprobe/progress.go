package main

import (
	"fmt"
	"io"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
)

const (
	// progressStep is how much goes between two looks at the clock. Transfers are
	// only cut up for somebody who looks.
	progressStep  = 4 << 20
	progressEvery = 200 * time.Millisecond
)

// transferProgress shows on a terminal how far a transfer is. Elsewhere it does
// nothing.
type transferProgress struct {
	a     *app
	verb  string
	step  int64 // 0: nobody looks
	begun time.Time
	shown time.Time
}

func (a *app) transferProgress(verb string) *transferProgress {
	t := &transferProgress{a: a, verb: verb}
	if a.looksAtStderr() {
		t.step = progressStep
	}
	return t
}

// looksAtStderr reports whether progress is shown.
func (a *app) looksAtStderr() bool {
	_, tty := a.terminal(a.stderr)
	return tty && !a.quiet && a.getenv("TERM") != "dumb"
}

func (t *transferProgress) report(p transfer.Progress) {
	if t.step == 0 {
		return
	}
	now := time.Now()
	switch {
	case t.begun.IsZero():
		t.begun, t.shown = now, now.Add(progressAfter-progressEvery)
		return
	case now.Sub(t.shown) < progressEvery:
		return
	}
	t.shown = now
	_, _ = io.WriteString(t.a.stderr, "\r\x1b[K"+t.line(p, now.Sub(t.begun)))
}

func (t *transferProgress) line(p transfer.Progress, d time.Duration) string {
	s := fmt.Sprintf("zcprobe: %s %s", t.verb, quantity.Size(uint64(p.Bytes)))
	if p.Total > 0 {
		s += fmt.Sprintf(" of %s (%d%%)", quantity.Size(uint64(p.Total)), p.Bytes*100/p.Total)
	}
	if d > 0 {
		s += fmt.Sprintf(", %s/s", quantity.Size(uint64(float64(p.Bytes)/d.Seconds())))
	}
	if p.Way != "" {
		s += ", " + p.Way
	}
	return s
}

// done takes the line away.
func (t *transferProgress) done() {
	if t.step != 0 && !t.begun.IsZero() {
		_, _ = io.WriteString(t.a.stderr, "\r\x1b[K")
	}
	t.begun = time.Time{}
}
