package text

import "strings"

// wrap breaks spans into lines at spaces: the first at most first columns
// wide, the others at most rest. A word that fits no line is cut, so that
// nothing is lost to a narrow terminal. The result is escaped.
func (p *Printer) wrap(spans []Span, first, rest int) [][]Span {
	w := wrapper{width: max(first, 8), rest: max(rest, 8)}
	for _, s := range spans {
		for i, word := range strings.Split(p.escape(s.Text), " ") {
			if i > 0 {
				w.space = true
			}
			if word != "" {
				w.word(word, s.Style)
			}
		}
	}
	if len(w.line) > 0 || len(w.lines) == 0 {
		w.lines = append(w.lines, w.line)
	}
	return w.lines
}

type wrapper struct {
	lines       [][]Span
	line        []Span
	col         int
	space       bool // a space goes before the next word of this line
	width, rest int
}

func (w *wrapper) word(s string, st Style) {
	n := columns(s)
	sep := 0
	if w.space && w.col > 0 {
		sep = 1
	}
	if w.col+sep+n > w.width && w.col > 0 && (w.space || w.col >= w.width) {
		w.flush()
		sep = 0
	}
	for w.col+sep+n > w.width {
		head := cut(s, w.width-w.col-sep)
		if head == "" {
			break
		}
		w.add(head, st, sep)
		w.flush()
		s, sep = s[len(head):], 0
		n = columns(s)
	}
	w.add(s, st, sep)
	w.space = false
}

func (w *wrapper) add(s string, st Style, sep int) {
	if s == "" {
		return
	}
	if sep > 0 {
		// The space takes the style of what stands before it, so that a
		// run of equally styled words is one piece.
		if k := len(w.line) - 1; k >= 0 && w.line[k].Style == st {
			w.line[k].Text += " " + s
			w.col += 1 + columns(s)
			return
		}
		w.line = append(w.line, Span{Text: " "})
		w.col++
	} else if k := len(w.line) - 1; k >= 0 && w.line[k].Style == st {
		w.line[k].Text += s
		w.col += columns(s)
		return
	}
	w.line = append(w.line, Span{s, st})
	w.col += columns(s)
}

func (w *wrapper) flush() {
	w.lines = append(w.lines, w.line)
	w.line, w.col, w.space = nil, 0, false
	w.width = w.rest
}

// cut returns the longest prefix of s that is at most n columns wide.
func cut(s string, n int) string {
	col := 0
	for i, r := range s {
		c := columns(string(r))
		if col+c > n {
			return s[:i]
		}
		col += c
	}
	return s
}
