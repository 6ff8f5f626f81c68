package transmit_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/benchpair"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

// BenchmarkFigures measures what the library promises and prints it as tables in
// Markdown. Each -benchtime round runs all who are compared once, each in a
// process of its own, in turns; the round before that, of every benchmark, warms
// up. Twenty minutes for everything with
//
//	go test -run '^$' -bench Figures -benchtime 10x -timeout 2h ./transmit
//
// and less with a name: -bench 'Figures/reference/msg_zerocopy/256K'.
//
// Hot sends one piece again and again, cold goes through 256 MiB. The medians of
// all rounds are told; ratios are those within a round, with an interval of 95 %.
// On a machine with other work CPU time is the figure to look at, though it grows,
// too, with what others put into the caches and with answers that come late. Give
// the run priority there: nice -n -20, or where sessions are scheduled as groups
// (/proc/sys/kernel/sched_autogroup_enabled)
//
//	setsid -w sh -c 'echo -20 >/proc/self/autogroup; exec go test ...'
func BenchmarkFigures(b *testing.B) {
	t := newTrack(b)
	var tables []*table
	for _, group := range []struct {
		name, title string
		figures     []figure
	}{
		{"reference", "Each backend against the same calls in C, and against what Go offers", referenceFigures()},
		{"stdlib", "What the library selects against io.Copy and conn.Write", stdlibFigures()},
		{"zerocopy", "Zero copies against io.Copy and conn.Write", zerocopyFigures()},
	} {
		tab := &table{title: group.title}
		tables = append(tables, tab)
		b.Run(group.name, func(b *testing.B) {
			for _, f := range group.figures {
				b.Run(f.name, func(b *testing.B) {
					samples := t.compare(b, b.N, f.work, f.by...)
					b.Log(tab.add(f, samples))
					report(b, samples)
				})
			}
		})
	}
	fmt.Print("\n" + heading(b))
	for _, tab := range tables {
		fmt.Print(tab)
	}
}

func heading(b *testing.B) string {
	model := "?"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(info), "model name"); ok {
			line, _, _ := strings.Cut(after, "\n")
			model = strings.TrimLeft(line, "\t: ")
		}
	}
	return fmt.Sprintf("Linux %s, %s, %d CPUs, %s, %s. GB/s and CPU seconds per GB are medians; ratios are medians of those within a round, with their interval of 95 %%.\n",
		testenv.Kernel(b), model, runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly))
}

// report makes the benchmark's own line show the library's figures.
func report(b *testing.B, samples [][]benchpair.Sample) {
	b.ReportMetric(0, "ns/op") // is of a round
	b.ReportMetric(benchpair.Throughput(samples[0]).Median/1e9, "GB/s")
	b.ReportMetric(benchpair.CPUPerByte(samples[0]).Median*1e3, "cpu-ns/KB")
}

// A figure is a workload, who does it (the first is the one in question), and what
// is wanted of the first in comparison with others.
type figure struct {
	name   string
	work   workload
	by     []string
	wanted map[string]aim // by whom it is compared with
}

// An aim is a ratio of throughput that is to be reached, or one of CPU per byte
// that is not to be exceeded, or both.
type aim struct {
	throughput float64 // at least
	cpu        float64 // at most
	both       bool
}

func (a aim) String() string {
	or := "or"
	if a.both {
		or = "and"
	}
	return fmt.Sprintf("≥ %.2f %s CPU ≤ %.2f", a.throughput, or, a.cpu)
}

// reached says whether the aim is: by the whole interval, by the median alone, or
// not.
func (a aim) reached(c benchpair.Comparison) string {
	t, surelyT := c.Throughput.AtLeast(a.throughput)
	u, surelyU := c.CPUPerByte.AtMost(a.cpu)
	reached, surely := t || u, surelyT || surelyU
	if a.both {
		reached, surely = t && u, surelyT && surelyU
	}
	switch {
	case surely:
		return "yes"
	case reached:
		return "by the median"
	}
	return "**no**"
}

// equal is the aim that is as good in throughput as in CPU.
func equal(throughput float64) aim { return aim{throughput: throughput, cpu: 1 / throughput} }

// total is how many bytes a process sends in pieces of a size: for a few tenths of
// a second.
func total(size int64) int64 {
	const most = 4 << 30
	return max(size, min(most, size<<16, 256<<20+size<<13))
}

func referenceFigures() []figure {
	var figures []figure
	for _, backend := range referenceWays {
		source := "memory"
		switch backend {
		case transmit.ReadWrite, transmit.MmapWrite, transmit.Sendfile, transmit.Splice, transmit.MmapZerocopy:
			source = "file"
		}
		for _, size := range []int64{4 << 10, 64 << 10, 256 << 10, 1 << 20} {
			wanted := aim{throughput: 0.97, cpu: 1.05}
			if size < 64<<10 {
				wanted = equal(0.85)
			}
			for _, heat := range []string{"hot", "cold"} {
				figures = append(figures, figure{
					name:   fmt.Sprintf("%s/%s/%s", backend, sizeName(size), heat),
					work:   workload{Backend: backend, Source: source, Size: size, Pool: poolFor(size, heat), Total: total(size)},
					by:     []string{byLibrary, byC, byGo},
					wanted: map[string]aim{byC: wanted},
				})
			}
		}
	}
	return figures
}

