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
		&f.Paths[0].Addrs[0], &f.Neighbours[0].Query.Addr, &f.Neighbours[0].Dst, &f.Routes[0].NextHops[0].Gateway,
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
		{"cut short", "networks.json", text(`{"networks":[{"id":"","links":[`), "networks.json: byte 31: unexpected end"},
		{"more after", "routes.json", text(`[] x`), "routes.json: byte 4"},
		{"wrong type", "host.json", text(`{"uid":"root"}`), "a string stands where uid needs another type"},
		{"number too large", "host.json", text(`{"uid":4294967296}`), "uid"},
		{"amplified", "networks.json", text(`{"networks":[{},{}` + strings.Repeat(",{}", maxRecordList) + "]}"), "more than 8192 elements"},
		{"amplified in many", "networks.json", text(`{"networks":[` + strings.Repeat(`{"links":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]},`, maxRecordList-1) + "{}]}"), "more than 262144 elements"},
		{"deep", "networks.json", text(strings.Repeat("[", 100)), "nested"},
		{"large", "dirs.json", text("[" + strings.Repeat(" ", maxRecordFile) + "]"), "larger than 8 MiB"},
		{"long text", "host.json", text(`{"kernel":"` + strings.Repeat("x", maxRecordText+1) + `"}`), "a text of 16385 bytes"},
		{"no network", "networks.json", text("{}"), "no network namespace"},
		{"null network", "networks.json", text("null"), "no network namespace"},
		{"two own networks", "networks.json", text(`{"networks":[{"id":""},{"id":""}]}`), "network 1 has id"},
		{"same network twice", "networks.json", text(`{"networks":[{"id":""},{"id":"ns1"},{"id":"ns1"}]}`), "network 2 has id"},
		{"index 0", "networks.json", text(`{"networks":[{"links":[{"name":"lo"}]}]}`), `link "lo" has index 0`},
		{"index twice", "networks.json", text(`{"networks":[{"links":[{"name":"a","index":1},{"name":"b","index":1}]}]}`), `link "b" has index 1`},
		{"no name", "networks.json", text(`{"networks":[{"links":[{"index":1}]}]}`), "link 1 has no name"},
		{"negative mtu", "networks.json", text(`{"networks":[{"links":[{"index":1,"name":"a","mtu":-1}]}]}`), "negative"},
		{"bond mode", "networks.json", text(`{"networks":[{"links":[{"index":1,"name":"a","bond_mode":-2}]}]}`), "bond mode"},
		{"no address", "routes.json", text(`[{"query":{"dst":"nowhere"}}]`), `"nowhere" is no address`},
		{"feature set", "networks.json", text(`{"networks":[{"links":[{"index":1,"name":"a","features":0}]}]}`), "feature set 0 of 0"},
		{"many features", "networks.json", text(manyFeatures()), "features of all links together"},
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

// manyFeatures is small on disk and large when each link has its own features.
func manyFeatures() string {
	var b strings.Builder
	b.WriteString(`{"feature_sets":[{"a":{}`)
	for i := range 999 {
		fmt.Fprintf(&b, `,"%d":{}`, i)
	}
	b.WriteString(`}],"networks":[{"links":[{"index":1,"name":"l1","features":0}`)
	for i := range 999 {
		fmt.Fprintf(&b, `,{"index":%d,"name":"l","features":0}`, i+2)
	}
	b.WriteString(`]}]}`)
	return b.String()
}

// A large host must be recordable: many devices with the features of two.
func TestRecordOfManyDevices(t *testing.T) {
	f := grownFacts()
	for i := range 600 {
		l := Link{Index: i + 2, Name: fmt.Sprintf("veth%d", i), Features: map[string]FeatureState{}}
		for j := range 64 {
			l.Features[fmt.Sprintf("tx-feature-number-%d", j)] = FeatureState{Active: i%2 == 0}
		}
		f.Networks[0].Links = append(f.Networks[0].Links, l)
	}
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, f, RecordOptions{WithAddresses: true})
	got, err := ReadRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, f) {
		t.Error("the record differs")
	}
	got.Networks[0].Links[1].Features["tx-feature-number-1"] = FeatureState{NeverChanged: true}
	if got.Networks[0].Links[3].Features["tx-feature-number-1"].NeverChanged {
		t.Error("two links share their features")
	}
	for range maxRecordList {
		f.Networks[0].Links = append(f.Networks[0].Links, Link{Index: len(f.Networks[0].Links) + 1, Name: "x"})
	}
	if err := WriteRecord(filepath.Join(t.TempDir(), "r"), f, RecordOptions{WithAddresses: true}); err == nil || !strings.Contains(err.Error(), "could not be read again") {
		t.Errorf("a record that cannot be read: %v", err)
	}
}

