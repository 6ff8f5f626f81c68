package probe

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseLimits reads /proc/PID/limits (fs/proc/base.c:proc_pid_limits): the name
// in 25 columns, then soft limit, hard limit and unit, each after a space.
func parseLimits(b []byte) (map[string]Rlimit, error) {
	out := make(map[string]Rlimit)
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	for _, line := range lines[1:] {
		const name = 25
		if len(line) <= name {
			return nil, fmt.Errorf("limits: line %q is too short", line)
		}
		f := strings.Fields(line[name:])
		if len(f) < 2 {
			return nil, fmt.Errorf("limits: line %q has no values", line)
		}
		soft, err1 := parseLimit(f[0])
		hard, err2 := parseLimit(f[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("limits: %w", err)
		}
		out[strings.TrimRight(line[:name], " ")] = Rlimit{soft, hard}
	}
	return out, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// processStatus is what /proc/PID/status says of a process.
type processStatus struct {
	uid      uint32 // real: whose locked memory is counted (current_user)
	capEff   uint64
	groups   []int
	seccomp  string
	vmLck    *uint64 // bytes; a process without memory of its own has none
	vmPin    *uint64
	complete bool // uid and capabilities were there
}

// parseStatus reads /proc/PID/status (fs/proc/array.c:proc_pid_status). The
// kernel escapes line breaks in the name of the process, so the lines are its
// own.
func parseStatus(b []byte) (processStatus, error) {
	s := processStatus{seccomp: "unknown"}
	var hasUID, hasCaps bool
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if !ok {
			return s, fmt.Errorf("status: line %q", line)
		}
		var err error
		switch f := strings.Fields(value); key {
		case "Uid":
			var v uint64
			v, err = statusNumber(f, 10, 32)
			s.uid, hasUID = uint32(v), true
		case "CapEff":
			s.capEff, err = statusNumber(f, 16, 64)
			hasCaps = true
		case "Groups":
			s.groups, err = statusGroups(f)
		case "Seccomp":
			s.seccomp = statusSeccomp(f)
		case "VmLck":
			s.vmLck, err = statusKiB(f)
		case "VmPin":
			s.vmPin, err = statusKiB(f)
		}
		if err != nil {
			return s, fmt.Errorf("status: %s: %w", key, err)
		}
	}
	s.complete = hasUID && hasCaps
	return s, nil
}

func statusNumber(f []string, base, bits int) (uint64, error) {
	if len(f) == 0 {
		return 0, errors.New("no value")
	}
	return strconv.ParseUint(f[0], base, bits)
}

func statusKiB(f []string) (*uint64, error) {
	if len(f) != 2 || f[1] != "kB" {
		return nil, fmt.Errorf("%q is not in kB", f)
	}
	v, err := strconv.ParseUint(f[0], 10, 54)
	return new(v << 10), err
}

func statusGroups(f []string) ([]int, error) {
	groups := []int{}
	for _, s := range f {
		g, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, err
		}
		groups = append(groups, int(g))
	}
	return groups, nil
}

// statusSeccomp names the modes of linux/seccomp.h.
func statusSeccomp(f []string) string {
	if len(f) == 1 {
		switch f[0] {
		case "0":
			return "none"
		case "1":
			return "strict"
		case "2":
			return "filter"
		}
	}
	return "unknown"
}
