package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// limitFileMost bounds what is read of one file below /proc/PID.
const limitFileMost = 256 << 10

// Sysctls that are limits. Those below net belong to a network namespace:
// tcp_wmem on all kernels, optmem_max and wmem_max on new ones; where they do
// not, only the first namespace has the file.
var (
	netLimits  = []string{"net.core.optmem_max", "net.core.wmem_max", "net.ipv4.tcp_wmem", "net.ipv4.tcp_mtu_probing"}
	hostLimits = []string{"fs.pipe-max-size", "fs.pipe-user-pages-soft", "fs.pipe-user-pages-hard", "kernel.io_uring_disabled"}
)

// readLimits reads the limits of the process o names, or of our own.
func readLimits(ctx context.Context, s *sources, ns *nsTable, o Options) LimitFacts {
	r := limitReader{s: s, ns: ns, dir: "self", f: LimitFacts{PID: o.PID, PageSize: os.Getpagesize(),
		Groups: []int{}, Seccomp: "unknown", Sysctls: map[string]string{}, Errors: []string{}}}
	if o.PID != 0 {
		r.dir = strconv.Itoa(o.PID)
		if _, err := fs.Stat(s.proc, r.dir); errors.Is(err, fs.ErrNotExist) {
			r.errorf("process %d: no such process here", o.PID)
			return r.f
		}
	}
	r.status()
	r.userNamespace()
	r.f.Memlock = r.rlimit(sys.LimitMemlock, "Max locked memory")
	r.f.Nofile = r.rlimit(sys.LimitNofile, "Max open files")
	r.sysctls(hostLimits)
	r.inNamespace(func() {
		r.sysctls(netLimits)
		r.optmem()
	})
	r.f.CompletionBytes = completionMemory()
	if exempt, known := memlockExempt(&r.f); !exempt || !known {
		r.pinned(ctx)
	}
	return r.f
}

type limitReader struct {
	s   *sources
	ns  *nsTable
	dir string // of the process, below /proc
	f   LimitFacts
}

func (r *limitReader) errorf(format string, args ...any) {
	r.f.Errors = append(r.f.Errors, oneLine(fmt.Sprintf(format, args...)))
}

// oneLine makes one sentence of joined errors.
func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

func (r *limitReader) status() {
	b, err := readBounded(r.s.proc, r.dir+"/status", limitFileMost)
	var st processStatus
	if err == nil {
		st, err = parseStatus(b)
	}
	if err == nil && !st.complete {
		err = errors.New("user id or capabilities missing")
	}
	if err != nil {
		r.errorf("status of the process: %v", err)
		c, capErr := sys.ThreadCaps()
		if r.f.PID != 0 || capErr != nil {
			return
		}
		st = processStatus{uid: uint32(os.Getuid()), capEff: c.Effective, groups: []int{}, seccomp: "unknown"}
	}
	r.f.UID, r.f.HasUID, r.f.Groups, r.f.Seccomp = st.uid, true, st.groups, st.seccomp
	r.f.VmLckBytes, r.f.VmPinBytes = st.vmLck, st.vmPin
	r.f.CapIPCLock = new(st.capEff>>capIPCLock&1 != 0)
	r.f.CapPipe = new(st.capEff>>capSysResource&1 != 0)
	r.f.CapPipePages = new(st.capEff>>capSysResource&1 != 0 || st.capEff>>capSysAdmin&1 != 0)
}

func (r *limitReader) userNamespace() {
	link, err := fs.ReadLink(r.s.proc, r.dir+"/ns/user")
	if err == nil {
		r.f.InitUserNS = new(link == initialUserNS)
		return
	}
	// Another user's process. The first namespace maps every id to itself; one
	// that does not is another. The reverse is not so.
	m, mapErr := readBounded(r.s.proc, r.dir+"/uid_map", limitFileMost)
	if mapErr == nil && !fullUIDMap(m) {
		r.f.InitUserNS = new(false)
		return
	}
	r.errorf("user namespace of the process: %v", errors.Join(err, mapErr))
}

func (r *limitReader) rlimit(resource int, name string) *Rlimit {
	soft, hard, err := sys.Prlimit(r.f.PID, resource)
	if err == nil {
		return &Rlimit{soft, hard}
	}
	// The file is open to all, the system call to the owner.
	b, fileErr := readBounded(r.s.proc, r.dir+"/limits", limitFileMost)
	if fileErr == nil {
		var all map[string]Rlimit
		if all, fileErr = parseLimits(b); fileErr == nil {
			if l, ok := all[name]; ok {
				return &l
			}
			fileErr = fmt.Errorf("no %q in limits", name)
		}
	}
	r.errorf("%s: %v", strings.ToLower(name), errors.Join(err, fileErr))
	return nil
}

