package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func entries(t *testing.T, dir string) int {
	t.Helper()
	l, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

func look(t *testing.T, name, want string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != mode {
		t.Errorf("%s has mode %v, %v; want %v", name, st.Mode(), err, mode)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	old := syscall.Umask(0o027)
	defer syscall.Umask(old)

	f, err := Create(name, 0o666, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("one"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there before it is complete: %v", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	look(t, name, "one", 0o640)
	if err := Write(name, []byte("two"), 0o644, false); !errors.Is(err, ErrTaken) {
		t.Errorf("replaced, or %v", err)
	}
	look(t, name, "one", 0o640)
	if err := Write(name, []byte("three"), 0o644, true); err != nil {
		t.Error(err)
	}
	look(t, name, "three", 0o644)
	if f, err = Create(name, 0o600, true); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	look(t, name, "three", 0o644)
	if n := entries(t, dir); n != 1 {
		t.Errorf("%d files in the directory", n)
	}
	if err := Write(filepath.Join(dir, "no/such"), nil, 0o600, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestHidden takes the way of file systems that have no files without a name.
func TestHidden(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	for _, replace := range []bool{false, true} {
		f := &File{name: name, replace: replace}
		f.temp = f.hidden()
		var err error
		if f.File, err = os.OpenFile(f.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(); err != nil {
			t.Errorf("replace %v: %v", replace, err)
		}
		if n := entries(t, dir); n != 1 {
			t.Errorf("replace %v: %d files", replace, n)
		}
	}
	f := &File{name: name}
	f.temp = f.hidden()
	var err error
	if f.File, err = os.Create(f.temp); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); !errors.Is(err, ErrTaken) || entries(t, dir) != 1 {
		t.Errorf("the name was taken: %v, %d files", err, entries(t, dir))
	}
}

// TestWriteToWhatIsThere keeps links, and writes to what is no file.
func TestWriteToWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o600), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("new"), 0o600, true); err != nil {
		t.Error(err)
	}
	look(t, file, "new", 0o600)
	if to, err := os.Readlink(link); err != nil || to != "file" {
		t.Errorf("the link is %q, %v", to, err)
	}
	if err := Write(os.DevNull, []byte("gone"), 0o600, true); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("nothing", filepath.Join(dir, "loose")); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "loose"), nil, 0o600, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing: %v", err)
	}
}
