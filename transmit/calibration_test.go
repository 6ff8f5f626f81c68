package transmit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

func bytesOf(n int64) *int64 { return &n }

func labKey() CalibrationKey {
	return CalibrationKey{Kernel: "6.18.44", Arch: "amd64", CPU: "Xeon", CPUs: 2, Devices: []CalibrationDevice{}}
}

func overEth0(k CalibrationKey) CalibrationKey {
	k.Devices = []CalibrationDevice{{Device: "eth0", Kind: "physical", Driver: "ice", MTU: 1500, Features: []string{"scatter-gather", "tx-checksum", "tso"}}}
	return k
}

func measuredFor(path string, k CalibrationKey, from int64) CalibrationFile {
	return CalibrationFile{Schema: CalibrationSchema, Path: path, Measured: "2026-11-22T12:00:00Z", Key: k, Disturbances: []string{},
		Crossovers: []CalibrationCrossover{{Backend: MsgZerocopy, Cache: CacheHot, Bytes: bytesOf(from), LowBytes: bytesOf(from / 2), HighBytes: bytesOf(2 * from)}}}
}

func writeCalibration(t *testing.T, dir string, f CalibrationFile) string {
	t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, f.Key.FileName())
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// What the path was measured with comes before the laboratory, the user's own before
// the system's.
func TestLoadCalibrationPrefers(t *testing.T) {
	own, system := t.TempDir(), t.TempDir()
	dirs := []string{filepath.Join(own, "missing"), own, system}
	load := func() *Calibration { return LoadCalibration(dirs, overEth0(labKey())) }
	if c := load(); c != nil {
		t.Errorf("nothing is there, and it is %+v", c)
	}
	writeCalibration(t, system, measuredFor(CalibrationLab, labKey(), 100_000))
	if c := load(); c == nil || c.Stale != "" || !c.LowerBound || c.Crossovers[0].Bytes != 100_000 {
		t.Errorf("the system's: %+v", c)
	}
	writeCalibration(t, own, measuredFor(CalibrationLab, labKey(), 200_000))
	if c := load(); c == nil || c.Crossovers[0].Bytes != 200_000 {
		t.Errorf("the user's: %+v", c)
	}
	writeCalibration(t, system, measuredFor("db:9000", overEth0(labKey()), 300_000))
	if c := load(); c == nil || c.LowerBound || c.Path != "db:9000" || c.Crossovers[0].Bytes != 300_000 {
		t.Errorf("the path's: %+v", c)
	}
	if c := LoadCalibration(dirs, labKey()); c == nil || !c.LowerBound {
		t.Errorf("without a path: %+v", c)
	}
	// The path's is void, and the laboratory's stands in, and says so.
	slow := overEth0(labKey())
	slow.Devices[0].MTU = 9000
	if c := LoadCalibration(dirs, slow); c == nil || c.Stale != "" || !c.LowerBound || !strings.Contains(c.Note, "measured with an MTU of 1500 on eth0, and it is 9000") {
		t.Errorf("of another MTU: %+v", c)
	}
}

