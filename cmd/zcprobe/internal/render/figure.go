package render

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// The figure shows the way of the payload as the usual pictures of zero-copy
// do, left to right through the places where it can lie:
//
//	disk > page cache > user buffer > socket > each device
//
// with one lane for every call, and a numbered mark where the CPU copies or
// reads it. A lane touches the stations it has a dot at.

// Stations before the first device.
const (
	atDisk = iota
	atCache
	atUser
	atSocket
	atDevice
)

// A station is a place the payload can lie in, drawn as a box of two lines.
type station struct {
	top, bottom string
	mid         int // column its lanes pass
}

func (s *station) width() int {
	return max(utf8.RuneCountInString(s.top), utf8.RuneCountInString(s.bottom)) + 2
}

// A lane is the way of one call's payload.
type lane struct {
	label, copies string
	stops         []int
	marks         map[int]string // by the station an arrow leads to
	dead          string         // why there is no way, or ""
}

// A mark is a cause in the legend, [n] a copy and (n) a pass.
type mark struct {
	cause probe.PathCause
	name  string
}

// strokes are the characters of a figure.
type strokes struct {
	h, v, copy, head, dot                string
	topLeft, topRight, botLeft, botRight string
	down                                 string
}

var (
	boxStrokes   = strokes{"─", "│", "═", "▶", "●", "┌", "┐", "└", "┘", "┬"}
	asciiStrokes = strokes{"-", "|", "=", ">", "o", "+", "+", "+", "+", "+"}
)

// figureLanes are the calls that are drawn, if the path has them.
var figureLanes = []struct{ api, source, label string }{
	{"write", "file", "read + write"},
	{"sendfile", "file", "sendfile"},
	{"splice", "file", "splice"},
	{"write", "memory", "write"},
	{"msg_zerocopy", "memory", "msg_zerocopy"},
	{"io_uring_send_zc", "memory", "io_uring_send_zc"},
}

// Columns left of the first station: the call, and how often it copies.
const (
	labelWidth = 16
	figureLeft = labelWidth + 1 + len("copies") + 2
)

func figure(p *text.Printer, r *probe.PathReport) {
	if len(r.Hops) == 0 {
		return
	}
	f := newPicture(p, r)
	if len(f.lanes) == 0 {
		return
	}
	f.place(p.Width - figureLeft)
	p.Blank()
	for _, l := range f.draw() {
		p.Line(0, text.S(l))
	}
	f.legend(p)
}

type picture struct {
	s        strokes
	stations []station
	lanes    []lane
	marks    []mark
	devices  []string // of the hops, as the causes name them
	joined   bool     // all devices share one station
}

func newPicture(p *text.Printer, r *probe.PathReport) *picture {
	f := &picture{s: asciiStrokes, stations: []station{
		{top: "disk"}, {top: "page", bottom: "cache"}, {top: "user", bottom: "buffer"}, {top: "socket", bottom: "buffer"},
	}}
	if p.UTF8 {
		f.s = boxStrokes
	}
	room := p.Width - figureLeft - f.fixedWidth()
	for _, h := range r.Hops {
		below := h.Driver
		if below == "" {
			below = h.Kind
		}
		st := station{top: text.Escape(h.Device, true), bottom: text.Escape(below, true)}
		f.stations = append(f.stations, st)
		f.devices = append(f.devices, h.Device)
		room -= max(st.width()+1, minArrow+1)
	}
	if room < 0 && len(r.Hops) > 1 || room < -8 {
		f.joined = true
		f.stations = append(f.stations[:atDevice], station{top: "devices", bottom: fmt.Sprintf("(%d)", len(r.Hops))})
	}
	proto := "udp"
	if slices.ContainsFunc(r.APIs, func(a probe.APIReport) bool { return a.Protocol == "tcp" }) {
		proto = "tcp"
	}
	for _, l := range figureLanes {
		if a := pick(r.APIs, proto, l.api, l.source); a != nil {
			f.lanes = append(f.lanes, f.lane(a, l.label))
		}
	}
	return f
}

// minArrow is the least distance of two stations: room for ==[1]=> between the dots.
const minArrow = 8

func (f *picture) fixedWidth() int {
	n := 0
	for i := range f.stations {
		n += f.stations[i].width() + 1
	}
	return n
}

// pick returns the prediction that is drawn: the largest TCP transfer, or the
// datagram that is one packet.
func pick(all []probe.APIReport, proto, api, source string) *probe.APIReport {
	var best *probe.APIReport
	for i := range all {
		a := &all[i]
		if a.Protocol != proto || a.API != api || a.Source != source {
			continue
		}
		if best == nil || proto == "tcp" && a.SizeBytes > best.SizeBytes {
			best = a
		}
	}
	return best
}

func (f *picture) lane(a *probe.APIReport, label string) lane {
	l := lane{label: label, copies: count(a.Copies), marks: map[int]string{}}
	if a.Supported != nil && !*a.Supported {
		l.copies, l.dead = "-", "not supported here"
		return l
	}
	switch {
	case a.Source == "memory":
		l.stops = []int{atUser, atSocket}
	case a.API == "write":
		l.stops = []int{atDisk, atCache, atUser, atSocket}
	default:
		l.stops = []int{atDisk, atCache, atSocket}
	}
	for i := atDevice; i < len(f.stations); i++ {
		l.stops = append(l.stops, i)
	}
	for _, c := range a.Causes {
		l.marks[f.where(c)] += f.mark(c)
	}
	return l
}

