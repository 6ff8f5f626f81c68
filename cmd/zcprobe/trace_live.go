package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/ebpf"
)

// The size that is assumed of a terminal that does not know its own, and the
// least that is drawn for.
const (
	usualColumns, usualRows = 80, 24
	leastColumns, leastRows = 40, 6
)

// draw puts a frame in the place of the one before. It only moves the cursor and
// clears: a terminal is as it was before whenever it ends.
func (l *liveView) draw(s *ebpf.Summary) error {
	columns, rows := l.size()
	if columns == 0 {
		columns = usualColumns
	}
	if rows == 0 {
		rows = usualRows
	}
	var frame bytes.Buffer
	p := l.a.printerTo(&frame)
	p.Width = max(columns, leastColumns) - 1 // a full line would wrap
	_, tty := l.a.terminal(l.a.stdout.w)
	p.Color = l.a.color == "always" || l.a.color == "auto" && tty && l.a.getenv("NO_COLOR") == ""
	render.TraceLive(p, s, l.last, max(rows, leastRows)-2)
	l.last = s
	if err := p.Flush(); err != nil {
		return err
	}
	lines := strings.SplitAfter(frame.String(), "\n")
	lines = lines[:len(lines)-1]
	lines = lines[:min(len(lines), max(rows, leastRows)-1)]
	var out strings.Builder
	out.WriteString(l.home(columns))
	for _, line := range lines {
		out.WriteString(strings.TrimSuffix(line, "\n") + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	l.lines, l.columns = len(lines), columns
	_, err := l.w.Write([]byte(out.String()))
	return err
}

// home goes to where the frame before began. What a terminal of another width
// has made of that frame is not known: then the screen is cleared.
func (l *liveView) home(columns int) string {
	switch {
	case l.lines == 0:
		return "\r"
	case columns != l.columns:
		return "\x1b[2J\x1b[H"
	}
	return fmt.Sprintf("\r\x1b[%dA", l.lines)
}

// clear takes the frame away.
func (l *liveView) clear() {
	if l == nil || l.lines == 0 {
		return
	}
	columns, _ := l.size()
	if columns == 0 {
		columns = usualColumns
	}
	_, _ = l.w.Write([]byte(l.home(columns) + "\x1b[J")) // the summary's error says the same
	l.lines = 0
}
