package render

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/fixture"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/transmit"
)

// benched is a report such as a run makes, of costs that follow a formula: so much
// for each send, and for each byte.
func benched() *bench.Report {
	r := &bench.Report{Schema: bench.Schema, Path: bench.PathLab, Quick: true, Would: []string{}, Skipped: []bench.Skipped{}, Disturbances: []string{},
		Conclusive: true, Conclusion: "A network card needs at least these sizes: the laboratory has no DMA mapping, no IOMMU and no interrupts.",
		Counted: "the whole process", NotCounted: "what the kernel does elsewhere", Source: "a file in /tmp", ColdBytes: 256 << 20, DurationNS: 7_912_345_678}
	for _, w := range []struct {
		backend       transmit.Backend
		send, perByte float64
		source        transmit.SourceKind
	}{
		{transmit.Write, 2000, 0.06, transmit.SourceMemory}, {transmit.MsgZerocopy, 2500, 0.03, transmit.SourceMemory},
		{transmit.Sendfile, 2100, 0.07, transmit.SourceFile}, {transmit.MmapZerocopy, 7000, 0.03, transmit.SourceFile},
	} {
		for _, cache := range []transmit.CacheState{transmit.CacheHot, transmit.CacheCold} {
			for size := int64(256); size <= 4<<20; size *= 4 {
				ns := w.send/float64(size) + w.perByte
				if cache == transmit.CacheCold && w.backend == transmit.Write {
					ns += 0.05
				}
				copied, from := 1.0, "api"
				if w.backend != transmit.Write {
					copied = 0
				}
				if w.backend.Notifies() {
					from = "completions"
				}
				r.Results = append(r.Results, bench.Result{Backend: w.backend, Source: w.source, To: transmit.TCP, SizeBytes: size, Cache: cache,
					ThroughputBytesPerS: 1e9 / ns, CPUNSPerByte: ns, CILow: ns * 0.97, CIHigh: ns * 1.04, CopiedFraction: copied, CopiedFrom: from, Runs: 10})
			}
		}
	}
	size := func(n int64) *int64 { return &n }
	r.Crossovers = []bench.Crossover{
		{Backend: transmit.MsgZerocopy, Against: transmit.Write, Source: transmit.SourceMemory, To: transmit.TCP, Cache: transmit.CacheHot,
			Bytes: size(16667), LowBytes: size(9000), HighBytes: size(40960), Detail: "It is cheaper from here on."},
		{Backend: transmit.MsgZerocopy, Against: transmit.Write, Source: transmit.SourceMemory, To: transmit.TCP, Cache: transmit.CacheCold,
			Bytes: size(6250), LowBytes: size(0), HighBytes: size(8192), Detail: "It is cheaper from here on."},
		{Backend: transmit.MmapZerocopy, Against: transmit.Sendfile, Source: transmit.SourceFile, To: transmit.TCP, Cache: transmit.CacheHot,
			Bytes: nil, LowBytes: size(122500), HighBytes: nil, Detail: "It is not cheaper at any size up to 4194304 bytes, though not surely dearer."},
		{Backend: transmit.MmapZerocopy, Against: transmit.Sendfile, Source: transmit.SourceFile, To: transmit.TCP, Cache: transmit.CacheCold,
			Bytes: nil, LowBytes: nil, HighBytes: nil, Detail: "It is dearer at every size up to 4194304 bytes."},
	}
	return r
}

// refused is a report from which nothing is concluded, of a path with a hostile name.
func refused() *bench.Report {
	r := benched()
	r.Path, r.Crossovers, r.Conclusive = fixture.Hostile+":9000", []bench.Crossover{}, false
	r.Conclusion = "No crossover can be concluded: the receiver is on this machine, where the kernel copies lent pages when it delivers them."
	r.Disturbances = []string{"Other processes used 35 % of the CPUs meanwhile: intervals are wider for it."}
	r.Skipped = []bench.Skipped{{Backend: transmit.IoUringSendZC, Reason: "io_uring is not permitted " + fixture.Hostile}}
	return r
}

func TestGoldenBench(t *testing.T) {
	plan, err := bench.Plan(bench.Options{Quick: true, To: "db:9000", Address: "192.0.2.7:9000", Dir: "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	saved := benched()
	saved.Saved = "/var/lib/zcprobe/calibration.json"
	for _, c := range []struct {
		name string
		r    *bench.Report
		how  int
		set  func(*text.Printer)
	}{
		{"bench", saved, Normal, nil},
		{"bench-verbose", benched(), Verbose, nil},
		{"bench-quiet", benched(), Quiet, nil},
		{"bench-refused-ascii", refused(), Normal, ascii},
	} {
		t.Run(c.name, func(t *testing.T) {
			golden(t, c.name, c.set, func(p *text.Printer) { Bench(p, c.r, c.how) })
			var b bytes.Buffer
			if err := JSON(&b, c.r); err != nil {
				t.Fatal(err)
			}
			hosttest.Validate(t, "bench.v1", b.Bytes())
		})
	}
	golden(t, "bench-plan", nil, func(p *text.Printer) { BenchPlan(p, plan) })
	var b bytes.Buffer
	if err := JSON(&b, benched()); err != nil {
		t.Fatal(err)
	}
	goldenFile(t, "bench.json", b.Bytes())
	goldenFile(t, "bench.svg", BenchSVG(benched()))
}

// A picture is XML, whatever names are in it, and shows every result.
func TestBenchSVG(t *testing.T) {
	for name, r := range map[string]*bench.Report{"all": benched(), "hostile": refused(), "empty": {Path: "<&>"}} {
		t.Run(name, func(t *testing.T) {
			d := xml.NewDecoder(bytes.NewReader(BenchSVG(r)))
			elements := map[string]int{}
			for {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := tok.(xml.StartElement); ok {
					elements[e.Name.Local]++
					for _, a := range e.Attr {
						if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
							t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
						}
					}
				}
			}
			if elements["svg"] != 1 || elements["polyline"] != len(r.Results)/8 {
				t.Errorf("%v of %d results", elements, len(r.Results))
			}
		})
	}
}

// One size, one value or none at all are no reason to divide by zero.
func TestBenchPlots(t *testing.T) {
	one := benched()
	one.Results = one.Results[:1]
	zero := benched()
	zero.Results = zero.Results[:2]
	zero.Results[0].CPUNSPerByte = 0
	for name, r := range map[string]*bench.Report{"one": one, "none": {}, "zero": zero} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			p := text.New(&b)
			Bench(p, r, Verbose)
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
			checkText(t, b.String(), p)
			BenchSVG(r)
		})
	}
}
