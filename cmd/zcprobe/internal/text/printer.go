// Package text puts words on a terminal or into a file: lines that fit a
// width, aligned columns, colour where it is wanted, and every string made
// safe to show on the way.
package text

import (
	"bufio"
	"io"
	"strings"
)

// Style is how a piece of text looks where colour is on. It never carries
// meaning alone: the word is always there too.
type Style string

// The styles, as SGR parameters.
const (
	Plain   Style = ""
	Bold    Style = "1"
	Faint   Style = "2"
	Good    Style = "1;32"
	Bad     Style = "1;31"
	Caution Style = "1;33"
)

// Span is a piece of text in one style.
type Span struct {
	Text  string
	Style Style
}

// S is a plain span.
func S(s string) Span { return Span{Text: s} }

// B is a bold span.
func B(s string) Span { return Span{s, Bold} }

// F is a faint span.
func F(s string) Span { return Span{s, Faint} }

// Printer writes text of a certain width. It keeps the first error of the
// writer below, which Flush returns.
type Printer struct {
	Width int  // columns of a line
	Color bool // styles are written as escape sequences
	UTF8  bool // the reader's locale shows UTF-8; otherwise all output is ASCII

	w *bufio.Writer
}

// New returns a printer for w, 80 columns wide, without colour, in ASCII.
func New(w io.Writer) *Printer { return &Printer{Width: 80, w: bufio.NewWriter(w)} }

// Flush writes what is buffered and returns the first error of any write.
func (p *Printer) Flush() error { return p.w.Flush() }

// Blank ends a paragraph.
func (p *Printer) Blank() { p.raw("\n") }

// Heading starts a section.
func (p *Printer) Heading(s string) { p.Line(0, B(s)) }

// Line writes one line without wrapping it.
func (p *Printer) Line(indent int, spans ...Span) {
	p.raw(strings.Repeat(" ", indent))
	for _, s := range spans {
		p.span(s.Style, p.escape(s.Text))
	}
	p.raw("\n")
}

// Para writes spans as a paragraph: the first line indented by indent, the
// following ones by hang, none wider than the printer if a word allows.
func (p *Printer) Para(indent, hang int, spans ...Span) {
	p.wrapped(indent, hang, p.wrap(spans, p.Width-indent, p.Width-hang))
}

// wrapped writes lines that were wrapped before.
func (p *Printer) wrapped(indent, hang int, lines [][]Span) {
	for i, l := range lines {
		if len(l) == 0 {
			p.raw("\n")
			continue
		}
		in := hang
		if i == 0 {
			in = indent
		}
		p.raw(strings.Repeat(" ", in))
		for _, s := range l {
			p.span(s.Style, s.Text)
		}
		p.raw("\n")
	}
}

// Command writes a command that can be pasted. A long one is continued with a
// backslash where a shell allows it.
func (p *Printer) Command(indent, hang int, label Span, cmd string) {
	p.raw(strings.Repeat(" ", indent))
	p.span(label.Style, p.escape(label.Text))
	col := indent + columns(label.Text)
	words := shellWords(p.escape(cmd))
	for i, w := range words {
		if i > 0 {
			// Two columns are kept for the backslash of the next break.
			if col+1+columns(w)+2 > p.Width && col > hang+2 {
				p.raw(" \\\n" + strings.Repeat(" ", hang+2))
				col = hang + 2
			} else {
				p.raw(" ")
				col++
			}
		}
		p.span(Bold, w)
		col += columns(w)
	}
	p.raw("\n")
}

// shellWords splits a command line at the spaces outside quotes.
func shellWords(s string) []string {
	var words []string
	var quote rune
	start := 0
	for i, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == ' ':
			if i > start {
				words = append(words, s[start:i])
			}
			start = i + 1
		}
	}
	if start < len(s) {
		words = append(words, s[start:])
	}
	return words
}

func (p *Printer) escape(s string) string { return Escape(s, !p.UTF8) }

// span writes text that is escaped already.
func (p *Printer) span(st Style, s string) {
	if !p.Color || st == Plain || s == "" {
		p.raw(s)
		return
	}
	p.raw("\x1b[" + string(st) + "m" + s + "\x1b[0m")
}

// raw is the only way out. The writer keeps its first error for Flush.
func (p *Printer) raw(s string) { _, _ = p.w.WriteString(s) }
