package transmit

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/probe"
)

// A CalibrationKey is what a calibration holds for: another kernel, CPU or device
// makes it void.
type CalibrationKey struct {
	Kernel string `json:"kernel"` // release
	Arch   string `json:"arch"`   // GOARCH
	CPU    string `json:"cpu"`    // model
	CPUs   int    `json:"cpus"`

	// Devices are those of the path, from the sender on; empty in the laboratory, or
	// where the path is not known.
	Devices []CalibrationDevice `json:"devices"`
}

// CalibrationDevice is a device of a path.
type CalibrationDevice struct {
	Device   string   `json:"device"`
	Kind     string   `json:"kind"`
	Driver   string   `json:"driver"`
	MTU      int      `json:"mtu"`
	Features []string `json:"features"` // of those that decide about copies, the active ones
}

// CalibrationKeyFor returns the key of this host, and of a path if it is not nil.
func CalibrationKeyFor(path *probe.PathReport) CalibrationKey {
	k := CalibrationKey{Arch: runtime.GOARCH, Devices: []CalibrationDevice{}}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		k.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		k.CPU, k.CPUs = parseCPUInfo(string(text))
	}
	if path == nil {
		return k
	}
	for _, h := range path.Hops {
		if h.NetNS != "" {
			break // what lies in other namespaces is not this host's to know
		}
		k.Devices = append(k.Devices, deviceOf(h))
	}
	return k
}

func deviceOf(h probe.Hop) CalibrationDevice {
	d := CalibrationDevice{Device: h.Device, Kind: h.Kind, Driver: h.Driver, MTU: h.MTU, Features: []string{}}
	for _, f := range []struct {
		name string
		on   *bool
	}{{"scatter-gather", h.ScatterGather}, {"tx-checksum", h.TxChecksum}, {"tso", h.TSO}, {"uso", h.USO}} {
		if isTrue(f.on) {
			d.Features = append(d.Features, f.name)
		}
	}
	return d
}

// parseCPUInfo returns the model and the number of the CPUs in /proc/cpuinfo. On
// arm64 the model is made of numbers.
func parseCPUInfo(text string) (model string, n int) {
	var parts []string
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name = strings.TrimSpace(name); name {
		case "processor":
			n++
		case "model name":
			if model == "" {
				model = value
			}
		case "CPU implementer", "CPU variant", "CPU part", "CPU revision":
			if n == 1 && value != "" {
				parts = append(parts, strings.TrimPrefix(name, "CPU ")+" "+value)
			}
		}
	}
	if model == "" {
		model = strings.Join(parts, ", ")
	}
	return model, n
}

// differs says what a calibration of key k does not have of the host and path of
// now, "" if it holds.
func (k CalibrationKey) differs(now CalibrationKey) string {
	switch {
	case now.Kernel == "":
		return "the kernel of now is not known"
	case k.Kernel != now.Kernel:
		return fmt.Sprintf("measured on kernel %s, and this is %s", k.Kernel, now.Kernel)
	case k.Arch != now.Arch || k.CPU != now.CPU || k.CPUs != now.CPUs:
		return fmt.Sprintf("measured on %d CPUs %s (%s), and these are %d %s (%s)", k.CPUs, k.CPU, k.Arch, now.CPUs, now.CPU, now.Arch)
	case len(k.Devices) != len(now.Devices):
		return fmt.Sprintf("measured over %d devices, and the path has %d", len(k.Devices), len(now.Devices))
	}
	for i, d := range k.Devices {
		e := now.Devices[i]
		switch {
		case d.Device != e.Device || d.Kind != e.Kind || d.Driver != e.Driver:
			return fmt.Sprintf("measured over %s (%s), and the path has %s (%s)", d.Device, d.Driver, e.Device, e.Driver)
		case d.MTU != e.MTU:
			return fmt.Sprintf("measured with an MTU of %d on %s, and it is %d", d.MTU, d.Device, e.MTU)
		case !slices.Equal(d.Features, e.Features):
			return fmt.Sprintf("measured with %v on %s, and now it has %v", d.Features, d.Device, e.Features)
		}
	}
	return ""
}
