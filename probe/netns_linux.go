package probe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// nsTable holds the network namespaces that can be named on this host: the
// one the probing thread started in and those that a process is in or a file
// in the file system stands for. It belongs to one probing thread, and holds
// no descriptor: namespaces live and die without us.
type nsTable struct {
	sys     fs.FS     // /sys as the process sees it
	entries []nsEntry // [0] is our own
	unseen  int       // exist, but there is no file to reach them by
	// locked holds a process of each of those, by the inode of its net/dev:
	// /proc/PID/net can be read although the namespace cannot be entered.
	locked map[uint64]int
	here   string   // label of the namespace the thread is in
	home   *os.File // our own namespace while the thread is in another
	tcx    *bool    // what mayHaveTCX found; nil: not asked
}

// nsEntry is one network namespace.
type nsEntry struct {
	label string // "" is our own, then "ns1", "ns2", ... by inode
	inode uint64 // of the nsfs file; 0: no /proc
	path  string // a file that stands for it
	pid   int    // a process in it; 0: none known
	err   error  // why it cannot be entered; nil: it can, as far as was tried

	others []string // more files that stand for it, should path vanish
	netDev uint64   // inode of net/dev of a process in it; 0: not looked at
}

// maxOtherPaths bounds what is kept of a namespace shared by many processes.
const maxOtherPaths = 3

// findNamespaces looks through /proc/PID/ns/net and the files bound to network
// namespaces, in /run/netns or wherever else they are mounted.
func findNamespaces(s *sources) *nsTable {
	sc := nsScan{proc: s.proc, byInode: map[uint64]*nsEntry{}, locked: map[uint64]int{}}
	own := sc.own()
	sc.processes()
	sc.files(s.root)
	delete(sc.byInode, own.inode)

	t := &nsTable{sys: s.sys, entries: []nsEntry{own}}
	for _, e := range sc.byInode {
		t.entries = append(t.entries, *e)
	}
	slices.SortFunc(t.entries[1:], func(a, b nsEntry) int { return cmp.Compare(a.inode, b.inode) })
	mayEnter := mayEnterNamespaces()
	kept := t.entries[:1]
	for _, e := range t.entries[1:] {
		f, err := e.open()
		if errors.Is(err, errNamespaceGone) {
			continue
		}
		if err == nil {
			f.Close()
		}
		e.label, e.err = fmt.Sprintf("ns%d", len(kept)), cmp.Or(mayEnter, err)
		kept = append(kept, e)
	}
	t.entries = kept
	t.unseen = sc.unseen(t.entries)
	t.locked = sc.locked
	for _, e := range t.entries {
		delete(t.locked, e.netDev)
	}
	return t
}

// mayEnterNamespaces returns nil, or why this thread may enter no namespace at
// all. To enter the one it is in takes what entering any takes, and changes
// nothing.
func mayEnterNamespaces() error {
	f, err := os.Open(threadNamespace)
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer f.Close()
	return sys.SetNetNS(f)
}

// list returns every namespace that can be named, our own first. Those with an
// err cannot be entered.
func (t *nsTable) list() []nsEntry { return slices.Clone(t.entries) }

// hidden returns how many namespaces exist that cannot be entered, at least.
func (t *nsTable) hidden() int {
	n := t.unseen
	for _, e := range t.entries[1:] {
		if e.err != nil {
			n++
		}
	}
	return n
}

// in runs fn with the calling thread, which must be the table's probing
// thread, in the namespace with the given label (ns0 is our own, as in
// Link.ParentN). The error is fn's or says why
// the namespace could not be entered. Goroutines that fn starts are elsewhere.
//
// A thread that cannot come back must not run anything more: in then panics
// with threadLost, which ends the probing thread.
func (t *nsTable) in(label string, fn func() error) error {
	if label == ownNamespace {
		label = ""
	}
	if label == t.here {
		return fn()
	}
	back, err := os.Open(threadNamespace)
	if err != nil {
		return fmt.Errorf("enter network namespace %q: %w", label, err)
	}
	defer back.Close()
	to, err := t.open(label)
	if err != nil {
		return fmt.Errorf("enter network namespace %q: %w", label, err)
	}
	defer to.Close()
	// Coming back takes more than going where our namespace belongs to
	// another user namespace: prove it first.
	if err := sys.SetNetNS(back); err != nil {
		return fmt.Errorf("enter network namespace %q: the way back: %w", label, err)
	}
	if err := sys.SetNetNS(to); err != nil {
		return fmt.Errorf("enter network namespace %q: %w", label, err)
	}
	was, home := t.here, t.home
	t.here = label
	if home == nil {
		t.home = back
	}
	defer func() {
		if err := sys.SetNetNS(back); err != nil {
			panic(threadLost{fmt.Errorf("leave network namespace %q: %w", label, err)})
		}
		t.here, t.home = was, home
	}()
	return fn()
}

// open opens the namespace with the given label.
func (t *nsTable) open(label string) (*os.File, error) {
	i := slices.IndexFunc(t.entries, func(e nsEntry) bool { return e.label == label })
	if i < 0 {
		return nil, errors.New("no such namespace")
	}
	if label == "" && t.home == nil {
		return os.Open(threadNamespace)
	}
	if label == "" {
		// The thread is elsewhere; paths of its own lead there.
		return os.Open(fmt.Sprintf("/proc/self/fd/%d", t.home.Fd()))
	}
	return t.entries[i].open()
}

// errNamespaceGone says that no file stands for the namespace any more.
var errNamespaceGone = errors.New("the network namespace is gone")

// open opens the namespace by the first of its files that still stands for it.
func (e *nsEntry) open() (*os.File, error) {
	var errs []error
	gone := true
	for _, p := range append([]string{e.path}, e.others...) {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrPermission) {
			// A process that ends while its link is followed is EACCES, too
			// (proc_ns_get_link); it is ENOENT once it has ended.
			f, err = os.Open(p)
		}
		if err != nil {
			gone = gone && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH))
			errs = append(errs, err)
			continue
		}
		fi, err := f.Stat()
		if err == nil && inode(fi) == e.inode {
			return f, nil
		}
		f.Close()
		gone = gone && err == nil
		if err == nil { // a process id that was used again
			err = fmt.Errorf("%s is another network namespace now", p)
		}
		errs = append(errs, err)
	}
	if gone {
		errs = append([]error{errNamespaceGone}, errs...)
	}
	return nil, errors.Join(errs...)
}

// labelOf names the namespace that the one the thread is in knows as nsid, as
// in IFLA_LINK_NETNSID. It is "?" and false for one that is not in the table.
func (t *nsTable) labelOf(nsid int) (string, bool) {
	nl, err := sys.OpenNetlink(sys.NetlinkRoute)
	if err != nil {
		return "?", false
	}
	defer nl.Close()
	if label, ok := t.nsidLabels(nl)[nsid]; ok {
		return label, true
	}
	return "?", false
}

// nsidLabels returns the labels of all namespaces that have an id where the
// thread is.
func (t *nsTable) nsidLabels(nl *sys.Netlink) map[int]string {
	ids := map[int]string{}
	for _, e := range t.entries {
		f, err := t.open(e.label)
		if err != nil {
			continue // gone or hidden: its id stays without a name
		}
		if id, err := sys.NetNSID(nl, f); err == nil && id >= 0 {
			ids[id] = e.label
		}
		f.Close()
	}
	return ids
}