// where returns the station whose arrow a cause belongs to.
func (f *picture) where(c probe.PathCause) int {
	if c.ID == "read-copy" {
		return atUser
	}
	last := len(f.stations) - 1
	if c.Device != "" {
		if i := slices.Index(f.devices, c.Device); i >= 0 {
			return min(atDevice+i, last)
		}
	}
	switch c.Mechanism {
	case probe.AtSend, probe.AtSpliceRead, probe.AtCrypto:
		return atSocket
	case probe.AtIngress:
		return last
	}
	return atDevice
}

// mark returns the sign of a cause, [1] or (1), and keeps it for the legend.
// What is neither copy nor pass has none.
func (f *picture) mark(c probe.PathCause) string {
	k, ok := probe.LookupCause(c.ID)
	if ok && k.Kind != probe.KindCopy && k.Kind != probe.KindPass {
		return ""
	}
	i := slices.IndexFunc(f.marks, func(m mark) bool { return m.cause.ID == c.ID && m.cause.Device == c.Device })
	if i >= 0 {
		return f.marks[i].name
	}
	n := len(f.marks) + 1
	name := fmt.Sprintf("[%d]", n)
	if ok && k.Kind == probe.KindPass {
		name = fmt.Sprintf("(%d)", n)
	}
	f.marks = append(f.marks, mark{c, name})
	return name
}

// place gives every station its column so that arrows have room for their
// marks, and spreads what is left of the width.
func (f *picture) place(room int) {
	need := make([]int, len(f.stations)) // distance from the station before
	for i := 1; i < len(need); i++ {
		need[i] = minArrow
		for _, l := range f.lanes {
			if m := l.marks[i]; m != "" {
				need[i] = max(need[i], len(m)+4)
			}
		}
	}
	x := 0
	for i := range f.stations {
		s := &f.stations[i]
		half := s.width() / 2
		mid := x + half
		if i > 0 {
			mid = max(mid, f.stations[i-1].mid+need[i])
		}
		s.mid = mid
		x = mid - half + s.width() + 1
	}
	spare := room - x
	for i := 1; i < len(f.stations) && spare > 0; i++ {
		f.shift(i, min(spare/(len(f.stations)-1), 3))
	}
}

// shift moves the stations from i on to the right.
func (f *picture) shift(i, n int) {
	for ; i < len(f.stations); i++ {
		f.stations[i].mid += n
	}
}

// canvas is a line that is drawn on.
type canvas []rune

func (c *canvas) put(x int, s string) {
	for _, r := range s {
		for len(*c) <= x {
			*c = append(*c, ' ')
		}
		(*c)[x] = r
		x++
	}
}

func (c canvas) String() string { return strings.TrimRight(string(c), " ") }

// draw returns the lines of the figure.
func (f *picture) draw() []string {
	rows := make([]canvas, 4)
	rows[2].put(0, "call")
	rows[2].put(labelWidth+1, "copies")
	for _, s := range f.stations {
		w := s.width()
		x := figureLeft + s.mid - w/2
		line := strings.Repeat(f.s.h, w-2)
		rows[0].put(x, f.s.topLeft+line+f.s.topRight)
		rows[1].put(x, f.s.v+centre(s.top, w-2)+f.s.v)
		rows[2].put(x, f.s.v+centre(s.bottom, w-2)+f.s.v)
		rows[3].put(x, f.s.botLeft+line+f.s.botRight)
		rows[3].put(figureLeft+s.mid, f.s.down)
	}
	for _, l := range f.lanes {
		rows = append(rows, f.drawLane(l))
	}
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.String()
	}
	return out
}

func centre(s string, w int) string {
	left := (w - utf8.RuneCountInString(s)) / 2
	return strings.Repeat(" ", left) + s + strings.Repeat(" ", w-left-utf8.RuneCountInString(s))
}

func (f *picture) drawLane(l lane) canvas {
	var c canvas
	c.put(0, l.label)
	c.put(labelWidth+1+(len("copies")-len(l.copies))/2, l.copies)
	if l.dead != "" {
		c.put(figureLeft+f.stations[atUser].mid, l.dead)
		return c
	}
	for i, stop := range l.stops {
		to := figureLeft + f.stations[stop].mid
		if i > 0 {
			from := figureLeft + f.stations[l.stops[i-1]].mid + 1
			c.put(from, f.arrow(to-from, l.marks[stop], stop == atCache))
		}
		c.put(to, f.s.dot)
	}
	return c
}

// arrow is n columns long; a copy is drawn double.
func (f *picture) arrow(n int, mark string, dma bool) string {
	stroke := f.s.h
	switch {
	case strings.Contains(mark, "["):
		stroke = f.s.copy
	case mark == "" && dma:
		mark = "dma"
	}
	left := (n - 1 - len(mark)) / 2
	right := n - 1 - len(mark) - left
	return strings.Repeat(stroke, left) + mark + strings.Repeat(stroke, right) + f.s.head
}

// legend explains the marks.
func (f *picture) legend(p *text.Printer) {
	var rows [][]text.Span
	for _, m := range f.marks {
		name := m.cause.ID
		if m.cause.Device != "" {
			name += " (" + m.cause.Device + ")"
		}
		what := ""
		if k, ok := probe.LookupCause(m.cause.ID); ok {
			what = k.Summary
		}
		if m.cause.Expected {
			what += " (expected)"
		}
		rows = append(rows, []text.Span{text.S(m.name), text.B(name), text.S(what)})
	}
	if rows == nil {
		return
	}
	p.Blank()
	p.Table(2, nil, rows)
}
