package benchpair

import (
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// A Clock tells the CPU time used so far.
type Clock func() (time.Duration, error)

// Process is the clock of the whole process, whatever threads it has.
func Process() (time.Duration, error) { return sys.ProcessCPUTime() }

// Thread is the clock of the calling thread. The goroutine is to be locked to it.
func Thread() (time.Duration, error) { return sys.ThreadCPUTime() }

// Measure runs work, which returns how many bytes it has moved, and returns what
// it took.
func Measure(cpu Clock, work func() (int64, error)) (Sample, error) {
	cpuBefore, err := cpu()
	if err != nil {
		return Sample{}, err
	}
	before := time.Now()
	n, err := work()
	elapsed := time.Since(before)
	if err != nil {
		return Sample{}, err
	}
	cpuAfter, err := cpu()
	if err != nil {
		return Sample{}, err
	}
	return Sample{Bytes: n, Elapsed: elapsed, CPU: cpuAfter - cpuBefore}, nil
}
