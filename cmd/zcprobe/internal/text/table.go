package text

import "strings"

// gap is the space between two columns.
const gap = 2

// maxColumn is the widest a column is made for the sake of one cell. A name
// that was escaped can take four columns for every byte.
const maxColumn = 26

// The wrapping column makes sense in minLast columns and more. In less than
// narrow a text of more than maxLast lines is given the whole width instead.
const (
	minLast = 20
	narrow  = 36
	maxLast = 3
)

// Table writes rows in aligned columns below an optional head. The last column
// wraps; where the others leave it too little room it goes below them.
func (p *Printer) Table(indent int, head []string, rows [][]Span) {
	if len(rows) == 0 {
		return
	}
	if head != nil {
		h := make([]Span, len(head))
		for i, s := range head {
			h[i] = F(s)
		}
		rows = append([][]Span{h}, rows...)
	}
	widths := p.widths(rows)
	for _, r := range rows {
		p.row(indent, widths, r)
	}
}

// widths returns the width of every column but the last.
func (p *Printer) widths(rows [][]Span) []int {
	n := 0
	for _, r := range rows {
		n = max(n, len(r))
	}
	w := make([]int, max(n-1, 0))
	for _, r := range rows {
		for i := range min(len(r), len(w)) {
			w[i] = max(w[i], min(columns(p.escape(r[i].Text)), maxColumn))
		}
	}
	return w
}

func (p *Printer) row(indent int, widths []int, cells []Span) {
	col, want := 0, indent
	for i, c := range cells {
		if i == len(widths) {
			p.last(indent, col, want, c)
			return
		}
		if s := strings.Trim(p.escape(c.Text), " "); s != "" {
			col = p.moveTo(col, want)
			col = p.cell(col, s, c.Style)
		}
		want += widths[i] + gap
	}
	p.raw("\n")
}

// cell writes escaped text at column col, cut into lines if it is wider than
// what is left, and returns the column after it.
func (p *Printer) cell(col int, s string, st Style) int {
	start := col
	for room := max(p.Width-start, 8); columns(s) > room; {
		head := cut(s, room)
		p.span(st, strings.TrimRight(head, " "))
		p.raw("\n" + strings.Repeat(" ", start))
		s = strings.TrimLeft(s[len(head):], " ")
	}
	p.span(st, s)
	return start + columns(s)
}

// last writes the wrapping column: at want, or below and further left if there
// it is too narrow for the text.
func (p *Printer) last(indent, col, want int, c Span) {
	if strings.Trim(c.Text, " ") == "" {
		p.raw("\n")
		return
	}
	lines := p.wrap([]Span{c}, p.Width-want, p.Width-want)
	if below := indent + 4; below < want && (p.Width-want < minLast || p.Width-want < narrow && len(lines) > maxLast) {
		want = below
		lines = p.wrap([]Span{c}, p.Width-want, p.Width-want)
		if col > 0 {
			col = p.Width // go below it
		}
	}
	p.moveTo(col, want)
	p.wrapped(0, want, lines)
}

// moveTo goes from column col to column want, on the next line if what was
// written reaches so far that no gap would be left.
func (p *Printer) moveTo(col, want int) int {
	if col > 0 && col+gap > want {
		p.raw("\n")
		col = 0
	}
	p.raw(strings.Repeat(" ", want-col))
	return want
}

// Columns writes rows in aligned columns, a line each: what does not fit is cut
// off. It is for screens that are drawn again and again.
func (p *Printer) Columns(rows [][]Span) {
	var widths []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], min(columns(p.escape(c.Text)), maxColumn))
		}
	}
	for _, r := range rows {
		col, want := 0, 0
		for i, c := range r {
			s := cut(p.escape(c.Text), p.Width-want)
			if i < len(r)-1 {
				s = cut(s, widths[i])
			}
			if s = strings.TrimRight(s, " "); s != "" {
				p.raw(strings.Repeat(" ", want-col))
				p.span(c.Style, s)
				col = want + columns(s)
			}
			want = min(want+widths[i]+gap, p.Width)
		}
		p.raw("\n")
	}
}
