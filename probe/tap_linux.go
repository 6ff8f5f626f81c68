package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// readTaps finds the packet sockets of every network namespace that can be
// seen. It opens no packet socket, and asks nothing over netlink: the diag
// families load modules, and packet_diag does not tell PACKET_IGNORE_OUTGOING
// anyway (linux/packet_diag.h has no such flag).
func readTaps(ctx context.Context, s *sources, ns *nsTable) TapFacts {
	r := tapReader{s: s, ns: ns, f: TapFacts{Taps: []TapFact{}, Hidden: []string{}, Errors: []string{}}}
	r.own()
	for _, e := range ns.list()[1:] {
		if ctx.Err() != nil {
			break
		}
		r.entry(e)
	}
	r.locked(ctx)
	r.view()
	r.owners(ctx)
	r.list()
	slices.SortFunc(r.f.Taps, func(a, b TapFact) int {
		return cmp.Or(cmp.Compare(a.Net, b.Net), cmp.Compare(a.Ifindex, b.Ifindex), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.PID, b.PID), cmp.Compare(a.Inode, b.Inode), cmp.Compare(a.Handler, b.Handler))
	})
	return r.f
}

type tapReader struct {
	s  *sources
	ns *nsTable
	f  TapFacts
}

func (r *tapReader) errorf(format string, args ...any) {
	r.f.Errors = append(r.f.Errors, oneLine(fmt.Sprintf(format, args...)))
}

func (r *tapReader) hide(label string) {
	r.f.NamespacesHidden++
	r.f.Hidden = append(r.f.Hidden, label)
}

// own reads the probing thread's namespace. /proc/net would be the one of the
// first thread of the process.
func (r *tapReader) own() {
	r.f.NamespacesSeen = 1
	v, err := readTapView(r.s.proc, "thread-self")
	if err != nil {
		r.errorf("packet sockets: %v", err)
	}
	r.f.Complete = err == nil
	if v != nil {
		r.add("", v, sys.InterfaceName)
	}
}

// entry reads another namespace, by one of its processes or from inside.
func (r *tapReader) entry(e nsEntry) {
	var v *tapView
	var err error
	read := func(dir string) { v, err = readTapView(r.s.proc, dir) }
	if dir, ok := r.processOf(e); ok {
		read(dir)
	} else if inErr := r.ns.in(e.label, func() error { read("thread-self"); return nil }); inErr != nil {
		err = inErr
	}
	if err != nil {
		r.errorf("packet sockets of namespace %s: %v", e.label, err)
		r.hide(e.label)
	} else {
		r.f.NamespacesSeen++
	}
	if v == nil {
		return
	}
	r.add(e.label, v, func(index int) (name string, err error) {
		if inErr := r.ns.in(e.label, func() error { name, err = sys.InterfaceName(index); return nil }); inErr != nil {
			return "", inErr
		}
		return name, err
	})
}

// processOf returns the directory of a process (or thread) in the namespace,
// below /proc. Its id may meanwhile be another's: the inode of net/dev, which
// belongs to the namespace, tells.
func (r *tapReader) processOf(e nsEntry) (dir string, ok bool) {
	for _, p := range append([]string{e.path}, e.others...) {
		dir, ok := strings.CutSuffix(strings.TrimPrefix(p, "/proc/"), "/ns/net")
		if !ok || e.netDev == 0 {
			continue
		}
		if fi, err := fs.Stat(r.s.proc, dir+"/net/dev"); err == nil && inode(fi) == e.netDev {
			return dir, true
		}
	}
	return "", false
}

// locked reads the namespaces that cannot be entered, and so have no label,
// through a process in them: what is below /proc/PID/net is open to all.
func (r *tapReader) locked(ctx context.Context) {
	next := len(r.ns.list())
	for _, netDev := range slices.Sorted(maps.Keys(r.ns.locked)) {
		if ctx.Err() != nil {
			return
		}
		label := fmt.Sprintf("ns%d", next)
		next++
		dir := strconv.Itoa(r.ns.locked[netDev])
		fi, err := fs.Stat(r.s.proc, dir+"/net/dev")
		if err == nil && inode(fi) != netDev {
			err = errors.New("its process has ended")
		}
		var v *tapView
		if err == nil {
			v, err = readTapView(r.s.proc, dir)
		}
		if err != nil {
			r.errorf("packet sockets of namespace %s: %v", label, err)
			r.hide(label)
		} else {
			r.f.NamespacesSeen++
		}
		if v != nil {
			r.add(label, v, func(int) (string, error) { return "", fs.ErrPermission })
		}
	}
}

// initPIDNamespace is the inode of the first PID namespace, fixed since Linux
// 3.8 (PROC_PID_INIT_INO in linux/proc_ns.h).
const initPIDNamespace = "pid:[4026531836]"

// view notes where processes, and with them namespaces, are kept from us: in
// the PID namespace of a container, and below a /proc mounted with hidepid.
func (r *tapReader) view() {
	if link, err := fs.ReadLink(r.s.proc, "self/ns/pid"); err != nil {
		r.errorf("PID namespace: %v", err)
		r.hide("?")
	} else if link != initPIDNamespace {
		r.errorf("in a PID namespace of its own: processes outside, and their network namespaces, cannot be seen")
		r.hide("?")
	} else if _, err := fs.Stat(r.s.proc, "1"); err != nil {
		r.errorf("/proc hides the processes of other users (hidepid), and their network namespaces")
		r.hide("?")
	}
}

