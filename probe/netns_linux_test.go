package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// entryFor returns the table's entry for a namespace file.
func entryFor(t *testing.T, tab *nsTable, file string) nsEntry {
	t.Helper()
	want := namespaceOf(t, file)
	for _, e := range tab.list() {
		if e.inode == want {
			return e
		}
	}
	t.Errorf("namespace %d of %s is not in the table %+v", want, file, tab.list())
	return nsEntry{}
}

func TestFindNamespaces(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	// b holds a process too, a only a thread of ours.
	child := sleeper(t, b)
	a.Do(func() {
		tab := findNamespaces(liveSources())
		l := tab.list()
		if l[0].label != "" || l[0].inode != namespaceOf(t, a.Path()) {
			t.Errorf("first entry %+v, want our own namespace", l[0])
		}
		for i, e := range l[1:] {
			if e.label != fmt.Sprintf("ns%d", i+1) || e.err != nil || i > 0 && e.inode <= l[i].inode {
				t.Errorf("entry %d: %+v", i+1, e)
			}
		}
		if e := entryFor(t, tab, b.Path()); e.pid != child && e.pid != os.Getpid() {
			t.Errorf("pid %d of %+v, want %d or %d", e.pid, e, child, os.Getpid())
		}
		entryFor(t, tab, "/proc/self/ns/net")
		if n := tab.hidden(); n != 0 {
			t.Errorf("%d hidden namespaces, want none for root", n)
		}
	})
}

