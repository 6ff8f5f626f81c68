package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFamily(t *testing.T) {
	proc := fstest.MapFS{}
	for pid, stat := range map[int]string{
		1: "1 (init) S 0 1 1", 10: "10 (nginx) S 1 10", 11: "11 (a) b) S 99) S 10 10", 12: "12 (x\n) S 11 10", 20: "20 (other) S 1 20",
		30: "30 (cut off", 31: "31 (half) S",
	} {
		proc[fmt.Sprintf("%d/stat", pid)] = &fstest.MapFile{Data: []byte(stat)}
	}
	proc["net/stat"] = &fstest.MapFile{Data: []byte("1 (x) S 10")}
	proc["13/comm"] = &fstest.MapFile{Data: []byte("gone")}
	for _, c := range []struct{ ask, want []int }{
		{[]int{10}, []int{10, 11, 12}}, {[]int{12}, []int{12}}, {[]int{20, 11}, []int{11, 12, 20}}, {[]int{77}, []int{77}}, {[]int{1}, []int{1, 10, 11, 12, 20}},
	} {
		got, err := Family(proc, c.ask)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v; want %v", c.ask, got, err, c.want)
		}
	}
}

func TestLeader(t *testing.T) {
	proc := fstest.MapFS{
		"12/status": &fstest.MapFile{Data: []byte("Name:\tTgid:\\n3\nUmask:\t0022\nTgid:\t10\nPid:\t12\n")},
		"10/status": &fstest.MapFile{Data: []byte("Name:\tx\nTgid:\t10\n")},
		"13/status": &fstest.MapFile{Data: []byte("Name:\tx\nTgid:\t\n")},
	}
	for pid, want := range map[int]int{10: 10, 12: 10, 13: 13, 14: 14} {
		if got := Leader(proc, pid); got != want {
			t.Errorf("%d: %d, want %d", pid, got, want)
		}
	}
}

// The real /proc knows the parent of this process.
func TestFamilyLive(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	got, err := Family(os.DirFS("/proc"), []int{os.Getppid()})
	if err != nil || !slices.Contains(got, os.Getpid()) {
		t.Errorf("%v, %v; want %d in it", got, err, os.Getpid())
	}
}

func FuzzParentOf(f *testing.F) {
	f.Add([]byte("11 (a) b) S 10 10"))
	f.Add([]byte("1 (init) S 0 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if parent, ok := parentOf(b); ok && parent <= 0 {
			t.Errorf("%q: %d", b, parent)
		}
	})
}

const (
	id  = "4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7dabcd"
	id2 = "4f1cffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	id3 = "99990e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7d4f1c0e9a5b7dabcd"
)