func (r *limitReader) sysctls(names []string) {
	for _, name := range names {
		b, err := readBounded(r.s.proc, "sys/"+strings.ReplaceAll(name, ".", "/"), limitFileMost)
		if errors.Is(err, fs.ErrNotExist) {
			continue // older kernels lack some, network namespaces of containers others
		}
		if err != nil {
			r.errorf("%s: %v", name, err)
			continue
		}
		r.f.Sysctls[name] = strings.TrimSpace(string(b))
	}
}

// inNamespace runs fn in the network namespace of the process. The files below
// /proc/sys/net show the namespace of the thread that opens them.
func (r *limitReader) inNamespace(fn func()) {
	if r.f.PID == 0 {
		fn()
		return
	}
	label, err := r.namespace()
	if err == nil {
		err = r.ns.in(label, func() error { fn(); return nil })
	}
	if err != nil {
		r.errorf("network namespace of process %d: %v", r.f.PID, err)
	}
}

// namespace returns the label of the process's namespace.
func (r *limitReader) namespace() (string, error) {
	fi, err := fs.Stat(r.s.proc, r.dir+"/ns/net")
	byDev := errors.Is(err, fs.ErrPermission)
	if byDev { // then its net/dev tells at least whether it is in ours
		fi, err = fs.Stat(r.s.proc, r.dir+"/net/dev")
	}
	if err != nil {
		return "", err
	}
	for _, e := range r.ns.list() {
		if ino := inode(fi); ino != 0 && (byDev && ino == e.netDev || !byDev && ino == e.inode) {
			return e.label, nil
		}
	}
	if byDev {
		return "", fs.ErrPermission
	}
	return "", errors.New("not found")
}

// optmem finds net.core.optmem_max by trial where the file is missing, as in
// the network namespaces of containers on kernels without a value for each: the
// smallest control message that a socket refuses is as long as the limit.
func (r *limitReader) optmem() {
	if _, ok := r.f.Sysctls["net.core.optmem_max"]; ok {
		return
	}
	fd, err := sys.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		r.errorf("net.core.optmem_max by trial: %v", err)
		return
	}
	defer sys.Close(fd)
	control := make([]byte, optmemMost)
	lo, hi := uint64(0), uint64(optmemMost) // lo is accepted, hi assumed refused
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		switch err := sys.SendControl(fd, control[:mid]); {
		case errors.Is(err, syscall.ENOBUFS):
			hi = mid
		case errors.Is(err, syscall.EDESTADDRREQ):
			lo = mid
		default:
			r.errorf("net.core.optmem_max by trial: sendmsg with %d bytes: %v", mid, err)
			return
		}
	}
	r.f.OptmemFound = &hi
}

// completionMemory sends a zero-copy datagram over loopback and returns the
// option memory that its completion takes before it is read; nil where that
// cannot be done.
func completionMemory() *uint64 {
	fd, err := sys.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return nil
	}
	defer sys.Close(fd)
	if sys.SetsockoptInt(fd, syscall.SOL_SOCKET, sys.SoZerocopy, 1) != nil ||
		sys.Bind(fd, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)) != nil {
		return nil
	}
	self, err := sys.LocalAddr(fd)
	if err != nil || sys.Connect(fd, self) != nil {
		return nil
	}
	if _, err := sys.Send(fd, []byte{0}, sys.MsgZerocopy); err != nil {
		return nil
	}
	if ev, err := sys.Poll(fd, 0, completionPatience); err != nil || ev&sys.PollErr == 0 {
		return nil
	}
	info := make([]byte, 4*(sys.MeminfoOptmem+1))
	if n, err := sys.GetsockoptBytes(fd, syscall.SOL_SOCKET, sys.SoMeminfo, info); err != nil || n < len(info) {
		return nil
	}
	if v := uint64(binary.NativeEndian.Uint32(info[4*sys.MeminfoOptmem:])); v > 0 {
		return &v
	}
	return nil
}

// completionPatience bounds the wait for a completion over loopback, which
// comes before send returns, in milliseconds.
const completionPatience = 100

// pinned sums what other processes of the same user have pinned. The kernel's
// own count, per user id and host-wide, cannot be read: zero-copy sends in
// flight are in none of these, and some of what is in these is not in it.
func (r *limitReader) pinned(ctx context.Context) {
	if !r.f.HasUID {
		return
	}
	pids, err := processIDs(r.s.proc)
	if err != nil {
		r.errorf("processes: %v", err)
		return
	}
	sum := uint64(0)
	for _, pid := range pids {
		if ctx.Err() != nil {
			return
		}
		if pid == r.f.PID || r.f.PID == 0 && pid == os.Getpid() {
			continue
		}
		b, err := readBounded(r.s.proc, strconv.Itoa(pid)+"/status", limitFileMost)
		if err != nil {
			continue // ended meanwhile
		}
		if st, err := parseStatus(b); err == nil && st.uid == r.f.UID && st.vmPin != nil {
			sum += *st.vmPin
		}
	}
	r.f.OthersPinBytes = &sum
}
