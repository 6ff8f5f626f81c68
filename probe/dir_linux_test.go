package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// dirTrial asks a child, in a mount namespace of its own, to mount a file
// system and look at it.
type dirTrial struct {
	FS, Image, Options string
	Fill               bool
	Write              bool
}

type dirResult struct {
	Facts         DirFacts
	Before, After map[string]string // of every file: size, times, inode
	Opened        []string          // files that should not be, but were
	Descriptors   int               // that remained open
}

func childDir(t *testing.T, arg json.RawMessage) any {
	var c dirTrial
	if err := json.Unmarshal(arg, &c); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	at := "/mnt"
	args := []string{"-t", c.FS, "-o", c.Options, c.Image, at}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %q: %v: %s", args, err, out)
	}
	if c.Fill {
		fillDir(t, at)
	}
	var r dirResult
	r.Before = fileStates(t, at)
	watch := watchOpens(t, at, "fifo", "link")
	open := openDescriptors(t)
	r.Facts = readDir(t.Context(), liveSources(), at, c.Write)
	r.Descriptors = openDescriptors(t) - open
	r.Opened = watch()
	r.After = fileStates(t, at)
	return r
}

// fillDir makes what a directory may hold.
func fillDir(t *testing.T, dir string) {
	t.Helper()
	b := make([]byte, 3<<19)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i)
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "a"), b[:300_001], 0o644),
		os.WriteFile(filepath.Join(dir, "b"), b, 0o644), // more than is tried
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, "sub"), 0o755),
		os.WriteFile(filepath.Join(dir, "sub", "c\x1b[2J\n"), b[:1], 0o644),
		os.Symlink("/etc/passwd", filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	if err != nil {
		t.Fatal(err)
	}
	unix.Sync()
}