func poolFor(size int64, heat string) int64 {
	if heat == "hot" {
		return size
	}
	return max(size, coldPool)
}

func sizeName(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%dG", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%dM", n>>20)
	}
	return fmt.Sprintf("%dK", n>>10)
}

// stdlibFigures leave the choice of the backend to the library.
func stdlibFigures() []figure {
	var figures []figure
	for _, source := range []string{"file", "tcp", "memory"} {
		for size := int64(1 << 10); size <= 1<<30; size <<= 4 {
			for _, heat := range []string{"hot", "cold"} {
				if heat == "cold" && (source == "tcp" || size >= coldPool) {
					continue // what comes from a connection is what it is
				}
				figures = append(figures, figure{
					name:   fmt.Sprintf("%s/%s/%s", source, sizeName(size), heat),
					work:   workload{Source: source, Size: size, Pool: poolFor(size, heat), Total: total(size)},
					by:     []string{byLibrary, byGo},
					wanted: map[string]aim{byGo: equal(0.98)},
				})
			}
		}
	}
	return figures
}

func zerocopyFigures() []figure {
	figures := []figure{{
		// From registered buffers.
		name:   "io_uring_send_zc/256K/cold",
		work:   workload{Backend: transmit.IoUringSendZC, Source: "memory", Size: 256 << 10, Pool: coldPool, Total: total(256 << 10)},
		by:     []string{byLibrary, byGo},
		wanted: map[string]aim{byGo: {throughput: 3.5}},
	}, {
		name:   "msg_zerocopy/256K/cold",
		work:   workload{Backend: transmit.MsgZerocopy, Source: "memory", Size: 256 << 10, Pool: coldPool, Total: total(256 << 10)},
		by:     []string{byLibrary, byGo},
		wanted: map[string]aim{byGo: {throughput: 2.5, cpu: 0.45, both: true}},
	}}
	for _, size := range []int64{256 << 10, 1 << 20} {
		for _, mapping := range []string{"kept", "each"} {
			f := figure{
				name: fmt.Sprintf("mmap_zerocopy/%s/%s", sizeName(size), mapping),
				work: workload{
					Backend: transmit.MmapZerocopy, Source: "file", Size: size, Pool: coldPool,
					Total: total(size), MapEach: mapping == "each",
				},
				by: []string{byLibrary, byGo},
			}
			if mapping == "kept" {
				f.wanted = map[string]aim{byGo: {throughput: 1.5}}
			}
			figures = append(figures, f)
		}
	}
	return figures
}

// A table is what was measured of a group of figures.
type table struct {
	title string
	rows  []string
	names map[string]int // of the figures, to the rows
	by    []string
}

// add adds the samples of a figure, in place of those of an earlier run of it, and
// returns the row.
func (t *table) add(f figure, samples [][]benchpair.Sample) string {
	cells := []string{f.name}
	for _, s := range samples {
		cells = append(cells, fmt.Sprintf("%.2f, %.4f", benchpair.Throughput(s).Median/1e9, benchpair.CPUPerByte(s).Median))
	}
	for i, who := range f.by[1:] {
		c := benchpair.Compare(samples[0], samples[i+1])
		verdict := ""
		if a, ok := f.wanted[who]; ok {
			verdict = fmt.Sprintf("%v: %s", a, a.reached(c))
		}
		cells = append(cells, c.Throughput.String(), c.CPUPerByte.String(), verdict)
	}
	row := "| " + strings.Join(cells, " | ") + " |"
	if i, ok := t.names[f.name]; ok {
		t.rows[i] = row
		return row
	}
	if t.names == nil {
		t.names, t.by = map[string]int{}, f.by
	}
	t.names[f.name] = len(t.rows)
	t.rows = append(t.rows, row)
	return row
}

// String returns the table in Markdown, nothing if it is empty.
func (t *table) String() string {
	if len(t.rows) == 0 {
		return ""
	}
	head := []string{"figure"}
	for _, who := range t.by {
		head = append(head, who+": GB/s, s/GB")
	}
	for _, who := range t.by[1:] {
		head = append(head, "throughput to "+who, "CPU to "+who, "wanted")
	}
	return fmt.Sprintf("\n%s\n\n| %s |\n|%s\n%s\n", t.title, strings.Join(head, " | "),
		strings.Repeat("---|", len(head)), strings.Join(t.rows, "\n"))
}
