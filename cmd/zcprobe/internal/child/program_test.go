package child

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"a/tool": 0o755, "b/tool": 0o755, "a/plain": 0o644, "b/dir/x": 0o755} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "none") + ":" + filepath.Join(dir, "a") + ":" + filepath.Join(dir, "b")
	if got, err := find("tool", path); err != nil || got != filepath.Join(dir, "a", "tool") {
		t.Errorf("%q, %v", got, err)
	}
	for name, want := range map[string]error{"nothing": fs.ErrNotExist, "plain": fs.ErrPermission, "dir": fs.ErrNotExist, "": fs.ErrNotExist,
		filepath.Join(dir, "a"): syscall.EISDIR, filepath.Join(dir, "a/plain"): fs.ErrPermission, filepath.Join(dir, "x"): fs.ErrNotExist} {
		if got, err := find(name, path); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v; want %v", name, got, err, want)
		}
	}
}

// run starts a program and returns what it said.
func run(t *testing.T, as string, args ...string) (*Program, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := New(args, as, w)
	if err != nil {
		t.Fatal(err)
	}
	running, err := p.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-running.Done()
	return running, string(out)
}

func TestStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -9 $$": 137} {
		p, _ := run(t, "", testenv.Tool(t, "sh"), "-c", script)
		if got, ok := p.Status(); !ok || got != want {
			t.Errorf("%s: %d, %v; want %d", script, got, ok, want)
		}
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%s: signal after the end: %v", script, err)
		}
	}
}

// The program has three descriptors, whatever we hold.
func TestDescriptors(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("needs /proc")
	}
	_, out := run(t, "", testenv.Tool(t, "sh"), "-c", "echo /proc/$$/fd/*")
	for _, fd := range strings.Fields(out) {
		if n := filepath.Base(fd); n != "0" && n != "1" && n != "2" {
			if target, err := os.Readlink(fd); err == nil {
				t.Errorf("descriptor %s: %s", n, target)
			}
		}
	}
	if len(strings.Fields(out)) < 3 {
		t.Errorf("%q", out)
	}
}

func TestAsSomebodyElse(t *testing.T) {
	testenv.Root(t)
	for _, name := range []string{"nobody", "65534"} {
		_, out := run(t, name, testenv.Tool(t, "sh"), "-c", `echo $(id -u) $(id -g) $(id -G) $USER $LOGNAME $(grep CapEff /proc/self/status)`)
		f := strings.Fields(out)
		if len(f) < 7 || f[0] != "65534" || slices.Contains(f[2:len(f)-4], "0") || f[len(f)-4] != "nobody" || strings.Trim(f[len(f)-1], "0") != "" {
			t.Errorf("%s: %q", name, out)
		}
	}
	if _, err := New([]string{"true"}, "no-such-user", os.Stdout); err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("%v", err)
	}
}

func TestNoProgram(t *testing.T) {
	_, err := New([]string{"no-such-program-anywhere"}, "", os.Stdout)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
