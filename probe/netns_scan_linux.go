package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// nsScan gathers namespaces.
type nsScan struct {
	proc    fs.FS
	nsfs    uint64 // that all files of namespaces are on
	byInode map[uint64]*nsEntry
	locked  map[uint64]int // processes whose ns/net is closed to us, one by net/dev inode
}

// own describes the namespace of the calling thread.
func (sc *nsScan) own() nsEntry {
	e := nsEntry{path: threadNamespace, pid: os.Getpid()}
	if fi, err := fs.Stat(sc.proc, "thread-self/ns/net"); err == nil {
		e.inode, sc.nsfs = inode(fi), fileSystem(fi)
	}
	if fi, err := fs.Stat(sc.proc, "thread-self/net/dev"); err == nil {
		e.netDev = inode(fi)
	}
	return e
}

// processes looks at every process, and at the threads of our own: a library's
// user may keep threads in other namespaces.
func (sc *nsScan) processes() {
	dirs, err := fs.ReadDir(sc.proc, ".")
	if err != nil {
		return // no /proc: our own namespace is all there is
	}
	var pids []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		sc.process(strconv.Itoa(pid), pid)
	}
	tasks, err := fs.ReadDir(sc.proc, "self/task")
	if err != nil {
		return
	}
	for _, d := range tasks {
		sc.process(fmt.Sprintf("%d/task/%s", os.Getpid(), d.Name()), os.Getpid())
	}
}

func (sc *nsScan) process(dir string, pid int) {
	fi, err := fs.Stat(sc.proc, dir+"/ns/net")
	if errors.Is(err, fs.ErrPermission) {
		// /proc/PID/net is open to all, and the inodes below it are of the
		// process's namespace: enough to tell that there is another one.
		if fi, err := fs.Stat(sc.proc, dir+"/net/dev"); err == nil {
			if _, ok := sc.locked[inode(fi)]; !ok {
				sc.locked[inode(fi)] = pid
			}
		}
		return
	}
	if err != nil {
		return // ended meanwhile
	}
	e := sc.add(inode(fi), "/proc/"+dir+"/ns/net", pid)
	if e != nil && e.netDev == 0 {
		if fi, err := fs.Stat(sc.proc, dir+"/net/dev"); err == nil {
			e.netDev = inode(fi)
		}
	}
}

// files looks at the files that namespaces are bound to: /run/netns is where
// ip-netns(8) has them, the mount table lists them all.
func (sc *nsScan) files(root fs.FS) {
	if dirs, err := fs.ReadDir(root, "run/netns"); err == nil {
		for _, d := range dirs {
			name := path.Join("run/netns", d.Name())
			if fi, err := fs.Stat(root, name); err == nil && fileSystem(fi) == sc.nsfs {
				sc.add(inode(fi), "/"+name, 0)
			}
		}
	}
	f, err := sc.proc.Open("thread-self/mountinfo")
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlay mounts have long options
	for lines.Scan() {
		if ino, p, ok := boundNamespace(lines.Text()); ok {
			sc.add(ino, p, 0)
		}
	}
}

// boundNamespace reads a line of /proc/PID/mountinfo:
//
//	36 35 0:4 net:[4026532183] /run/netns/blue rw shared:1 - nsfs nsfs rw
func boundNamespace(line string) (ino uint64, file string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return 0, "", false
	}
	num, ok := strings.CutPrefix(fields[3], "net:[")
	if !ok {
		return 0, "", false
	}
	ino, err := strconv.ParseUint(strings.TrimSuffix(num, "]"), 10, 64)
	if err != nil {
		return 0, "", false
	}
	return ino, unescapeMount(fields[4]), true
}

// unescapeMount undoes the \ooo escapes of the mount table.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// add records a file that stands for a namespace. It returns nil if there is
// none: the inode of a source that is not the live /proc.
func (sc *nsScan) add(ino uint64, file string, pid int) *nsEntry {
	if ino == 0 {
		return nil
	}
	e := sc.byInode[ino]
	switch {
	case e == nil:
		e = &nsEntry{inode: ino, path: file, pid: pid}
		sc.byInode[ino] = e
	case len(e.others) < maxOtherPaths && e.path != file && !slices.Contains(e.others, file):
		e.others = append(e.others, file)
	}
	return e
}

// unseen returns how many namespaces there are, at least, besides the entries.
// Entries without a process may be the very ones that locked processes are in.
func (sc *nsScan) unseen(entries []nsEntry) int {
	n := len(sc.locked)
	for _, e := range entries {
		if _, ok := sc.locked[e.netDev]; ok || e.netDev == 0 && e.inode != 0 {
			n--
		}
	}
	return max(n, 0)
}

// inode returns the inode of a file of the live system, 0 of any other.
func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// fileSystem returns the device number a file of the live system is on.
func fileSystem(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev)
	}
	return 0
}