func TestRecordLayout(t *testing.T) {
	long := strings.Repeat("word ", 30)
	for _, v := range []any{
		nil, 1, "a", []int{}, map[string]any{}, []any{1, "a,]}\"{[:", nil, true},
		map[string]any{"a": []any{}, "b": map[string]any{"c": "\\", "d": []any{map[string]any{}}}, "e:": long, "f": []any{long, long}},
	} {
		b, err := encodeJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := json.Unmarshal(b, &back); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if got, want := jsonOf(t, back), jsonOf(t, v); got != want {
			t.Errorf("%s is %s, want %s", b, got, want)
		}
	}
	b, err := encodeJSON(map[string]any{"x": map[string]any{"a": 1, "b": []any{}}, "y": map[string]any{"c": true, "d": nil}})
	if want := "{\n  \"x\": {\n    \"a\": 1,\n    \"b\": []\n  },\n  \"y\": {\"c\": true, \"d\": null}\n}\n"; string(b) != want || err != nil {
		t.Errorf("layout %s", b)
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

func TestRecordOptions(t *testing.T) {
	f := grownFacts()
	f.Paths = []PathQuery{
		{Asked: "10.0.0.5:443", Host: "10.0.0.5", Addr: "10.0.0.5", Port: 443},
		{Asked: "db.example", Host: "db.example", Addr: "2600::1"},
		{Asked: "db.example", Host: "db.example", Addr: "2600::1", From: "2600::9"},
	}
	f.Networks[0].Links[0].Name = "enx525400123456"
	dir := filepath.Join(t.TempDir(), "r")
	mustWrite(t, dir, f, RecordOptions{})
	r, err := OpenRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Meta.Pseudonyms == keyRandom {
		t.Fatal("this machine has neither machine-id nor boot id")
	}
	held := r.Facts.Paths
	if n := r.Facts.Networks[0].Links[0].Name; n == "enx525400123456" || !strings.HasPrefix(n, "enx02") {
		t.Errorf("interface %s", n)
	}
	find := func(o Options, want PathQuery) {
		t.Helper()
		got, err := r.Options(o)
		if err != nil || got.To != want.Asked || got.From != want.From {
			t.Errorf("Options(%+v) = %+v, %v, want %s from %q", o, got, err, want.Asked, want.From)
		}
	}
	refuse := func(o Options, want ...string) {
		t.Helper()
		_, err := r.Options(o)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("Options(%+v): %v, want %q", o, err, w)
			}
		}
	}
	for i, given := range []Options{{To: "10.0.0.5:443"}, {To: "db.example"}, {To: "db.example", From: "2600::9"}} {
		find(given, held[i])
		find(Options{To: held[i].Asked, From: held[i].From}, held[i])
	}
	find(Options{To: "10.0.0.5"}, held[0])
	find(Options{To: "2600::1"}, held[1])
	if o, err := r.Options(Options{Dev: "enx525400123456"}); err != nil || o.Dev != r.Facts.Networks[0].Links[0].Name {
		t.Errorf("device %q (%v)", o.Dev, err)
	}
	refuse(Options{To: "10.0.0.6"}, "no path to 10.0.0.6;", held[0].Asked, held[1].Asked+" from "+held[2].From)
	refuse(Options{To: "10.0.0.5", From: "10.0.0.1"}, "no path to 10.0.0.5 from 10.0.0.1")

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
	refuse(Options{To: "db.example"}, "made elsewhere")
	find(Options{To: held[0].Asked}, held[0])
	r.Facts.Paths = nil
	refuse(Options{To: "10.0.0.5"}, "nor to any destination")
}

// Whatever a stranger puts into a record, reading it gives facts that can be
// judged, or an error.
func FuzzRecord(f *testing.F) {
	grown, err := encodeRecord(RecordMeta{Schema: RecordSchema}, grownFacts())
	if err != nil {
		f.Fatal(err)
	}
	host, err := ReadRecord("../testdata/hosts/guest-7.3-e1000e")
	if err != nil {
		f.Fatal(err)
	}
	files, err := encodeRecord(RecordMeta{Schema: RecordSchema}, host)
	if err != nil {
		f.Fatal(err)
	}
	for i, file := range files {
		f.Add(uint8(i), file.data)
		f.Add(uint8(i), grown[i].data)
	}
	f.Add(uint8(2), []byte(`{"networks":[{"links":[{"index":1,"name":"a","parent":1,"master":1}]}]}`))
	f.Add(uint8(2), []byte(`{"networks":[{"links":[{"index":1,"name":"a","parent":2,"kind":"veth"},{"index":2,"name":"b","parent":1,"kind":"veth"}]}]}`))
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