func TestFindNamespacesBound(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "ip")
	name := fmt.Sprintf("zcprobe-test-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del: %v: %s", err, out)
		}
	})
	err := onProbeThread(t.Context(), func() error {
		tab := findNamespaces(liveSources())
		e := entryFor(t, tab, "/run/netns/"+name)
		if e.path != "/run/netns/"+name || e.pid != 0 || e.err != nil {
			t.Errorf("entry %+v: %v", e, e.err)
		}
		return tab.in(e.label, func() error {
			if got := namespaceOf(t, threadNamespace); got != e.inode {
				t.Errorf("in namespace %d, want %d", got, e.inode)
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNamespaceIn(t *testing.T) {
	a, b, c := testenv.NewNetNS(t), testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			tab := findNamespaces(liveSources())
			lb, lc := entryFor(t, tab, b.Path()).label, entryFor(t, tab, c.Path()).label
			at := func(ns *testenv.NetNS) error {
				t.Helper()
				if got, want := namespaceOf(t, threadNamespace), namespaceOf(t, ns.Path()); got != want {
					t.Errorf("in namespace %d, want %d", got, want)
				}
				return nil
			}
			boom := errors.New("boom")
			err := tab.in(lb, func() error {
				at(b)
				if err := tab.in(lc, func() error { return at(c) }); err != nil {
					t.Error(err)
				}
				at(b)
				// Home from abroad, and abroad from there.
				if err := tab.in("", func() error {
					at(a)
					return tab.in(lb, func() error { return at(b) })
				}); err != nil {
					t.Error(err)
				}
				at(b)
				return boom
			})
			if !errors.Is(err, boom) {
				t.Errorf("got %v, want fn's error", err)
			}
			at(a)
			if err := tab.in("ns999", func() error { t.Error("ran"); return nil }); err == nil {
				t.Error("entered a namespace that is not in the table")
			}
			return at(a)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNamespaceInComesBackAfterPanic(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			tab := findNamespaces(liveSources())
			func() {
				defer func() { _ = recover() }()
				_ = tab.in(entryFor(t, tab, b.Path()).label, func() error { panic("boom") })
			}()
			if got, want := namespaceOf(t, threadNamespace), namespaceOf(t, a.Path()); got != want || tab.here != "" {
				t.Errorf("in namespace %d (%q), want %d", got, tab.here, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNamespaceGone(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Do(func() {
		tab := findNamespaces(liveSources())
		e := entryFor(t, tab, b.Path())
		i := len(tab.entries)
		for j := range tab.entries {
			if tab.entries[j].inode == e.inode {
				i = j
			}
		}
		// Its process ended and the id went to a process of another namespace.
		tab.entries[i].path, tab.entries[i].others = "/proc/self/ns/net", []string{"/proc/0/ns/net"}
		err := tab.in(e.label, func() error { t.Error("ran"); return nil })
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "another network namespace now") {
			t.Errorf("got %v", err)
		}
	})
}

func TestLabelOf(t *testing.T) {
	a, b := testenv.NewNetNS(t), testenv.NewNetNS(t)
	a.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b.Path())
	b.Run("ip", "link") // writing the link out is what gives the peer's namespace its id
	a.Do(func() {
		err := onProbeThread(t.Context(), func() error {
			tab := findNamespaces(liveSources())
			want := entryFor(t, tab, b.Path()).label
			nl, err := sys.OpenNetlink(sys.NetlinkRoute)
			if err != nil {
				return err
			}
			defer nl.Close()
			f, err := os.Open(b.Path())
			if err != nil {
				return err
			}
			defer f.Close()
			id, err := sys.NetNSID(nl, f)
			if err != nil || id < 0 {
				t.Errorf("nsid of the peer's namespace: %d, %v", id, err)
			}
			if got, ok := tab.labelOf(id); got != want || !ok {
				t.Errorf("labelOf(%d) = %q, %t, want %q", id, got, ok, want)
			}
			if got, ok := tab.labelOf(4711); got != "?" || ok {
				t.Errorf("labelOf(4711) = %q, %t", got, ok)
			}
			// From the other side our own namespace has a number too.
			return tab.in(want, func() error {
				home, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", tab.home.Fd()))
				if err != nil {
					return err
				}
				defer home.Close()
				nl, err := sys.OpenNetlink(sys.NetlinkRoute)
				if err != nil {
					return err
				}
				defer nl.Close()
				id, err := sys.NetNSID(nl, home)
				if err != nil || id < 0 {
					t.Errorf("nsid of home: %d, %v", id, err)
				}
				if got, ok := tab.labelOf(id); got != "" || !ok {
					t.Errorf("labelOf(%d) = %q, %t, want our own", id, got, ok)
				}
				return nil
			})
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestFindNamespacesWithoutProc(t *testing.T) {
	empty := &sources{proc: fstest.MapFS{}, sys: fstest.MapFS{}, root: fstest.MapFS{}}
	tab := findNamespaces(empty)
	if l := tab.list(); len(l) != 1 || l[0].label != "" || tab.hidden() != 0 {
		t.Errorf("list %+v, hidden %d", l, tab.hidden())
	}
	ran := false
	if err := tab.in("", func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("own namespace: %v, ran %t", err, ran)
	}
}

func TestBoundNamespace(t *testing.T) {
	for _, c := range []struct {
		line string
		ino  uint64
		file string
	}{
		{`36 35 0:4 net:[4026532183] /run/netns/blue rw shared:1 - nsfs nsfs rw`, 4026532183, "/run/netns/blue"},
		{`36 35 0:4 net:[4026532183] /run/netns/a\040b\134c rw - nsfs nsfs rw`, 4026532183, `/run/netns/a b\c`},
		{`36 35 0:4 mnt:[4026532183] /run/x rw - nsfs nsfs rw`, 0, ""},
		{`36 35 0:4 net:[x] /run/x rw - nsfs nsfs rw`, 0, ""},
		{`36 35 0:4 /net:[1] /run/x rw - ext4 x rw`, 0, ""},
		{`36 35`, 0, ""},
		{``, 0, ""},
	} {
		ino, file, ok := boundNamespace(c.line)
		if ino != c.ino || file != c.file || ok != (c.ino != 0) {
			t.Errorf("boundNamespace(%q) = %d, %q, %t", c.line, ino, file, ok)
		}
	}
}

// sleeper starts a process in the namespace that ends with the test.
func sleeper(t *testing.T, ns *testenv.NetNS) int {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "sleep"), "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestFindNamespacesAsNobody(t *testing.T) {
	if os.Geteuid() == 0 {
		ns := testenv.NewNetNS(t)
		sleeper(t, ns)
		again := exec.Command("/proc/self/exe", "-test.run=^TestFindNamespacesAsNobody$", "-test.v")
		again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		again.Env = append(os.Environ(), "ZCPROBE_TEST_HIDDEN=1")
		out, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("as nobody: %v\n%s", err, out)
		}
		return
	}
	err := onProbeThread(t.Context(), func() error {
		tab := findNamespaces(liveSources())
		for _, e := range tab.list()[1:] {
			if !errors.Is(e.err, fs.ErrPermission) {
				t.Errorf("entry %+v, want permission denied", e)
			}
			if err := tab.in(e.label, func() error { t.Error("ran"); return nil }); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("entering %q: %v, want permission denied", e.label, err)
			}
		}
		if n := tab.hidden(); n == 0 && os.Getenv("ZCPROBE_TEST_HIDDEN") != "" {
			t.Error("no hidden namespace, want at least the one of the sleeper")
		}
		return tab.in("", func() error { return nil })
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFindNamespacesThatEnd looks while namespaces come and go: one that has
// ended is neither in the table nor hidden.
func TestFindNamespacesThatEnd(t *testing.T) {
	testenv.Root(t)
	unshare, trueTool := testenv.Tool(t, "unshare"), testenv.Tool(t, "true")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 60 {
			if _, err := runTool(unshare, "-n", trueTool); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		err := onProbeThread(t.Context(), func() error {
			tab := findNamespaces(liveSources())
			if n := tab.hidden(); n != 0 {
				t.Errorf("%d hidden: %+v", n, tab.list())
			}
			for i, e := range tab.list()[1:] {
				if e.err != nil || e.label != fmt.Sprintf("ns%d", i+1) {
					t.Errorf("entry %+v: %v", e, e.err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
