package render

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/transmit"
)

// axes are the logarithms between which a chart is drawn.
type axes struct{ left, right, bottom, top float64 }

func (c *chart) axes() axes {
	a := axes{left: math.Inf(1), right: math.Inf(-1), bottom: math.Inf(1), top: math.Inf(-1)}
	for _, n := range c.sizes {
		x := math.Log2(float64(n))
		a.left, a.right = min(a.left, x), max(a.right, x)
	}
	for _, cells := range c.cells {
		for _, r := range cells {
			if y := math.Log10(r.CPUNSPerByte); !math.IsInf(y, 0) && !math.IsNaN(y) {
				a.bottom, a.top = min(a.bottom, y), max(a.top, y)
			}
		}
	}
	if !(a.bottom < a.top) { // one value, or none
		mid := a.bottom
		if math.IsInf(mid, 0) {
			mid = 0
		}
		a.bottom, a.top = mid-1, mid+1
	}
	if !(a.left < a.right) {
		a.left, a.right = a.left-1, a.left+1
	}
	return a
}

// at returns where a cost is drawn, from 0 to 1; false if it is no number.
func (a axes) at(size int64, ns float64) (x, y float64, ok bool) {
	x = (math.Log2(float64(size)) - a.left) / (a.right - a.left)
	y = (math.Log10(ns) - a.bottom) / (a.top - a.bottom)
	return x, y, !math.IsNaN(y) && !math.IsInf(y, 0)
}

// Where the curves of text are drawn.
const (
	plotRows    = 10
	plotColumns = 60
	plotMargin  = 9 // for the numbers of the axis
)

// plot draws the costs with a letter for each way, both axes logarithmic.
func (c *chart) plot(p *text.Printer) {
	a := c.axes()
	grid := make([][]byte, plotRows)
	for i := range grid {
		grid[i] = []byte(strings.Repeat(" ", plotColumns+1))
	}
	letters := letters(c.ways)
	for i, b := range c.ways {
		for n, r := range c.cells[b] {
			x, y, ok := a.at(n, r.CPUNSPerByte)
			if !ok {
				continue
			}
			cell := &grid[plotRows-1-int(math.Round(y*(plotRows-1)))][int(math.Round(x*plotColumns))]
			if *cell != ' ' && *cell != letters[i] {
				*cell = '*'
			} else {
				*cell = letters[i]
			}
		}
	}
	for i, row := range grid {
		label := ""
		if i == 0 || i == plotRows-1 || i == plotRows/2 {
			at := a.top - (a.top-a.bottom)*float64(i)/(plotRows-1)
			label = digits(math.Pow(10, at)) + " ns"
		}
		p.Line(0, text.F(fmt.Sprintf("%*s ", plotMargin, label)), text.S(strings.TrimRight("|"+string(row), " ")))
	}
	p.Line(0, text.S(strings.Repeat(" ", plotMargin+1)+"+"+strings.Repeat("-", plotColumns+1)))
	p.Line(0, text.F(strings.TrimRight(strings.Repeat(" ", plotMargin+2)+c.ticks(a), " ")))
	var legend []string
	for i, b := range c.ways {
		legend = append(legend, string(letters[i])+" "+string(b))
	}
	if len(c.ways) > 1 {
		legend = append(legend, "* several")
	}
	p.Para(plotMargin+2, plotMargin+2, text.S(strings.Join(legend, "   ")))
}

// ticks names sizes below the axis, each centred below its place, where there is room.
func (c *chart) ticks(a axes) string {
	line := []byte(strings.Repeat(" ", plotColumns+8))
	free := 0
	for _, n := range c.sizes {
		if n&(n-1) != 0 {
			continue // looked at for the sake of a crossover
		}
		x, _, _ := a.at(n, 1)
		name := strings.ReplaceAll(quantity.Size(uint64(n)), " ", "")
		name = strings.TrimSuffix(name, "iB")
		at := max(int(math.Round(x*plotColumns))-len(name)/2, 0)
		if at < free || at+len(name) > len(line) {
			continue
		}
		copy(line[at:], name)
		free = at + len(name) + 1
	}
	return string(line)
}

// letters gives each way one of its own.
func letters(ways []transmit.Backend) []byte {
	known := map[transmit.Backend]byte{
		transmit.Write: 'w', transmit.Writev: 'v', transmit.ReadWrite: 'r', transmit.MmapWrite: 'm', transmit.Sendfile: 's',
		transmit.Splice: 'p', transmit.Vmsplice: 'V', transmit.MsgZerocopy: 'Z', transmit.IoUringSend: 'u',
		transmit.IoUringSendZC: 'U', transmit.MmapZerocopy: 'M', transmit.CopyFileRange: 'c',
	}
	out := make([]byte, len(ways))
	for i, b := range ways {
		out[i] = known[b]
		if out[i] == 0 || slices.Contains(out[:i], out[i]) {
			out[i] = byte('0' + i%10)
		}
	}
	return out
}
