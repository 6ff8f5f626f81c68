package target

import (
	"bytes"
	"io/fs"
	"slices"
	"strconv"
)

// Family returns pids and all their descendants, sorted. proc is the file system
// of /proc. Processes come and go meanwhile: what is gone is left out, except
// pids themselves.
func Family(proc fs.FS, pids []int) ([]int, error) {
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := fs.ReadFile(proc, e.Name()+"/stat")
		if err != nil {
			continue // it ended, or is hidden from us
		}
		if parent, ok := parentOf(stat); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	seen := map[int]bool{}
	all := slices.Clone(pids)
	for i := 0; i < len(all); i++ {
		if seen[all[i]] {
			continue
		}
		seen[all[i]] = true
		all = append(all, children[all[i]]...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Leader returns the process that pid is of: itself, or another if pid is one of
// its threads. What cannot be read is taken for a process.
func Leader(proc fs.FS, pid int) int {
	status, err := fs.ReadFile(proc, strconv.Itoa(pid)+"/status")
	if err != nil {
		return pid
	}
	for line := range bytes.Lines(status) {
		// The name stands first, with its newlines escaped.
		if value, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			if leader, err := strconv.Atoi(string(bytes.TrimSpace(value))); err == nil && leader > 0 {
				return leader
			}
		}
	}
	return pid
}

// parentOf reads the parent from /proc/PID/stat. The name of the program stands
// between parentheses and may hold anything, parentheses and newlines too.
func parentOf(stat []byte) (int, bool) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return parent, err == nil && parent > 0
}
