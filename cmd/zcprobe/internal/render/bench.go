package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/transmit"
)

// Bench writes from which sizes on which way is cheaper, what stands against the
// figures, and the costs as curves and with Verbose as numbers.
func Bench(p *text.Printer, r *bench.Report, how int) {
	p.Para(0, 2, benchVerdict(r)...)
	if how == Quiet {
		return
	}
	p.Para(2, 2, text.S(r.Conclusion))
	crossovers(p, r)
	for _, c := range benchCharts(r) {
		p.Blank()
		p.Heading(c.title())
		c.plot(p)
		if how == Verbose {
			p.Blank()
			c.table(p)
		}
	}
	remarks(p, r)
	p.Blank()
	p.Para(2, 4, text.F("counted: "), text.S(r.Counted+"."))
	p.Para(2, 4, text.F("not counted: "), text.S(r.NotCounted+"."))
	if r.Source != "" {
		p.Para(2, 4, text.F("files: "), text.S(r.Source+", in the page cache."))
	}
	p.Para(2, 4, text.F("took: "), text.S(time.Duration(r.DurationNS).Round(100*time.Millisecond).String()))
	saved(p, r)
}

func saved(p *text.Printer, r *bench.Report) {
	if r.Saved != "" {
		p.Para(2, 4, text.F("calibration: "), text.S("saved in "+r.Saved))
	}
	if r.SavedNote != "" {
		p.Para(2, 4, text.F("calibration: "), text.S(r.SavedNote))
	}
}

// BenchPlan writes what a run would make and send.
func BenchPlan(p *text.Printer, r *bench.Report) {
	p.Heading("Would measure the path " + r.Path)
	for _, s := range r.Would {
		p.Para(2, 4, text.S("- "+s))
	}
}

// benchVerdict says the one thing that most want to know: from which size on
// memory is better lent.
func benchVerdict(r *bench.Report) []text.Span {
	if !r.Conclusive {
		return []text.Span{{Text: "Nothing concluded", Style: text.Caution}, text.S(" about the path " + r.Path)}
	}
	var parts []string
	for _, c := range r.Crossovers {
		if c.Backend != transmit.MsgZerocopy {
			continue
		}
		switch {
		case c.Bytes == nil:
			parts = append(parts, fmt.Sprintf("%s: at no size", c.Cache))
		default:
			parts = append(parts, fmt.Sprintf("%s: from %s on", c.Cache, quantity.Size(uint64(*c.Bytes))))
		}
	}
	path := "  in the laboratory"
	if r.Path != bench.PathLab {
		path = "  to " + r.Path
	}
	if len(parts) == 0 {
		return []text.Span{{Text: "Measured", Style: text.Good}, text.S(path)}
	}
	return []text.Span{{Text: "Lending memory pays " + strings.Join(parts, ", "), Style: text.Good}, text.S(path)}
}

func crossovers(p *text.Printer, r *bench.Report) {
	if len(r.Crossovers) == 0 {
		return
	}
	p.Blank()
	p.Heading("From which size of one send on it takes less CPU time")
	rows := [][]text.Span{}
	for i, c := range r.Crossovers {
		if i == 0 || c.Source != r.Crossovers[i-1].Source || c.To != r.Crossovers[i-1].To {
			rows = append(rows, []text.Span{text.F("from " + string(c.Source) + " to " + string(c.To))})
		}
		rows = append(rows, []text.Span{text.B(string(c.Backend)), text.S(string(c.Against)), text.S(string(c.Cache)), text.B(sizeOf(c.Bytes)), text.S(between(c))})
	}
	p.Table(2, []string{"backend", "instead of", "data", "size", "surely"}, rows)
}

// between says the interval of a crossover.
func between(c bench.Crossover) string {
	switch {
	case c.LowBytes == nil:
		return "never"
	case c.HighBytes == nil && *c.LowBytes == 0:
		return "not known"
	case c.HighBytes == nil:
		return "not below " + sizeOf(c.LowBytes)
	case *c.LowBytes == 0:
		return "up to " + sizeOf(c.HighBytes)
	}
	return sizeOf(c.LowBytes) + " to " + sizeOf(c.HighBytes)
}

func sizeOf(n *int64) string {
	switch {
	case n == nil:
		return "never"
	case *n == 0:
		return "any"
	}
	return quantity.Size(uint64(*n))
}

// remarks says what stands against the figures.
func remarks(p *text.Printer, r *bench.Report) {
	if len(r.Disturbances)+len(r.Skipped) == 0 {
		return
	}
	p.Blank()
	p.Heading("Keep in mind")
	for _, s := range r.Disturbances {
		p.Para(2, 4, text.S("- "+s))
	}
	for _, s := range r.Skipped {
		p.Para(2, 4, text.S("- Not measured: "), text.B(string(s.Backend)), text.S(": "+s.Reason))
	}
}

// A chart is the costs of all ways from one source to one target, of data that is
// hot or cold.
type chart struct {
	from  transmit.SourceKind
	to    transmit.Protocol
	cache transmit.CacheState
	ways  []transmit.Backend
	sizes []int64
	cells map[transmit.Backend]map[int64]bench.Result
	cross []bench.Crossover
}

func benchCharts(r *bench.Report) []*chart {
	var out []*chart
	for _, x := range r.Results {
		var c *chart
		for _, have := range out {
			if have.from == x.Source && have.to == x.To && have.cache == x.Cache {
				c = have
			}
		}
		if c == nil {
			c = &chart{from: x.Source, to: x.To, cache: x.Cache, cells: map[transmit.Backend]map[int64]bench.Result{}}
			out = append(out, c)
		}
		if c.cells[x.Backend] == nil {
			c.cells[x.Backend] = map[int64]bench.Result{}
			c.ways = append(c.ways, x.Backend)
		}
		c.cells[x.Backend][x.SizeBytes] = x
		if !slices.Contains(c.sizes, x.SizeBytes) {
			c.sizes = append(c.sizes, x.SizeBytes)
		}
	}
	for _, c := range out {
		slices.Sort(c.sizes)
		for _, x := range r.Crossovers {
			if x.Source == c.from && x.To == c.to && x.Cache == c.cache {
				c.cross = append(c.cross, x)
			}
		}
	}
	return out
}

func (c *chart) title() string {
	return fmt.Sprintf("CPU time for a byte, from %s to %s, %s", c.from, c.to, c.cache)
}

// table writes the costs of the ways, a line for each size and way.
func (c *chart) table(p *text.Printer) {
	var rows [][]text.Span
	for _, b := range c.ways {
		for _, n := range c.sizes {
			x, ok := c.cells[b][n]
			if !ok {
				continue
			}
			rows = append(rows, []text.Span{text.S(string(b)), text.S(quantity.Size(uint64(n))), text.B(digits(x.CPUNSPerByte)),
				text.S(digits(x.CILow) + " to " + digits(x.CIHigh)), text.S(quantity.Size(uint64(x.ThroughputBytesPerS)) + "/s"),
				text.S(strconv.FormatFloat(x.CopiedFraction*100, 'f', 0, 64) + " %"), text.S(strconv.Itoa(x.Runs))})
		}
	}
	p.Table(2, []string{"backend", "size", "ns/byte", "surely between", "rate", "copied", "runs"}, rows)
}

// digits writes a number with three digits that count.
func digits(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
