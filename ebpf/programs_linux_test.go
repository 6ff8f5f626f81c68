package ebpf_test

import (
	"os"
	"testing"
	"time"

	cilium "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/ebpf"
)

// BenchmarkPrograms is where the time of a tracer that is exact goes: how often each
// of its programs runs for a send, and for how long, with what it takes to note that.
func BenchmarkPrograms(b *testing.B) {
	for _, l := range loads {
		b.Run(l.String(), func(b *testing.B) {
			send := l.sender(b)
			tracer, err := ebpf.Open(b.Context(), ebpf.Options{Processes: []int{os.Getpid()}, Exact: true, Tier: ebpf.TierTracepoint})
			if err != nil {
				b.Fatal(err)
			}
			defer tracer.Close()
			counting, err := cilium.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			defer counting.Close()
			send(200 * time.Millisecond)
			before, err := tracer.ProgramRuns()
			if err != nil {
				b.Fatal(err)
			}
			var bytes int64
			for b.Loop() {
				bytes += send(500 * time.Millisecond)
			}
			after, err := tracer.ProgramRuns()
			if err != nil {
				b.Fatal(err)
			}
			sends := float64(bytes) / float64(l.size)
			var all float64
			b.ReportMetric(0, "ns/op")
			for name, now := range after {
				runs, ns := float64(now[0]-before[name][0])/sends, float64(now[1]-before[name][1])/sends
				all += ns
				if runs > 0.01 {
					b.ReportMetric(runs, name+"-runs/send")
					b.ReportMetric(ns, name+"-ns/send")
				}
			}
			b.ReportMetric(all, "ns/send")
		})
	}
}
