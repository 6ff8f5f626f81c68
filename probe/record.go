package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// RecordSchema names the format of a record: a directory of JSON files, one for
// each part of the facts and meta.json, which makes the directory a record.
const RecordSchema = "zcprobe/record/v1"

const metaFile = "meta.json"

// A Record is one host's facts as they are kept on disk.
type Record struct {
	Meta  RecordMeta
	Facts *Facts

	key pseudonymKey // of this host, if it is the one that made the pseudonyms
}

// RecordMeta says where a record comes from. It is meta.json of the record.
type RecordMeta struct {
	Schema        string `json:"schema"`
	Version       string `json:"version"` // of zcprobe
	Kernel        string `json:"kernel"`
	Arch          string `json:"arch"`
	Created       string `json:"created"` // RFC 3339, UTC
	WithAddresses bool   `json:"with_addresses"`

	// Pseudonyms says what keyed the pseudonyms: "machine-id", "boot-id",
	// "random" (they agree within this record only), or "" with addresses.
	Pseudonyms string `json:"pseudonyms"`
	KeyCheck   string `json:"key_check"` // equal on the host that made the record
}

// RecordOptions say how facts are recorded.
type RecordOptions struct {
	// WithAddresses keeps addresses, host names and directories as they are.
	// Otherwise each becomes a pseudonym that is the same in every record of
	// this host and that cannot be turned back without its machine id.
	WithAddresses bool
}

// recordParts are the files of a record besides meta.json, and what they hold.
var recordParts = []struct {
	file string
	part func(*Facts) any
}{
	{"host.json", func(f *Facts) any { return &f.Host }},
	{"features.json", func(f *Facts) any { return &f.Outcomes }},
	{"networks.json", func(f *Facts) any { return &f.Networks }},
	{"routes.json", func(f *Facts) any { return &f.Routes }},
	{"neighbours.json", func(f *Facts) any { return &f.Neighbours }},
	{"taps.json", func(f *Facts) any { return &f.Taps }},
	{"limits.json", func(f *Facts) any { return &f.Limits }},
	{"dirs.json", func(f *Facts) any { return &f.Dirs }},
	{"paths.json", func(f *Facts) any { return &f.Paths }},
}

// WriteRecord saves facts in directory dir, which it makes, mode 0700, if it is
// not there. A record that is there is replaced; a directory that holds anything
// else is left alone. A write that fails half-way leaves no record that can be
// read, or the old one.
func WriteRecord(dir string, f *Facts, o RecordOptions) error {
	meta := RecordMeta{
		Schema: RecordSchema, Version: moduleVersion(), Kernel: f.Host.Kernel, Arch: f.Host.Arch,
		Created: time.Now().UTC().Format(time.RFC3339), WithAddresses: o.WithAddresses,
	}
	if !o.WithAddresses {
		key, _ := hostKey(os.DirFS("/"), "")
		meta.Pseudonyms, meta.KeyCheck = key.source, key.check()
		f = pseudonymous(f, newPseudonymizer(key))
	}
	files, err := encodeRecord(meta, f)
	if err != nil {
		return fmt.Errorf("record %s: %w", dir, err)
	}
	if err := storeRecord(dir, files); err != nil {
		return fmt.Errorf("record %s: %w", dir, err)
	}
	return nil
}

// RecordFiles returns the names of the files a record consists of, in the order
// in which they are written.
func RecordFiles() []string {
	var names []string
	for _, p := range recordParts {
		names = append(names, p.file)
	}
	return append(names, metaFile)
}

// moduleVersion is the version of the module in this program.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	const module = "github.com/zcprobe/zcprobe"
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	if info.Main.Path == module && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// A recordFile is one file of a record, in the order of writing: meta.json is
// last, because a directory is a record from the moment it is there.
type recordFile struct {
	name string
	data []byte
}

func encodeRecord(meta RecordMeta, f *Facts) ([]recordFile, error) {
	f = armour(f)
	normalise(f)
	var files []recordFile
	add := func(name string, v any) error {
		b, err := encodeJSON(v)
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		files = append(files, recordFile{name, b})
		return nil
	}
	for _, p := range recordParts {
		v := p.part(f)
		if n, ok := v.(*[]Network); ok {
			v = recordNetworks(*n)
		}
		if err := add(p.file, v); err != nil {
			return nil, err
		}
	}
	if err := add(metaFile, meta); err != nil {
		return nil, err
	}
	// What cannot be read again is of no use: say so now.
	_, err := decodeRecord(func(name string) ([]byte, error) {
		return files[slices.IndexFunc(files, func(f recordFile) bool { return f.name == name })].data, nil
	})
	if err != nil {
		return nil, fmt.Errorf("it could not be read again: %w", err)
	}
	return files, nil
}

// storeRecord writes files below dir and nowhere else, whatever links are there.
func storeRecord(dir string, files []recordFile) (err error) {
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return errors.New("is a symbolic link")
	}
	made := true
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		made = false
	} else if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := mayReplace(root, files); err != nil {
		return err
	}
	for i, file := range files {
		if err := writeNew(root, tempName(file.name), file.data); err != nil {
			for _, f := range files[:i+1] {
				err = errors.Join(err, ignoreMissing(root.Remove(tempName(f.name))))
			}
			if made {
				err = errors.Join(err, os.Remove(dir))
			}
			return err
		}
	}
	if err := ignoreMissing(root.Remove(metaFile)); err != nil {
		return err
	}
	for _, file := range files {
		if err := root.Rename(tempName(file.name), file.name); err != nil {
			return err
		}
	}
	return nil
}

func tempName(name string) string { return "." + name + ".new" }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// mayReplace allows an empty directory, and one that a record was written to,
// perhaps not to its end.
func mayReplace(root *os.Root, files []recordFile) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	started := len(entries) == 0
	for _, e := range entries {
		name := e.Name()
		known := slices.ContainsFunc(files, func(f recordFile) bool { return name == f.name || name == tempName(f.name) })
		if !known || !e.Type().IsRegular() {
			return fmt.Errorf("holds %q, which is no part of a record: name another directory", name)
		}
		started = started || name == metaFile || strings.HasSuffix(name, ".new")
	}
	if !started {
		return fmt.Errorf("holds %q but no %s, so it is not a record: name another directory", entries[0].Name(), metaFile)
	}
	return nil
}

func writeNew(root *os.Root, name string, data []byte) (err error) {
	if err := ignoreMissing(root.Remove(name)); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(data)
	return err
}

// normalise makes every nil list below v an empty one, so that it prints as []
// and facts are the same before and after a record. Nil maps stay: they can mean
// that nothing could be read.
func normalise(v any) { fillLists(reflect.ValueOf(v)) }

func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Slice:
		if v.IsNil() && v.CanSet() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillLists(v.Field(i))
		}
	}
}
