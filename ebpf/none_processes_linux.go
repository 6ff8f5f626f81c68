package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// socketOwner is a process that has a socket open.
type socketOwner struct {
	pid, fd int
	comm    string
}

// netSpace is a network namespace and who has sockets there.
type netSpace struct {
	netns  uint32
	path   string // a file that stands for it; "" for that of this process
	owners map[uint64]socketOwner
}

// processes names whom a namespace is looked at for.
func (p netSpace) processes() string {
	var pids []int
	for _, o := range p.owners {
		pids = append(pids, o.pid)
	}
	slices.Sort(pids)
	pids = slices.Compact(pids)
	if len(pids) == 1 {
		return fmt.Sprintf("process %d", pids[0])
	}
	return fmt.Sprintf("%d processes", len(pids))
}

// inside runs fn on a thread in the namespace.
func (p netSpace) inside(fn func() error) error {
	if p.path == "" {
		return fn()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with this
		f, err := os.Open(p.path)
		if err != nil {
			result <- err
			return
		}
		defer f.Close()
		if err := sys.SetNetNS(f); err != nil {
			result <- fmt.Errorf("in another network namespace, which takes CAP_SYS_ADMIN: %w", err)
			return
		}
		result <- fn()
	}()
	return <-result
}

// found are the processes that are looked at, and what was not seen of them.
type found struct {
	spaces map[uint32]*netSpace
	gaps   []string
}

// findProcesses looks through /proc for the sockets of processes.
func findProcesses(o Options) found {
	f := found{spaces: map[uint32]*netSpace{}}
	own, err := netnsOf("self")
	if err != nil {
		f.gaps = append(f.gaps, fmt.Sprintf("sockets: %v", err))
		return f
	}
	hidden, denied := 0, 0
	for _, pid := range processesOf(o) {
		err := f.add(pid, own)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case len(o.Processes) == 0 && errors.Is(err, fs.ErrPermission):
			hidden++
		case errors.Is(err, fs.ErrPermission) && denied > 0:
			denied++
		case errors.Is(err, fs.ErrPermission):
			denied++
			fallthrough
		default:
			f.gaps = append(f.gaps, fmt.Sprintf("sockets of process %d, which take permission to trace it: %v", pid, err))
		}
	}
	if denied > 1 {
		f.gaps = append(f.gaps, "sockets of others of the processes, for the same reason")
	}
	if hidden > 0 {
		f.gaps = append(f.gaps, "sockets of processes of others, which take CAP_SYS_PTRACE")
	}
	return f
}

func (f *found) add(pid int, own uint32) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	netns, err := netnsOf(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	space := f.spaces[netns]
	if space == nil {
		space = &netSpace{netns: netns, owners: map[uint64]socketOwner{}}
		if netns != own {
			space.path = fmt.Sprintf("/proc/%d/ns/net", pid)
		}
		f.spaces[netns] = space
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return err
	}
	owner := socketOwner{pid: pid, comm: strings.TrimSuffix(string(comm), "\n")}
	for _, e := range entries {
		link, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // closed meanwhile
		}
		number, ok := strings.CutPrefix(link, "socket:[")
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if err != nil {
			continue
		}
		owner.fd, err = strconv.Atoi(e.Name())
		if _, known := space.owners[inode]; err == nil && !known {
			space.owners[inode] = owner
		}
	}
	return nil
}

// netnsOf returns the inode number of a process's network namespace.
func netnsOf(pid string) (uint32, error) {
	info, err := os.Stat("/proc/" + pid + "/ns/net")
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("/proc/%s/ns/net has no inode: %w", pid, errors.ErrUnsupported)
	}
	return uint32(st.Ino), nil
}

// processesOf returns the processes that o names and their descendants, or all
// but this one.
func processesOf(o Options) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return o.Processes
	}
	parent := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name is in parentheses, and may hold any.
		_, rest, _ := strings.Cut(string(stat[max(strings.LastIndex(string(stat), ")"), 0):]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		parent[pid], _ = strconv.Atoi(fields[1])
	}
	var out []int
	for pid := range parent {
		if len(o.Processes) == 0 && pid != os.Getpid() || len(o.Processes) > 0 && descends(pid, o.Processes, parent) {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

func descends(pid int, from []int, parent map[int]int) bool {
	const deepest = 64
	for range deepest {
		if slices.Contains(from, pid) {
			return true
		}
		if pid = parent[pid]; pid <= 1 {
			return false
		}
	}
	return false
}

// mtuProbing returns net.ipv4.tcp_mtu_probing of this namespace, 0 if it cannot be
// read.
func mtuProbing() int { return int(setting("/proc/sys/net/ipv4/tcp_mtu_probing")) }

// optmemMax returns net.core.optmem_max of this namespace, 0 if it cannot be read.
func optmemMax() uint64 { return setting("/proc/sys/net/core/optmem_max") }

func setting(path string) uint64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