// add notes what one namespace says of its packet sockets.
func (r *tapReader) add(label string, v *tapView, name func(index int) (string, error)) {
	names := map[int]string{0: ""}
	for _, p := range v.sockets {
		if _, ok := names[p.ifindex]; !ok && p.ifindex > 0 {
			n, err := name(p.ifindex)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				r.errorf("name of device %d: %v", p.ifindex, err)
			}
			names[p.ifindex] = n
		}
		r.f.Taps = append(r.f.Taps, TapFact{Net: label, Device: names[p.ifindex], Ifindex: p.ifindex,
			Protocol: p.protocol, Running: p.running, Inode: p.inode, UID: p.uid})
	}
	for _, h := range v.hooks {
		// A handler for any device is in the list of every namespace.
		if h.all && !h.socketHandler() && (label == "" || h.device != "") {
			r.f.Taps = append(r.f.Taps, TapFact{Net: label, Device: h.device, Ifindex: handlerIndex(h.device),
				Protocol: ethPAll, Running: true, Handler: h.function})
		}
	}
}

// handlerIndex stands in for the index of a handler's device, which ptype does
// not tell: 0 is any device, -1 the one that is named.
func handlerIndex(device string) int {
	if device == "" {
		return 0
	}
	return -1
}

// descriptorsMost bounds the search for the owners of packet sockets. It takes
// about a microsecond each.
const descriptorsMost = 500_000

// owners finds the process and the PACKET_IGNORE_OUTGOING of each socket. Where
// several share one, it is the process with the lowest id. An ordinary user
// sees the descriptors of his own processes only.
func (r *tapReader) owners(ctx context.Context) {
	want := make(map[string]*TapFact)
	for i := range r.f.Taps {
		if t := &r.f.Taps[i]; t.Inode != 0 {
			want[fmt.Sprintf("socket:[%d]", t.Inode)] = t
		}
	}
	if len(want) == 0 {
		return
	}
	pids, err := processIDs(r.s.proc)
	if err != nil {
		r.errorf("processes: %v", err)
	}
	left := descriptorsMost
	for _, pid := range pids {
		if len(want) == 0 || ctx.Err() != nil {
			return
		}
		dir := strconv.Itoa(pid) + "/fd"
		fds, err := fs.ReadDir(r.s.proc, dir)
		if err != nil {
			continue // not ours, or ended meanwhile
		}
		if left -= len(fds); left < 0 {
			r.errorf("owners of packet sockets: more than %d descriptors on this host", descriptorsMost)
			return
		}
		for _, d := range fds {
			link, err := fs.ReadLink(r.s.proc, dir+"/"+d.Name())
			if t := want[link]; err == nil && t != nil {
				r.owned(t, pid, d.Name())
				delete(want, link)
			}
		}
	}
}

func processIDs(proc fs.FS) ([]int, error) {
	dirs, err := fs.ReadDir(proc, ".")
	var pids []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, err
}

func (r *tapReader) owned(t *TapFact, pid int, fd string) {
	t.PID = pid
	comm, err := readBounded(r.s.proc, fmt.Sprintf("%d/comm", pid), 4096)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.errorf("name of process %d: %v", pid, err)
	}
	t.Comm = strings.TrimSuffix(string(comm), "\n")
	n, err := strconv.Atoi(fd)
	if err != nil || t.Protocol != ethPAll || !t.Running {
		return // it copies nothing; leave its process alone
	}
	ignores, err := ignoresOutgoing(pid, n, t.Inode)
	if err != nil {
		r.errorf("PACKET_IGNORE_OUTGOING of process %d: %v", pid, err)
		return
	}
	t.IgnoreOutgoing = &ignores
}

// ignoresOutgoing reads the option of another process's socket through a
// duplicate that is closed at once. In a fanout group the group's flag counts,
// for it is the group that is on the kernel's list.
func ignoresOutgoing(pid, fd int, inode uint64) (ignores bool, err error) {
	pidfd, err := sys.PidfdOpen(pid)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, sys.Close(pidfd)) }()
	dup, err := sys.PidfdGetfd(pidfd, fd)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, sys.Close(dup)) }()
	if ino, err := sys.FileInode(dup); err != nil || ino != inode {
		return false, cmp.Or(err, errors.New("the descriptor is another file meanwhile"))
	}
	group, err := sys.PacketFanout(dup)
	if err != nil {
		return false, err
	}
	if group != 0 {
		return group&sys.FanoutIgnoreOutgoing != 0, nil
	}
	return sys.PacketIgnoreOutgoing(dup)
}

// list finds out whether the kernel keeps one any-device list for all
// namespaces, where that makes a difference.
func (r *tapReader) list() {
	matters := r.f.NamespacesHidden > 0
	for _, t := range r.f.Taps {
		matters = matters || t.anyDevice() && t.Running && t.Protocol == ethPAll
	}
	if !matters {
		r.f.GlobalListSource = "not looked at: no capture on any device, no hidden namespace"
		return
	}
	var err error
	r.f.GlobalList, r.f.GlobalListSource, err = readTapList(r.s.sys)
	if err != nil {
		r.errorf("list of packet taps: %v", err)
	}
}

// TapsShared says whether a packet socket on any device sees, and so makes the kernel
// copy, what other network namespaces send too, as on kernels to 6.12, and how that is
// known; nil where it is not. It opens no packet socket.
func TapsShared() (shared *bool, source string) {
	shared, source, err := readTapList(liveSources().sys)
	if err != nil {
		return nil, err.Error()
	}
	return shared, source
}

// readTapList asks the type information of the kernel.
func readTapList(sys fs.FS) (global *bool, source string, err error) {
	const name = "kernel/btf/vmlinux"
	f, err := sys.Open(name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, "", fmt.Errorf("%s cannot be read at an offset", name)
	}
	if global, source, err = globalTapList(at, st.Size()); err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return global, source, nil
}
