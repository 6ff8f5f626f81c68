package sys_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// TestExtents: the extents of a file that was written and synced cover it, and are
// nobody else's.
func TestExtents(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 100_000
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	all, err := sys.Extents(int(f.Fd()), sys.FiemapSync, make([]sys.Extent, 64))
	if sys.Unsupported(err) {
		t.Skipf("needs a file system with blocks: %v", err)
	}
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	covered := uint64(0)
	for _, e := range all {
		if e.Logical != covered || e.Flags&sys.ExtentShared != 0 {
			t.Errorf("%+v", all)
		}
		covered += e.Length
	}
	if last := all[len(all)-1]; covered < size || last.Flags&sys.ExtentLast == 0 {
		t.Errorf("%+v", all)
	}
	if one, err := sys.Extents(int(f.Fd()), 0, make([]sys.Extent, 1)); err != nil || len(one) != 1 {
		t.Error(one, err)
	}
	if _, err := sys.Extents(-1, 0, make([]sys.Extent, 1)); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := sys.Extents(int(f.Fd()), 0, nil); err == nil {
		t.Error("no room, and no error")
	}
}
