package main

import "github.com/zcprobe/zcprobe/internal/sys"

// keepLimits returns what puts the limit of locked memory back: tracers lift it
// on kernels before 5.11, and a program that is started after must not have more
// of it than it would have had.
func keepLimits() (restore func()) {
	soft, hard, err := sys.Prlimit(0, sys.LimitMemlock)
	if err != nil {
		return func() {}
	}
	return func() {
		if s, h, err := sys.Prlimit(0, sys.LimitMemlock); err == nil && (s != soft || h != hard) {
			_ = sys.SetLimit(sys.LimitMemlock, soft, hard) // lowering is always allowed
		}
	}
}