func TestContainer(t *testing.T) {
	cgroups := fstest.MapFS{}
	for _, dir := range []string{
		"system.slice/docker-" + id + ".scope/init.scope", "system.slice/docker.service", "user.slice/libpod-conmon-" + id2 + ".scope",
		"kubepods.slice/kubepods-burstable.slice/cri-containerd-" + id2 + ".scope", "docker/" + id3, "machine.slice/libpod-77777.scope/container",
		"machine.slice/libpod-77777aa.scope/container",
	} {
		cgroups[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	}
	for _, c := range []struct {
		ask, want string
		err       error
	}{
		{id, "system.slice/docker-" + id + ".scope", nil},
		{id[:12], "system.slice/docker-" + id + ".scope", nil},
		{id2[:8], "kubepods.slice/kubepods-burstable.slice/cri-containerd-" + id2 + ".scope", nil},
		{id3[:12], "docker/" + id3, nil},
		{"4f1c", "", ErrSeveral},
		{"77777", "machine.slice/libpod-77777.scope", nil}, // in full, though another begins alike
		{"dead", "", ErrNone},
		{"system", "", ErrNone},
	} {
		got, err := Container(cgroups, c.ask)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", c.ask, got, err, c.want, c.err)
		}
	}
	for _, bad := range []string{"", "abc", "../../etc"} {
		if _, err := Container(cgroups, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCgroupPath(t *testing.T) {
	for ask, want := range map[string]string{
		"/sys/fs/cgroup/system.slice/a.service": "system.slice/a.service", "/system.slice/a.service": "system.slice/a.service",
		"system.slice/a.service/": "system.slice/a.service", "/sys/fs/cgroup": ".", "0::/user.slice": "user.slice", "/sys/fs/cgroup2": "sys/fs/cgroup2",
		"../../etc": "etc",
	} {
		got, err := CgroupPath("/sys/fs/cgroup", ask)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", ask, got, err, want)
		}
	}
}

func TestDestination(t *testing.T) {
	names := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "db" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")}, nil
	}
	for ask, want := range map[string]string{
		"10.0.0.5": "[10.0.0.5/32] 0", "10.0.0.5:80": "[10.0.0.5/32] 80", "10.1.2.3/8": "[10.0.0.0/8] 0", "2001:db8::1": "[2001:db8::1/128] 0",
		"[2001:db8::1]:443": "[2001:db8::1/128] 443", "[2001:db8::1]": "[2001:db8::1/128] 0", "2001:db8::/32": "[2001:db8::/32] 0",
		"db": "[10.0.0.5/32 2001:db8::5/128] 0", "db:5432": "[10.0.0.5/32 2001:db8::5/128] 5432", ":443": "[] 443", "::ffff:10.0.0.5": "[10.0.0.5/32] 0",
		"fe80::1%eth0": "[fe80::1/128] 0", "::ffff:10.1.2.3/104": "[10.0.0.0/8] 0",
	} {
		d, err := ParseDestination(t.Context(), ask, names)
		if got := fmt.Sprintf("%v %d", d.Prefixes, d.Port); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", ask, got, err, want)
		}
	}
	for _, bad := range []string{"db:0", "db:http", "db:99999", "10.0.0.0/99", "nowhere", "a b", "[db", "::ffff:0.0.0.0/95"} {
		if d, err := ParseDestination(t.Context(), bad, names); err == nil {
			t.Errorf("%s: %v", bad, d)
		}
	}
}

// Whatever is written as a destination gives addresses that a socket can have.
func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"10.0.0.5:80", "10.1.2.3/8", "[2001:db8::1]:443", "db:5432", ":443", "::ffff:10.0.0.5", "::ffff:10.0.0.0/104", "fe80::1%eth0", "[db"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDestination(t.Context(), s, func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "" || len(host) > len(s) || strings.ContainsAny(host, "/:[] ") {
				t.Errorf("%q: looked up %q", s, host)
			}
			return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%x")}, nil
		})
		if err != nil && (d.Prefixes != nil || d.Port != 0) {
			t.Errorf("%q: both %+v and %v", s, d, err)
		}
		for _, p := range d.Prefixes {
			if !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
				t.Errorf("%q: %v, which no socket matches", s, p)
			}
		}
	})
}

// Names of processes and of control groups are chosen by strangers, and asked for by
// whoever writes the command.
func FuzzNames(f *testing.F) {
	f.Add("/sys/fs/cgroup/system.slice/a.service", []byte("Name:\tx\nTgid:\t10\n"))
	f.Add("0::/../..", []byte("Tgid:\t-1\n"))
	f.Add("docker-"+id+".scope", []byte("Tgid:"))
	f.Fuzz(func(t *testing.T, name string, status []byte) {
		if p, err := CgroupPath("/sys/fs/cgroup", name); err == nil && !fs.ValidPath(p) {
			t.Errorf("%q: %q leads elsewhere", name, p)
		}
		if got, ok := containerID(name); ok && (len(got) < shortestID || strings.ContainsAny(got, "-.:@")) {
			t.Errorf("%q: container %q", name, got)
		}
		if pid := Leader(fstest.MapFS{"7/status": {Data: status}}, 7); pid <= 0 {
			t.Errorf("%q: process %d", status, pid)
		}
	})
}
