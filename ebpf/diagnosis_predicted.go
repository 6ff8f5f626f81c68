package ebpf

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// advisePredicted says what would make the kernel copy on the paths of flows that
// nobody observes.
func advisePredicted(f *diagnosisFacts) (advice []Advice, gaps []string) {
	for _, to := range slices.Sorted(maps.Keys(f.predicted)) {
		report := f.predicted[to]
		if report.Error != "" {
			gaps = append(gaps, fmt.Sprintf("the path to %s: %s", to, report.Error))
			continue
		}
		for _, b := range report.Blockers {
			seen := []probe.Evidence{{Source: "prediction for " + to, Value: b.Detail}}
			for _, fl := range f.flows {
				if fl.Remote != to {
					continue
				}
				if i := slices.IndexFunc(advice, func(a Advice) bool { return a.ID == b.ID && a.PID == fl.PID && a.Device == b.Device }); i >= 0 {
					advice[i].Bytes += fl.Bytes
					continue
				}
				advice = append(advice, Advice{
					ID: b.ID, PID: fl.PID, Comm: fl.Comm, Device: b.Device, Bytes: fl.Bytes, Remedy: b.Remedy, Evidence: seen,
					Text: fmt.Sprintf("Predicted, not observed, for what %s (pid %d) sends to %s without copying it itself: %s.", fl.Comm, fl.PID, to, trimPeriod(b.Detail)),
				})
			}
		}
	}
	return advice, gaps
}

func trimPeriod(s string) string {
	if s != "" && s[len(s)-1] == '.' {
		return s[:len(s)-1]
	}
	return s
}
