package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// grownFacts have one element in every list and a value in every field.
func grownFacts() *Facts {
	f := &Facts{}
	grow(reflect.ValueOf(f).Elem())
	f.Host.Kernel = "6.12.0"
	f.Networks[0].ID = ""
	for _, s := range []*string{
		&f.Networks[0].Links[0].TunLocal, &f.Networks[0].Links[0].TunRemote, &f.Routes[0].Query.Dst, &f.Routes[0].Query.Src,
		&f.Routes[0].Gateway, &f.Routes[0].PrefSrc, &f.Paths[0].Addr, &f.Paths[0].From,
		&f.Paths[0].Addrs[0], &f.Neighbours[0].Query.Addr, &f.Neighbours[0].Dst,
	} {
		*s = "10.0.0.5"
	}
	f.Limits.Memlock.Hard = ^uint64(0)
	return f
}

func mustWrite(t *testing.T, dir string, f *Facts, o RecordOptions) {
	t.Helper()
	if err := WriteRecord(dir, f, o); err != nil {
		t.Fatal(err)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every field of the facts must be in a file of the record, also those that
// other people add.
func TestRecordKeepsEveryField(t *testing.T) {
	f := grownFacts()
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, f, RecordOptions{WithAddresses: true})
	got, err := ReadRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f, got) {
		t.Errorf("facts changed\n got %s\nwant %s", jsonOf(t, got), jsonOf(t, f))
	}
	if n := reflect.TypeFor[Facts]().NumField(); n != len(recordParts) {
		t.Errorf("facts have %d parts, a record %d files", n, len(recordParts))
	}
}

func TestRecordKeepsRawNames(t *testing.T) {
	names := []string{"eth\xff0", "a\nb", "\xe2\x80", "tab\t\u2028", "�", "nul\x00in", "日本", "<&>"}
	f := grownFacts()
	for i, n := range names {
		f.Networks[0].Links = append(f.Networks[0].Links, Link{Index: i + 2, Name: n, Features: map[string]FeatureState{n: {}}})
	}
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, f, RecordOptions{})
	got, err := ReadRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		l := got.Networks[0].Links[i+1]
		if _, ok := l.Features[n]; l.Name != n || !ok {
			t.Errorf("name %q came back as %q, %v", n, l.Name, l.Features)
		}
	}
}

func TestRecordIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, grownFacts(), RecordOptions{})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(recordParts)+1 {
		t.Errorf("record has %d files", len(entries))
	}
	for _, e := range append(entries, nil) {
		name, want := dir, fs.FileMode(0o700)|fs.ModeDir
		if e != nil {
			name, want = filepath.Join(dir, e.Name()), 0o600
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
}

func TestWriteRecordSparesOtherFiles(t *testing.T) {
	f := grownFacts()
	base := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{base}, parts...)...) }

	put(at("other", "thesis.txt"), "precious")
	put(at("lookalike", "host.json"), "precious")
	put(at("mixed", metaFile), "{}")
	put(at("mixed", "thesis.txt"), "precious")
	put(at("plain"), "a file")
	if err := errors.Join(os.MkdirAll(at("links"), 0o755), os.Symlink(at("other", "thesis.txt"), at("links", metaFile)),
		os.MkdirAll(at("empty"), 0o755), os.Symlink(at("empty"), at("link"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other", "lookalike", "mixed", "plain", "links", "link", "missing/below"} {
		if err := WriteRecord(at(name), f, RecordOptions{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("WriteRecord(%s) = %v, want an error that names it", name, err)
		}
	}
	for _, name := range []string{"other/thesis.txt", "lookalike/host.json", "mixed/thesis.txt"} {
		if b, err := os.ReadFile(at(name)); string(b) != "precious" {
			t.Errorf("%s is now %q (%v)", name, b, err)
		}
	}
	mustWrite(t, at("empty"), f, RecordOptions{})

	// A record is replaced, and so is what an interrupted write left.
	f.Host.UID = 77
	mustWrite(t, at("empty"), f, RecordOptions{})
	put(at("interrupted", ".host.json.new"), "half")
	put(at("interrupted", "features.json"), "[]")
	mustWrite(t, at("interrupted"), f, RecordOptions{})
	for _, name := range []string{"empty", "interrupted"} {
		if got, err := ReadRecord(at(name)); err != nil || got.Host.UID != 77 {
			t.Errorf("ReadRecord(%s) = %v", name, err)
		}
	}
}

func TestReadRecordRefuses(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	mustWrite(t, good, grownFacts(), RecordOptions{WithAddresses: true})
	text := func(s string) func(string) error {
		return func(name string) error { return os.WriteFile(name, []byte(s), 0o600) }
	}
	edit := func(old, with string) func(string) error {
		return func(name string) error {
			b, err := os.ReadFile(name)
			if err == nil && !bytes.Contains(b, []byte(old)) {
				err = fmt.Errorf("%s does not hold %s", name, old)
			}
			return errors.Join(err, os.WriteFile(name, bytes.Replace(b, []byte(old), []byte(with), 1), 0o600))
		}
	}
	for _, c := range []struct {
		name, file string
		spoil      func(name string) error
		want       string
	}{
		{"no meta", metaFile, os.Remove, "not a record: it has no meta.json"},
		{"missing part", "taps.json", os.Remove, "incomplete: it has no taps.json"},
		{"other schema", metaFile, edit(RecordSchema, "zcprobe/record/v9"), `schema is "zcprobe/record/v9"`},
		{"not json", "host.json", text("hello"), "host.json: byte 1: invalid character"},
		{"cut short", "networks.json", text(`[{"id":"","links":[`), "networks.json: byte 19: unexpected end"},
		{"more after", "routes.json", text(`[] x`), "routes.json: byte 4"},
		{"wrong type", "host.json", text(`{"uid":"root"}`), "a string stands where uid needs another type"},
		{"number too large", "host.json", text(`{"uid":4294967296}`), "uid"},
		{"amplified", "networks.json", text("[{},{}" + strings.Repeat(",{}", maxRecordList) + "]"), "more than 16384 elements"},
		{"amplified in many", "networks.json", text("[" + strings.Repeat(`{"links":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]},`, maxRecordList-1) + "{}]"), "more than 262144 elements"},
		{"deep", "networks.json", text(strings.Repeat("[", 100)), "nested"},
		{"large", "dirs.json", text("[" + strings.Repeat(" ", maxRecordFile) + "]"), "larger than 8 MiB"},
		{"long text", "host.json", text(`{"kernel":"` + strings.Repeat("x", maxRecordText+1) + `"}`), "a text of 16385 bytes"},
		{"no network", "networks.json", text("[]"), "no network namespace"},
		{"null network", "networks.json", text("null"), "no network namespace"},
		{"two own networks", "networks.json", text(`[{"id":""},{"id":""}]`), "network 1 has id"},
		{"same network twice", "networks.json", text(`[{"id":""},{"id":"ns1"},{"id":"ns1"}]`), "network 2 has id"},
		{"index 0", "networks.json", text(`[{"links":[{"name":"lo"}]}]`), `link "lo" has index 0`},
		{"index twice", "networks.json", text(`[{"links":[{"name":"a","index":1},{"name":"b","index":1}]}]`), `link "b" has index 1`},
		{"no name", "networks.json", text(`[{"links":[{"index":1}]}]`), "link 1 has no name"},
		{"negative mtu", "networks.json", text(`[{"links":[{"index":1,"name":"a","mtu":-1}]}]`), "negative"},
		{"bond mode", "networks.json", text(`[{"links":[{"index":1,"name":"a","bond_mode":-2}]}]`), "bond mode"},
		{"no address", "routes.json", text(`[{"query":{"dst":"nowhere"}}]`), `"nowhere" is no address`},
		{"pid", "limits.json", text(`{"pid":-4}`), "process id -4"},
		{"tap", "taps.json", text(`{"taps":[{"ifindex":-2}]}`), "interface index -2"},
		{"stray NUL", "host.json", text(`{"kernel":"a\u0000zz"}`), "NUL that stands for no byte"},
		{"directory", "paths.json", func(n string) error { return errors.Join(os.Remove(n), os.Mkdir(n, 0o700)) }, "not a regular file"},
		{"escaping link", "paths.json", func(n string) error { return errors.Join(os.Remove(n), os.Symlink("/etc/passwd", n)) }, "not a regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			if err := errors.Join(os.CopyFS(dir, os.DirFS(good)), c.spoil(filepath.Join(dir, c.file))); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadRecord(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("ReadRecord = %v\nwant %q", err, c.want)
			}
		})
	}
	if _, err := ReadRecord(filepath.Join(good, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadRecord of nothing = %v", err)
	}
	if _, err := ReadRecord(filepath.Join(good, metaFile)); err == nil {
		t.Error("ReadRecord took a file for a record")
	}
}

func TestReadRecordFromNewerVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, grownFacts(), RecordOptions{})
	b, err := os.ReadFile(filepath.Join(dir, "host.json"))
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte("{"), []byte(`{"from_the_future": {"a": [1]},`), 1)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "host.json"), b, 0o600), os.WriteFile(filepath.Join(dir, "new.json"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRecord(dir); err != nil {
		t.Error(err)
	}
}

func TestDestination(t *testing.T) {
	f := grownFacts()
	f.Paths = []PathQuery{
		{Asked: "10.0.0.5:443", Host: "10.0.0.5", Addr: "10.0.0.5", Port: 443},
		{Asked: "db.example", Host: "db.example", Addr: "2600::1"},
	}
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, f, RecordOptions{})
	r, err := OpenRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Meta.Pseudonyms == keyRandom {
		t.Fatalf("this machine has neither machine-id nor boot id")
	}
	var shown []string
	for _, p := range r.Facts.Paths {
		shown = append(shown, p.Asked)
		if got, err := r.Destination(p.Asked); got != p.Asked || err != nil {
			t.Errorf("Destination(%s) = %q, %v", p.Asked, got, err)
		}
	}
	for i, real := range []string{"10.0.0.5:443", "db.example"} {
		if got, err := r.Destination(real); got != shown[i] || err != nil {
			t.Errorf("Destination(%s) = %q, %v, want %s", real, got, err, shown[i])
		}
	}
	slices.Sort(shown)
	if _, err := r.Destination("10.0.0.6"); err == nil || !strings.Contains(err.Error(), strings.Join(shown, ", ")) {
		t.Errorf("an unknown destination: %v", err)
	}

	// Elsewhere only the pseudonyms are known.
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(r.Meta.KeyCheck), []byte("00000000"), 1)
	if err := os.WriteFile(filepath.Join(dir, metaFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = OpenRecord(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Destination("db.example"); err == nil || !strings.Contains(err.Error(), "made elsewhere") {
		t.Errorf("a real name on another host: %v", err)
	}
	if got, err := r.Destination(shown[0]); got != shown[0] || err != nil {
		t.Errorf("Destination(%s) = %q, %v", shown[0], got, err)
	}
	r.Facts.Paths = nil
	if _, err := r.Destination("10.0.0.5"); err == nil || !strings.Contains(err.Error(), "no destination") {
		t.Errorf("a record without destinations: %v", err)
	}
}

// Whatever a stranger puts into a record, reading it gives facts that can be
// judged, or an error.
func FuzzRecord(f *testing.F) {
	meta := RecordMeta{Schema: RecordSchema}
	files, err := encodeRecord(meta, grownFacts())
	if err != nil {
		f.Fatal(err)
	}
	for i, file := range files {
		f.Add(uint8(i), file.data)
	}
	f.Add(uint8(2), []byte(`[{"links":[{"index":1,"name":"a","parent":1,"master":1}]}]`))
	f.Add(uint8(2), []byte(`[{"links":[{"index":1,"name":"a","parent":2,"kind":"veth"},{"index":2,"name":"b","parent":1,"kind":"veth"}]}]`))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		name := files[int(which)%len(files)].name
		r, err := decodeRecord(func(n string) ([]byte, error) {
			if n == name {
				return data, nil
			}
			i := slices.IndexFunc(files, func(f recordFile) bool { return f.name == n })
			return files[i].data, nil
		})
		if (r == nil) == (err == nil) {
			t.Fatalf("record %v with error %v", r, err)
		}
		if err != nil {
			return
		}
		o := Options{}
		if len(r.Facts.Paths) > 0 {
			o.To = r.Facts.Paths[0].Asked
		}
		rep := Judge(r.Facts, o)
		if _, err := json.Marshal(rep); err != nil {
			t.Errorf("report of it: %v", err)
		}
		// What was read can be written and read again.
		again, err := encodeRecord(r.Meta, pseudonymous(r.Facts, newPseudonymizer(testKey('a'))))
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeRecord(func(n string) ([]byte, error) {
			i := slices.IndexFunc(again, func(f recordFile) bool { return f.name == n })
			return again[i].data, nil
		})
		if err != nil && !strings.Contains(err.Error(), "a text of") && !strings.Contains(err.Error(), "elements") {
			t.Errorf("written again it cannot be read: %v", err)
		}
	})
}

func TestReportsHoldNoNullList(t *testing.T) {
	r := Judge(&Facts{Networks: []Network{{}}}, Options{})
	for _, list := range []string{"features", "nics", "taps", "hazards", "tiers", "recommendations", "checks", "unknown"} {
		if strings.Contains(jsonOf(t, r), `"`+list+`": null`) {
			t.Errorf("%s is null", list)
		}
	}
}