func fileStates(t *testing.T, dir string) map[string]string {
	t.Helper()
	states := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if !d.IsDir() { // walking changes the time a directory was read
			states[path] = fmt.Sprint(st.Ino, st.Size, st.Atim, st.Mtim, st.Ctim)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// watchOpens watches whether any of the files is opened; O_PATH opens nothing.
func watchOpens(t *testing.T, dir string, names ...string) func() []string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		_, err := unix.InotifyAddWatch(fd, filepath.Join(dir, n), unix.IN_OPEN|unix.IN_DONT_FOLLOW)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return func() []string {
		defer unix.Close(fd)
		b := make([]byte, 4096)
		if n, err := unix.Read(fd, b); err == nil {
			return []string{fmt.Sprintf("%d bytes of events", n)}
		}
		return nil
	}
}

// image makes a file system in a file.
func image(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	img := filepath.Join(dir, "image")
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(testenv.Tool(t, name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	switch kind {
	case "squashfs":
		fillDir(t, tree)
		run("mksquashfs", tree, img, "-quiet", "-no-progress")
		return img
	case "erofs":
		fillDir(t, tree)
		run("mkfs.erofs", "--quiet", img, tree)
		return img
	}
	f, err := os.Create(img)
	if err == nil {
		err = errors.Join(f.Truncate(400<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	quiet := "-q"
	if kind == "ext4" {
		run("mkfs.ext4", "-q", "-F", img)
	} else {
		run("mkfs."+kind, quiet, "-f", img)
	}
	return img
}

func inMountNamespace(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS }

func TestDirFileSystems(t *testing.T) {
	testenv.Root(t)
	for _, c := range []struct {
		fs, options    string
		write          bool
		reflink, lease FeatureStatus
		live           CheckStatus
	}{
		{"ext4", "loop,strictatime", true, Unsupported, Supported, Warn},
		{"ext4", "loop,strictatime", false, SkippedFeature, SkippedFeature, Warn},
		{"xfs", "loop,strictatime", true, Supported, Supported, Warn},
		{"btrfs", "loop,strictatime", true, Supported, Supported, Warn},
		{"tmpfs", "strictatime", true, Unsupported, Supported, Warn},
		{"squashfs", "loop", true, UnknownFeature, UnknownFeature, Pass},
		{"erofs", "loop", false, SkippedFeature, SkippedFeature, Pass},
	} {
		t.Run(fmt.Sprintf("%s write=%v", c.fs, c.write), func(t *testing.T) {
			trial := dirTrial{FS: c.fs, Image: "none", Options: c.options, Write: c.write, Fill: true}
			if strings.Contains(c.options, "loop") {
				trial.Image = image(t, c.fs)
				trial.Fill = c.fs != "squashfs" && c.fs != "erofs"
			}
			var r dirResult
			runChild(t, nil, "dir", trial, &r, inMountNamespace)
			f := r.Facts
			if f.Error != "" || len(f.Errors) > 0 || f.FSType != c.fs || f.Mount != "/mnt" {
				t.Errorf("facts %+v", f)
			}
			if f.FilesSeen != 4 || f.FilesLooked != 4 || f.FilesTried != 3 || f.More || f.FileBytes != 300_001+3<<19+1 {
				t.Errorf("seen %d, looked %d, tried %d, more %v, %d bytes", f.FilesSeen, f.FilesLooked, f.FilesTried, f.More, f.FileBytes)
			}
			for _, id := range []string{"dir.sendfile", "dir.splice"} {
				if o := f.outcome(id); o.Seen["equal"] != 3 || o.Seen["bytes"] != 300_001+1<<20+1 {
					t.Errorf("%s: %+v", id, o)
				}
			}
			if !maps.Equal(r.Before, r.After) {
				t.Errorf("files before\n%v\nafter\n%v", r.Before, r.After)
			}
			if len(r.Opened) > 0 || r.Descriptors != 0 {
				t.Errorf("opened %q, %d descriptors remained", r.Opened, r.Descriptors)
			}
			facts := &Facts{Dirs: []DirFacts{f}}
			for _, want := range []struct {
				id     string
				status FeatureStatus
			}{{"dir.sendfile", Supported}, {"dir.splice", Supported}, {"reflink", c.reflink}, {"file.lease", c.lease}} {
				if got := featureNamed(judgeDirs(facts), want.id); got.Status != want.status || got.Subject != "/mnt" {
					t.Errorf("%+v, want %s", got, want.status)
				}
			}
			for _, want := range []struct {
				id     string
				status CheckStatus
			}{{"live-source", c.live}, {"truncated-tail", c.live}, {"stale-source", Pass}} {
				if got := hazardNamed(judgeHazards(facts), want.id); got.Status != want.status {
					t.Errorf("%+v, want %s", got, want.status)
				}
			}
			if o := f.outcome("dir.resend"); c.write && c.fs != "squashfs" && (o.Seen["equal"] != 1 || o.Seen["stale"] != 0) {
				t.Errorf("resend: %+v", o)
			}
		})
	}
}

// cachestat and mincore agree, on what is there and on what is not.
func TestCachedBytes(t *testing.T) {
	const size = 40*4096 + 1
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	check := func(want uint64) {
		t.Helper()
		got, source, err := cachedBytes(fd, sys.FileInfo{Size: size, UID: uint32(os.Geteuid())})
		m, mErr := mincoreBytes(fd, size)
		if err != nil || mErr != nil || got != want || m != want {
			t.Errorf("%d bytes by %s, %d by mincore, %v, %v; want %d", got, source, m, err, mErr, want)
		}
	}
	check(41 * 4096)
	if err := errors.Join(f.Sync(), unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	if magic, err := sys.FSMagic(fd); err != nil || fsMagics[magic] != "tmpfs" { // which has no other place
		check(0)
	}
}

func TestSendTally(t *testing.T) {
	is := func(s string) func() []byte { return func() []byte { return []byte(s) } }
	var tally sendTally
	tally.add("sendfile", []byte("abc"), nil, []byte("abc"), nil)
	tally.add("sendfile", []byte("abx"), nil, []byte("abc"), is("abc"))
	tally.add("sendfile", []byte("ab"), nil, []byte("abc"), is("abc")) // short
	tally.add("sendfile", []byte("abx"), nil, []byte("abc"), is("abx"))
	tally.add("sendfile", []byte("ab"), nil, []byte("abc"), is("ab")) // cut meanwhile
	tally.add("sendfile", nil, sys.Wrap("sendfile", unix.EINVAL), []byte("abc"), nil)
	tally.add("sendfile", nil, errNoProgress, []byte("abc"), nil)
	o := tally.outcome("dir.sendfile")
	want := map[string]int64{"equal": 1, "differ": 2, "changed": 2, "refused": 2, "bytes": 3}
	if !maps.Equal(o.Seen, want) || o.Steps[0].Errno != "EINVAL" || o.NotTried != "" {
		t.Errorf("%+v, want %v", o, want)
	}
	if o := new(sendTally).outcome("dir.splice"); o.NotTried == "" || len(o.Steps) > 0 {
		t.Errorf("nothing tried: %+v", o)
	}
}

// What may not be read is said, and what is no directory.
func TestDirDenied(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "closed"), 0o700)); err != nil {
		t.Fatal(err)
	}
	look := func(path string) Feature {
		var d DirFacts
		runChild(t, nil, "look", path, &d, asNobody)
		return featureNamed(judgeDirs(&Facts{Dirs: []DirFacts{d}}), "dir.sendfile")
	}
	if f := look(dir); f.Status != UnknownFeature || !strings.Contains(f.Detail, "1 could not be opened") {
		t.Errorf("a file of another user: %+v", f)
	}
	if f := look(filepath.Join(dir, "closed")); f.Status != Denied || !strings.Contains(f.Detail, "permission denied") {
		t.Errorf("a directory of another user: %+v", f)
	}
	if f := look(filepath.Join(dir, "secret")); f.Status != UnknownFeature || !strings.Contains(f.Detail, "not a directory") {
		t.Errorf("a file: %+v", f)
	}
}

func childLook(t *testing.T, arg json.RawMessage) any {
	var path string
	if err := json.Unmarshal(arg, &path); err != nil {
		t.Fatal(err)
	}
	return readDir(t.Context(), liveSources(), path, false)
}
