package transmit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// CalibrationSchema names the JSON form of a [CalibrationFile].
const CalibrationSchema = "zcprobe/calibration/v1"

// CalibrationLab is the path of a calibration that was made in a laboratory on this
// host, "zcprobe bench" without a destination. Behind it nothing is copied, but
// neither is memory mapped for a device: a network card needs at least the sizes that
// it finds.
const CalibrationLab = "lab"

// A CalibrationFile is what "zcprobe bench" keeps of a measurement.
type CalibrationFile struct {
	Schema       string                 `json:"schema"`
	Path         string                 `json:"path"`     // lab, or the device that leads to where it was measured
	Measured     string                 `json:"measured"` // when, RFC 3339
	Quick        bool                   `json:"quick"`
	Key          CalibrationKey         `json:"key"`
	Crossovers   []CalibrationCrossover `json:"crossover"`
	Disturbances []string               `json:"disturbances"` // what else went on, a sentence each
}

// CalibrationCrossover is a [Crossover] as it is kept; a nil size is [Never].
type CalibrationCrossover struct {
	Backend   Backend    `json:"backend"`
	Cache     CacheState `json:"cache"`
	Bytes     *int64     `json:"bytes"`
	LowBytes  *int64     `json:"low_bytes"`
	HighBytes *int64     `json:"high_bytes"`
}

// CalibrationDirs returns the directories in which calibrations are kept, the
// user's own first, where new ones go: $XDG_STATE_HOME/zcprobe or
// ~/.local/state/zcprobe, and /var/lib/zcprobe, which is root's and read by all. A
// calibration is state (XDG Base Directory Specification 0.8), not cache: clearing
// caches should not change how a program sends. getenv is os.Getenv if nil; a path in
// it that is not absolute is ignored, as the specification says.
func CalibrationDirs(getenv func(string) string) []string {
	if getenv == nil {
		getenv = os.Getenv
	}
	const system = "/var/lib/zcprobe"
	if d := getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return []string{filepath.Join(d, "zcprobe"), system}
	}
	if home := getenv("HOME"); os.Geteuid() != 0 && filepath.IsAbs(home) {
		return []string{filepath.Join(home, ".local", "state", "zcprobe"), system}
	}
	return []string{system}
}

// FileName is the name of the file in its directory: a calibration takes the place of
// an earlier one of the same first device.
func (k *CalibrationKey) FileName() string {
	if len(k.Devices) == 0 {
		return "calibration-lab.json"
	}
	// Escaped, for a device may be called nearly anything; 15 bytes are the longest.
	return "calibration-device-" + url.PathEscape(strings.ReplaceAll(k.Devices[0].Device, ".", "%2E")) + ".json"
}

// maxCalibrationBytes bounds what is read of a file; one has about 2 KiB.
const maxCalibrationBytes = 64 << 10

// LoadCalibration returns what was measured for the path of a key: over it, or else in
// the laboratory. Of several directories the first that has something usable counts.
// What is there and cannot be used, as it is of another kernel, CPU or device, damaged,
// or of a later version, is returned with Stale saying why: [Select] does not use it,
// and shows the reason. nil: nothing is there.
func LoadCalibration(dirs []string, key CalibrationKey) *Calibration {
	lab := key
	lab.Devices = nil
	keys := []CalibrationKey{key}
	if len(key.Devices) > 0 {
		keys = append(keys, lab)
	}
	var why []string
	for _, k := range keys {
		for _, dir := range dirs {
			name := filepath.Join(dir, k.FileName())
			c, err := loadCalibration(name, k)
			if err == nil {
				c.Note = strings.Join(why, "; ")
				return c
			}
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				why = append(why, name+": "+plainPathError(err))
			}
		}
	}
	if len(why) == 0 {
		return nil
	}
	return &Calibration{Path: CalibrationLab, Stale: strings.Join(why, "; ")}
}

// plainPathError leaves the name out, which is told already.
func plainPathError(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

func loadCalibration(name string, key CalibrationKey) (*Calibration, error) {
	data, err := readCalibration(name)
	if err != nil {
		return nil, err
	}
	f, err := ParseCalibration(data)
	if err != nil {
		return nil, err
	}
	if other := f.Key.differs(key); other != "" {
		return nil, errors.New(other)
	}
	return f.calibration(), nil
}

// readCalibration reads a regular file of root or of our own that not everyone can write
// to. It follows no link and waits for nobody.
func readCalibration(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errors.New("is a symbolic link")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	case st.Mode().Perm()&0o002 != 0:
		return nil, errors.New("everyone may write to it")
	case !trusted(st):
		return nil, errors.New("belongs to another user")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCalibrationBytes+1))
	if err == nil && len(data) > maxCalibrationBytes {
		err = fmt.Errorf("is larger than %d bytes", maxCalibrationBytes)
	}
	return data, err
}

// trusted reports whether a file is of root or of who runs this: anybody else could make
// a program send by what it should not.
func trusted(st fs.FileInfo) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && (s.Uid == 0 || int(s.Uid) == os.Geteuid())
}

// maxCrossovers bounds the entries of a file.
const maxCrossovers = 256

// ParseCalibration reads the JSON form of a CalibrationFile, and holds it to what it
// promises. Names and backends that are not known here are left out: later versions
// may add some.
func ParseCalibration(data []byte) (*CalibrationFile, error) {
	var v struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, errors.New("is damaged: it is no JSON object")
	}
	if v.Schema != CalibrationSchema {
		return nil, fmt.Errorf("is %.40q, and this version reads %s", v.Schema, CalibrationSchema)
	}
	var f CalibrationFile
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("is damaged: %w", err)
	}
	if _, err := time.Parse(time.RFC3339, f.Measured); err != nil {
		return nil, errors.New("is damaged: it does not say when it was measured")
	}
	if f.Path == "" || f.Key.Kernel == "" || len(f.Crossovers) == 0 || len(f.Crossovers) > maxCrossovers {
		return nil, errors.New("is damaged: it says nothing, or too much")
	}
	if (f.Path == CalibrationLab) != (len(f.Key.Devices) == 0) {
		return nil, errors.New("is damaged: its path and its devices do not go together")
	}
	f.Crossovers = slices.DeleteFunc(f.Crossovers, func(c CalibrationCrossover) bool { return plainFor(c.Backend) == "" })
	for _, c := range f.Crossovers {
		x := c.crossover()
		if x.LowBytes < 0 || x.LowBytes > x.Bytes || x.Bytes > x.HighBytes || c.Cache != CacheHot && c.Cache != CacheCold {
			return nil, fmt.Errorf("is damaged: the crossover of %s makes no sense", c.Backend)
		}
	}
	return &f, nil
}

func (c CalibrationCrossover) crossover() Crossover {
	size := func(n *int64) int64 {
		if n == nil {
			return Never
		}
		return *n
	}
	return Crossover{Backend: c.Backend, Cache: c.Cache, Bytes: size(c.Bytes), LowBytes: size(c.LowBytes), HighBytes: size(c.HighBytes)}
}

func (f *CalibrationFile) calibration() *Calibration {
	c := &Calibration{Path: f.Path, Measured: f.Measured, LowerBound: f.Path == CalibrationLab, Disturbed: len(f.Disturbances) > 0}
	for _, x := range f.Crossovers {
		c.Crossovers = append(c.Crossovers, x.crossover())
	}
	slices.SortFunc(c.Crossovers, func(a, b Crossover) int {
		return cmp.Or(cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Cache, b.Cache))
	})
	return c
}
