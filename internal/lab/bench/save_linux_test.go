package bench

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"github.com/zcprobe/zcprobe/transmit"
)

func size(n int64) *int64 { return &n }

// concluded is a report that has something to keep.
func concluded() *Report {
	return &Report{Schema: Schema, Path: PathLab, Quick: true, Conclusive: true, Disturbances: []string{}, Crossovers: []Crossover{
		{Backend: transmit.MsgZerocopy, Against: transmit.Write, Source: transmit.SourceMemory, To: transmit.TCP, Cache: transmit.CacheHot, Bytes: size(20000), LowBytes: size(10000), HighBytes: size(40000)},
		{Backend: transmit.MmapZerocopy, Against: transmit.Sendfile, Source: transmit.SourceFile, To: transmit.TCP, Cache: transmit.CacheHot},
		{Backend: transmit.Sendfile, Against: transmit.ReadWrite, Source: transmit.SourceFile, To: transmit.TCP, Cache: transmit.CacheHot, Bytes: size(0), LowBytes: size(0), HighBytes: size(0)},
	}}
}

func calibrated(t *testing.T, when time.Time) *transmit.CalibrationFile {
	t.Helper()
	f, ok := concluded().Calibration(transmit.CalibrationKeyFor(nil), when)
	if !ok {
		t.Fatal("there is nothing to keep")
	}
	return f
}

// leftovers fails the test unless a directory holds just these files.
func leftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// A calibration can be read by everyone, and names the device, not who was sent to.
func TestCalibrationNamesNoPeer(t *testing.T) {
	r := concluded()
	r.Path = "192.0.2.77:9000"
	key := transmit.CalibrationKeyFor(nil)
	key.Devices = []transmit.CalibrationDevice{{Device: "eth0", Features: []string{}}}
	f, ok := r.Calibration(key, time.Now())
	if !ok {
		t.Fatal("there is nothing to keep")
	}
	name, err := Save(t.TempDir(), f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "192.0.2.77") || !strings.Contains(string(data), `"path": "device eth0"`) {
		t.Errorf("%s", data)
	}
}

// What is saved is what is loaded.
func TestSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	when := time.Date(2026, 11, 22, 12, 0, 0, 0, time.FixedZone("", 3600))
	name, err := Save(dir, calibrated(t, when))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	leftovers(t, dir, "calibration-lab.json")
	c := transmit.LoadCalibration([]string{dir}, transmit.CalibrationKeyFor(nil))
	if c == nil || c.Stale != "" || !c.LowerBound || c.Measured != "2026-11-22T11:00:00Z" || len(c.Crossovers) != 2 {
		t.Fatalf("%+v", c)
	}
	if x := c.Crossovers[0]; x.Backend != transmit.MmapZerocopy || x.Bytes != transmit.Never || x.LowBytes != transmit.Never {
		t.Errorf("%+v", x)
	}
	if x := c.Crossovers[1]; x.Bytes != 20000 || x.LowBytes != 10000 || x.HighBytes != 40000 {
		t.Errorf("%+v", x)
	}
	r := concluded()
	r.Conclusive = false
	if f, ok := r.Calibration(transmit.CalibrationKeyFor(nil), when); ok {
		t.Errorf("kept, though nothing was concluded: %+v", f)
	}
}

// A link in the way is replaced, and not followed.
func TestSaveFollowsNoLink(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := calibrated(t, time.Now())
	link := filepath.Join(dir, f.Key.FileName())
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if c := transmit.LoadCalibration([]string{dir}, f.Key); c == nil || !strings.Contains(c.Stale, "symbolic link") {
		t.Errorf("%+v", c)
	}
	if _, err := Save(dir, f); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if st, err := os.Lstat(link); err != nil || !st.Mode().IsRegular() {
		t.Errorf("%v, %v", st, err)
	}
}

// What is in the way makes it fail, and leaves nothing.
func TestSaveFails(t *testing.T) {
	t.Run("a directory of that name", func(t *testing.T) {
		dir := t.TempDir()
		f := calibrated(t, time.Now())
		if err := os.MkdirAll(filepath.Join(dir, f.Key.FileName(), "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		if name, err := Save(dir, f); err == nil {
			t.Errorf("saved in %s", name)
		}
		leftovers(t, dir, f.Key.FileName())
	})
	t.Run("a file in place of the directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Save(file, calibrated(t, time.Now())); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing that could be loaded", func(t *testing.T) {
		f := calibrated(t, time.Now())
		f.Crossovers[0].LowBytes = size(1 << 40)
		dir := t.TempDir()
		if _, err := Save(dir, f); err == nil {
			t.Error("saved")
		}
		leftovers(t, dir)
	})
}

// On a full disk, or one that is read only, the old calibration stays and nothing else
// does.
func TestSaveOnAFullDisk(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=755"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	old := calibrated(t, time.Unix(1_700_000_000, 0))
	name, err := Save(dir, old)
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for what, want := range map[string]error{"full": syscall.ENOSPC, "read only": syscall.EROFS} {
		if what == "read only" {
			if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Save(dir, calibrated(t, time.Now())); !errors.Is(err, want) || got != "" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		leftovers(t, dir, "ballast", filepath.Base(name))
		c := transmit.LoadCalibration([]string{dir}, old.Key)
		if c == nil || c.Stale != "" || c.Measured != old.Measured {
			t.Errorf("%s: the old one is %+v", what, c)
		}
		if what == "read only" {
			if err := unix.Mount("none", dir, "", unix.MS_REMOUNT, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Whoever reads while others write finds one whole calibration, always.
func TestSaveConcurrently(t *testing.T) {
	dir := t.TempDir()
	key := transmit.CalibrationKeyFor(nil)
	if _, err := Save(dir, calibrated(t, time.Now())); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	var done atomic.Bool
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				f := calibrated(t, time.Unix(int64(1_700_000_000+100*w+i), 0))
				if _, err := Save(dir, f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		for !done.Load() {
			if c := transmit.LoadCalibration([]string{dir}, key); c == nil || c.Stale != "" || len(c.Crossovers) != 2 {
				t.Errorf("%+v", c)
				return
			}
		}
	})
	writers.Wait()
	done.Store(true)
	reader.Wait()
	leftovers(t, dir, key.FileName())
}
