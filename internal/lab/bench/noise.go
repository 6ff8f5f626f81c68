package bench

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// cpuTimes is the first line of /proc/stat: what all CPUs did, in ticks.
type cpuTimes struct{ busy, idle, steal uint64 }

// parseCPUTimes reads it; proc(5). Time of guests is part of user and nice.
func parseCPUTimes(text string) (cpuTimes, error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return cpuTimes{}, fmt.Errorf("/proc/stat begins with %.40q", line)
	}
	var t cpuTimes
	for i, s := range f[1:min(len(f), 9)] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return cpuTimes{}, fmt.Errorf("/proc/stat: %w", err)
		}
		switch i {
		case 3, 4: // idle, iowait
			t.idle += n
		case 7:
			t.steal += n
		default:
			t.busy += n
		}
	}
	return t, nil
}

func readCPUTimes(proc fs.FS) (cpuTimes, error) {
	text, err := fs.ReadFile(proc, "stat")
	if err != nil {
		return cpuTimes{}, err
	}
	return parseCPUTimes(string(text))
}

// What is too much to be kept quiet about.
const (
	muchOther  = 0.10 // of the time of all CPUs
	muchSteal  = 0.02
	muchDrift  = 0.10 // of the time that the same work takes
	muchSpread = 0.25 // of a median, from one end of its interval to the other
)

// noise is what was seen beside the measurements.
type noise struct {
	before, after cpuTimes
	known         bool
	tick          time.Duration // of /proc/stat, USER_HZ
	own           time.Duration // CPU time of this process, the laboratory's included
	least, most   time.Duration // that a fixed piece of work took
	wide, all     int           // results, and those of a wide interval
	oneCPU        bool
	result        uint64 // of that work, so that it is done
}

// userHZ is what /proc/stat counts in on every architecture that this is built for.
const userHZ = 10 * time.Millisecond

func (n *noise) sentences() []string {
	out := []string{}
	if n.known {
		total := float64(n.after.busy-n.before.busy) + float64(n.after.idle-n.before.idle) + float64(n.after.steal-n.before.steal)
		own := float64(n.own) / float64(n.tick)
		if total > 0 {
			if other := (float64(n.after.busy-n.before.busy) - own) / total; other > muchOther {
				out = append(out, fmt.Sprintf("Other processes used %.0f %% of the CPUs meanwhile: intervals are wider for it.", other*100))
			}
			if steal := float64(n.after.steal-n.before.steal) / total; steal > muchSteal {
				out = append(out, fmt.Sprintf("The hypervisor took %.0f %% of the CPUs away (steal).", steal*100))
			}
		}
	}
	if n.least > 0 && float64(n.most)/float64(n.least) > 1+muchDrift {
		out = append(out, fmt.Sprintf("The speed of the CPU changed: the same work took %v to %v.", n.least.Round(time.Microsecond), n.most.Round(time.Microsecond)))
	}
	if n.all > 0 && 2*n.wide > n.all {
		out = append(out, fmt.Sprintf("%d of %d results have an interval of more than %.0f %%.", n.wide, n.all, muchSpread*100))
	}
	if n.oneCPU {
		out = append(out, "There is one CPU for the sender and for what answers it, so that they wait for each other.")
	}
	return out
}

// work takes the time of a piece of work that needs nothing but the CPU, the
// shortest of some attempts: what interrupts it is not its speed.
func (n *noise) work() {
	const attempts = 5
	least := time.Duration(0)
	for range attempts {
		begun := time.Now()
		n.result += spin()
		if d := time.Since(begun); least == 0 || d < least {
			least = d
		}
	}
	if n.least == 0 || least < n.least {
		n.least = least
	}
	n.most = max(n.most, least)
}

// spin computes something of which each step needs the one before.
func spin() uint64 {
	v := uint64(88172645463325252)
	for range 50_000 {
		v ^= v << 13
		v ^= v >> 7
		v ^= v << 17
	}
	return v
}
