package render

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/lab/bench"
)

// The measures of a picture, in pixels.
const (
	svgWidth, svgHeight = 560, 330 // of a chart
	svgLeft, svgTop     = 70, 40   // of what is drawn in it
	svgPlotW, svgPlotH  = 330, 230
	svgHead             = 56
)

// svgColors tell ways apart, also for most who see few colours (Okabe and Ito,
// "Color Universal Design", 2008); marks do as well.
func svgColors() []string {
	return []string{"#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}
}

// BenchSVG draws the costs: a chart for each source, target and state of the caches,
// with the intervals, and the crossovers as lines that go down.
func BenchSVG(r *bench.Report) []byte {
	charts := benchCharts(r)
	rows := (len(charts) + 1) / 2
	var b bytes.Buffer
	w, h := 2*svgWidth, svgHead+max(rows, 1)*svgHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", w, h)
	svgText(&b, 20, 24, `font-size="16" font-weight="bold"`, "CPU time of the sender for each byte, path "+r.Path)
	svgText(&b, 20, 44, `fill="#444444"`, r.Conclusion)
	for i, c := range charts {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i%2*svgWidth, svgHead+i/2*svgHeight)
		c.svg(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// svgText writes text that may come from anywhere.
func svgText(b *bytes.Buffer, x, y float64, attributes, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(text.Escape(s, false)))
}

func (c *chart) svg(b *bytes.Buffer) {
	a := c.axes()
	place := func(size int64, ns float64) (x, y float64, ok bool) {
		u, v, ok := a.at(size, ns)
		return svgLeft + u*svgPlotW, svgTop + (1-v)*svgPlotH, ok
	}
	svgText(b, svgLeft, svgTop-14, `font-weight="bold"`, fmt.Sprintf("from %s to %s, %s", c.from, c.to, c.cache))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#888888"/>`+"\n", svgLeft, svgTop, svgPlotW, svgPlotH)
	c.svgAxes(b, a)
	colors := svgColors()
	for i, way := range c.ways {
		color := colors[i%len(colors)]
		var line []byte
		for _, n := range c.sizes {
			r, have := c.cells[way][n]
			if !have {
				continue
			}
			x, y, ok := place(n, r.CPUNSPerByte)
			if !ok {
				continue
			}
			line = fmt.Appendf(line, "%.1f,%.1f ", x, y)
			if _, low, ok := place(n, r.CILow); ok {
				if _, high, ok := place(n, r.CIHigh); ok {
					fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-opacity="0.5"/>`+"\n", x, clampY(low), x, clampY(high), color)
				}
			}
			svgText(b, x, y+3, fmt.Sprintf(`text-anchor="middle" font-size="9" fill="%s"`, color), string(letters(c.ways)[i]))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.2"/>`+"\n", bytes.TrimSpace(line), color)
		svgText(b, svgLeft+svgPlotW+12, float64(svgTop+12+16*i), fmt.Sprintf(`fill="%s"`, color), string(letters(c.ways)[i])+" "+string(way))
	}
	c.svgCrossovers(b, a, colors)
}

// clampY keeps the end of an interval inside the chart.
func clampY(y float64) float64 { return min(max(y, svgTop), svgTop+svgPlotH) }

func (c *chart) svgAxes(b *bytes.Buffer, a axes) {
	for _, n := range c.sizes {
		if bits := math.Log2(float64(n)); bits != math.Trunc(bits) || int(bits)%2 != 0 {
			continue
		}
		x, _, _ := a.at(n, 1)
		x = svgLeft + x*svgPlotW
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/>`+"\n", x, svgTop, x, svgTop+svgPlotH)
		svgText(b, x, svgTop+svgPlotH+16, `text-anchor="middle"`, quantity.Size(uint64(n)))
	}
	for e := math.Ceil(a.bottom); e <= a.top; e++ {
		_, v, _ := a.at(1, math.Pow(10, e))
		y := svgTop + (1-v)*svgPlotH
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/>`+"\n", svgLeft, y, svgLeft+svgPlotW, y)
		svgText(b, svgLeft-6, y+4, `text-anchor="end"`, digits(math.Pow(10, e))+" ns")
	}
}

func (c *chart) svgCrossovers(b *bytes.Buffer, a axes, colors []string) {
	for i, x := range c.cross {
		color := colors[max(slices.Index(c.ways, x.Backend), 0)%len(colors)]
		words := fmt.Sprintf("%s pays: %s", x.Backend, sizeOf(x.Bytes))
		svgText(b, svgLeft+svgPlotW+12, float64(svgTop+130+30*i), fmt.Sprintf(`fill="%s"`, color), words)
		svgText(b, svgLeft+svgPlotW+12, float64(svgTop+143+30*i), `fill="#444444" font-size="9"`, fmt.Sprintf("surely %s to %s", sizeOf(x.LowBytes), sizeOf(x.HighBytes)))
		if x.Bytes == nil || *x.Bytes <= 0 {
			continue
		}
		at, _, _ := a.at(*x.Bytes, 1)
		if at < 0 || at > 1 {
			continue
		}
		at = svgLeft + at*svgPlotW
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-dasharray="4 3"/>`+"\n", at, svgTop, at, svgTop+svgPlotH, color)
	}
}