// What does not hold for this host is not used, and the reason is told.
func TestLoadCalibrationIgnores(t *testing.T) {
	foreign := func(change func(*CalibrationKey)) func(*CalibrationFile) {
		return func(f *CalibrationFile) { change(&f.Key) }
	}
	for _, c := range []struct {
		name   string
		change func(*CalibrationFile)
		want   string
	}{
		{"kernel", foreign(func(k *CalibrationKey) { k.Kernel = "6.1.0" }), "measured on kernel 6.1.0, and this is 6.18.44"},
		{"CPU", foreign(func(k *CalibrationKey) { k.CPU = "EPYC" }), "measured on 2 CPUs EPYC"},
		{"CPUs", foreign(func(k *CalibrationKey) { k.CPUs = 64 }), "measured on 64 CPUs"},
		{"architecture", foreign(func(k *CalibrationKey) { k.Arch = "arm64" }), "(arm64)"},
		{"driver", foreign(func(k *CalibrationKey) { k.Devices[0].Driver = "e1000" }), "measured over eth0 (e1000)"},
		{"features", foreign(func(k *CalibrationKey) { k.Devices[0].Features = nil }), "measured with [] on eth0"},
		{"another device below", foreign(func(k *CalibrationKey) { k.Devices = append(k.Devices, k.Devices[0]) }), "measured over 2 devices"},
		{"a later version", func(f *CalibrationFile) { f.Schema = "zcprobe/calibration/v2" }, "zcprobe/calibration/v2"},
		{"no time", func(f *CalibrationFile) { f.Measured = "yesterday" }, "when it was measured"},
		{"nothing", func(f *CalibrationFile) { f.Crossovers = nil }, "says nothing"},
		{"a path without devices", func(f *CalibrationFile) { f.Path = CalibrationLab }, "do not go together"},
		{"upside down", func(f *CalibrationFile) { f.Crossovers[0].HighBytes = bytesOf(1) }, "makes no sense"},
		{"negative", func(f *CalibrationFile) { f.Crossovers[0].LowBytes = bytesOf(-1) }, "makes no sense"},
		{"lukewarm", func(f *CalibrationFile) { f.Crossovers[0].Cache = "warm" }, "makes no sense"},
		{"too large", func(f *CalibrationFile) { f.Disturbances = []string{strings.Repeat("x", maxCalibrationBytes)} }, "larger than"},
		{"too many", func(f *CalibrationFile) { f.Crossovers = slices.Repeat(f.Crossovers, maxCrossovers+1) }, "too much"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := measuredFor("db:9000", overEth0(labKey()), 100_000)
			c.change(&f)
			if f.Schema == CalibrationSchema && len(f.Crossovers) > maxCrossovers {
				f.Disturbances = nil
			}
			writeCalibration(t, dir, f)
			got := LoadCalibration([]string{dir}, overEth0(labKey()))
			if got == nil || !strings.Contains(got.Stale, c.want) || len(got.Crossovers) > 0 {
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
}

// What lies there under the name and is no file of ours is neither followed nor waited
// for.
func TestLoadCalibrationIsWary(t *testing.T) {
	good := measuredFor(CalibrationLab, labKey(), 100_000)
	for _, c := range []struct {
		name string
		lay  func(t *testing.T, name string) error
		want string
	}{
		{"a link", func(t *testing.T, name string) error {
			return os.Symlink(writeCalibration(t, t.TempDir(), good), name)
		}, "symbolic link"},
		{"a directory", func(_ *testing.T, name string) error { return os.Mkdir(name, 0o755) }, "no regular file"},
		{"a fifo nobody writes to", func(_ *testing.T, name string) error { return syscall.Mkfifo(name, 0o644) }, "no regular file"},
		{"open to everyone", func(t *testing.T, name string) error {
			writeCalibration(t, filepath.Dir(name), good)
			return os.Chmod(name, 0o666)
		}, "everyone may write"},
		{"another user's", func(t *testing.T, name string) error {
			if os.Geteuid() != 0 {
				t.Skip("needs root, to give a file away")
			}
			return os.Chown(writeCalibration(t, filepath.Dir(name), good), 65534, 65534)
		}, "belongs to another user"},
		{"half of one", func(t *testing.T, name string) error {
			st, err := os.Stat(writeCalibration(t, filepath.Dir(name), good))
			if err != nil {
				return err
			}
			return os.Truncate(name, st.Size()/2)
		}, "is damaged"},
		{"empty", func(_ *testing.T, name string) error { return os.WriteFile(name, nil, 0o644) }, "is damaged"},
		{"zeros", func(_ *testing.T, name string) error { return os.WriteFile(name, make([]byte, 1000), 0o644) }, "is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, key := t.TempDir(), labKey()
			if err := c.lay(t, filepath.Join(dir, key.FileName())); err != nil {
				t.Fatal(err)
			}
			got := LoadCalibration([]string{dir}, key)
			if got == nil || !strings.Contains(got.Stale, c.want) || len(got.Crossovers) > 0 {
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
}

func TestCalibrationDirs(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string // the first one
	}{
		{map[string]string{"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/zcprobe"},
		{map[string]string{"XDG_STATE_HOME": "relative"}, "/var/lib/zcprobe"},
		{map[string]string{"HOME": "relative"}, "/var/lib/zcprobe"},
		{nil, "/var/lib/zcprobe"},
	} {
		dirs := CalibrationDirs(func(name string) string { return c.env[name] })
		if dirs[0] != c.want || dirs[len(dirs)-1] != "/var/lib/zcprobe" {
			t.Errorf("%v: %q", c.env, dirs)
		}
	}
	home := CalibrationDirs(func(name string) string { return map[string]string{"HOME": "/home/me"}[name] })[0]
	if root := os.Geteuid() == 0; root != (home == "/var/lib/zcprobe") || !root && home != "/home/me/.local/state/zcprobe" {
		t.Errorf("%s", home)
	}
}

// A device has any name but those of directories, and no name leads elsewhere.
func TestCalibrationFileName(t *testing.T) {
	k := labKey()
	names := []string{k.FileName()}
	for _, dev := range []string{"eth0", "eth0.100", "..", ".", "a b", "a%2Fb", "a\nb", "lab"} {
		k.Devices = []CalibrationDevice{{Device: dev}}
		n := k.FileName()
		if filepath.Base(n) != n || strings.ContainsAny(n, "/\n ") || slices.Contains(names, n) || strings.HasPrefix(n, ".") {
			t.Errorf("%q: %q", dev, n)
		}
		names = append(names, n)
	}
}

func TestParseCPUInfo(t *testing.T) {
	for _, c := range []struct {
		text, model string
		n           int
	}{
		{"processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\n\nprocessor\t: 1\nmodel name\t: Intel(R) Xeon(R)\n", "Intel(R) Xeon(R)", 2},
		{"processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\nCPU implementer\t: 0x41\n",
			"implementer 0x41, variant 0x3, part 0xd0c, revision 1", 2},
		{"", "", 0},
	} {
		if model, n := parseCPUInfo(c.text); model != c.model || n != c.n {
			t.Errorf("got %q, %d, want %q, %d", model, n, c.model, c.n)
		}
	}
}

// The key is of the devices that this host has: what lies in other namespaces is not.
func TestCalibrationKeyFor(t *testing.T) {
	path := &probe.PathReport{Hops: []probe.Hop{
		{Device: "bond0", Kind: "bond", MTU: 1500, ScatterGather: new(true), TxChecksum: new(true)},
		{Device: "eth0", Kind: "physical", Driver: "ice", MTU: 1500, ScatterGather: new(false)},
		{Device: "veth9", NetNS: "peer"},
	}}
	k := CalibrationKeyFor(path)
	if len(k.Devices) != 2 || k.Devices[1].Driver != "ice" || !slices.Equal(k.Devices[0].Features, []string{"scatter-gather", "tx-checksum"}) || len(k.Devices[1].Features) != 0 {
		t.Errorf("%+v", k)
	}
	if k.differs(CalibrationKeyFor(path)) != "" && k.Kernel != "" {
		t.Errorf("a key is not its own: %s", k.differs(CalibrationKeyFor(path)))
	}
	if why := (CalibrationKey{}).differs(CalibrationKey{}); why == "" {
		t.Error("what is not known is taken for equal")
	}
}

// The laboratory can only raise a default.
func TestSelectTakesTheLaboratoryAsALowerBound(t *testing.T) {
	def := DefaultCrossover(MsgZerocopy, CacheHot)
	for _, c := range []struct {
		name           string
		x              Crossover
		bound          bool
		want           int64
		wantInEvidence string
	}{
		{"far below", Crossover{MsgZerocopy, CacheHot, 1000, 500, 2000}, true, def, "found 1000 bytes (between 500 and 2000), hot, and a network card needs at least that"},
		{"its upper end is above", Crossover{MsgZerocopy, CacheHot, def / 2, def / 4, 2 * def}, true, def, "found 16384 bytes"},
		{"above", Crossover{MsgZerocopy, CacheHot, 3 * def, 2 * def, 4 * def}, true, 3 * def, "calibration of lab, and a network card needs at least that"},
		{"above, without an end", Crossover{MsgZerocopy, CacheHot, 3 * def, 2 * def, Never}, true, 3 * def, "calibration of lab"},
		{"never", Crossover{MsgZerocopy, CacheHot, Never, Never, Never}, true, Never, "calibration of lab"},
		{"could not tell", Crossover{MsgZerocopy, CacheHot, Never, 0, Never}, true, def, "could not tell"},
		{"a path is what it is", Crossover{MsgZerocopy, CacheHot, 1000, 500, 2000}, false, 1000, "calibration of lab"},
		{"a path without an answer", Crossover{MsgZerocopy, CacheHot, Never, 500, Never}, false, def, "could not tell"},
		{"a path, vaguely", Crossover{MsgZerocopy, CacheHot, 1000, 500, def}, false, def, "found 1000 bytes (between 500 and 32768), hot, which says nothing against it"},
		{"a path, vaguely, without a start", Crossover{MsgZerocopy, CacheHot, 1000, 0, def}, false, def, "which says nothing against it"},
		{"a path, vaguely, but not here", Crossover{MsgZerocopy, CacheHot, 1000, 500, def - 1}, false, 1000, "calibration of lab"},
		{"the laboratory, vaguely", Crossover{MsgZerocopy, CacheHot, 3 * def, 0, Never}, true, 3 * def, "and a network card needs at least that"},
		{"nothing of it", Crossover{IoUringSendZC, CacheHot, 1000, 500, 2000}, true, def, "says nothing of it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := SelectOptions{Calibration: &Calibration{Path: CalibrationLab, LowerBound: c.bound, Crossovers: []Crossover{c.x}}}
			got, source := o.crossover(MsgZerocopy, CacheHot)
			if got.Bytes != c.want || !strings.Contains(source, c.wantInEvidence) {
				t.Errorf("got %d, %q, want %d, %q", got.Bytes, source, c.want, c.wantInEvidence)
			}
		})
	}
}

func FuzzParseCalibration(f *testing.F) {
	for _, c := range []CalibrationFile{measuredFor(CalibrationLab, labKey(), 1), measuredFor("db:9000", overEth0(labKey()), 1<<40)} {
		data, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"schema":"zcprobe/calibration/v1","crossover":[null]}`))
	f.Add([]byte(`{"schema":"zcprobe/calibration/v1","crossover":[{"bytes":1e400}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCalibration(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil {
			return
		}
		cal := c.calibration()
		for _, x := range cal.Crossovers {
			if plainFor(x.Backend) == "" || x.LowBytes < 0 || x.LowBytes > x.Bytes || x.Bytes > x.HighBytes {
				t.Errorf("%+v", x)
			}
		}
		if name := c.Key.FileName(); filepath.Base(name) != name {
			t.Errorf("%q leads elsewhere", name)
		}
		// What is loaded can be used: neither panics, and a plan has an answer.
		p := Select(Conditions{}, Transfer{Source: SourceMemory, Protocol: TCP}, SelectOptions{Calibration: cal})
		if p.Backend == "" {
			t.Error("no plan")
		}
	})
}

func FuzzParseCPUInfo(f *testing.F) {
	f.Add("processor\t: 0\nmodel name\t: A CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: A CPU @ 2.00GHz\n")
	f.Add("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n")
	if here, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		f.Add(string(here))
	}
	f.Fuzz(func(t *testing.T, text string) {
		model, n := parseCPUInfo(text)
		if n > strings.Count(text, "processor") || strings.Contains(model, "\n") || model != strings.TrimSpace(model) {
			t.Errorf("%q, %d", model, n)
		}
		key := CalibrationKey{Kernel: text, CPU: model, CPUs: n, Devices: []CalibrationDevice{{Device: text}}}
		if name := key.FileName(); filepath.Base(name) != name {
			t.Errorf("%q leads elsewhere", name)
		}
	})
}
