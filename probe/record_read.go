package probe

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a record may hold. The largest honest one seen, 400 devices, has 2 MiB;
// a hostile one must not cost more memory than these allow.
const (
	maxRecordFile  = 8 << 20 // bytes of one file
	maxRecordList  = 1 << 14 // elements of one list or object
	maxRecordItems = 1 << 18 // elements of all lists and objects of one file
	maxRecordDepth = 32
	maxRecordText  = 1 << 14 // bytes of one string
)

// ReadRecord returns the facts of the record in directory dir.
func ReadRecord(dir string) (*Facts, error) {
	r, err := OpenRecord(dir)
	if err != nil {
		return nil, err
	}
	return r.Facts, nil
}

// OpenRecord reads the record in directory dir. Records come from strangers:
// nothing outside dir is opened, sizes are limited, and facts that could not be
// those of a host are refused.
func OpenRecord(dir string) (*Record, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", dir, err)
	}
	r, err := decodeRecord(func(name string) ([]byte, error) { return readPart(root, name) })
	if err := errors.Join(err, root.Close()); err != nil {
		return nil, fmt.Errorf("record %s: %w", dir, err)
	}
	if key, ok := hostKey(os.DirFS("/"), cmp.Or(r.Meta.Pseudonyms, keyRandom)); ok && key.check() == r.Meta.KeyCheck {
		r.key = key
	}
	return r, nil
}

// readPart returns a file of the record. Anything but a regular file could
// block or never end.
func readPart(root *os.Root, name string) (_ []byte, err error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) && name == metaFile {
		return nil, fmt.Errorf("not a record: it has no %s", metaFile)
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("incomplete: it has no %s", name)
	} else if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxRecordFile+1))
	if err == nil && len(b) > maxRecordFile {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxRecordFile>>20)
	}
	return b, err
}

// decodeRecord builds a record from the files that read returns.
func decodeRecord(read func(name string) ([]byte, error)) (*Record, error) {
	r := &Record{Facts: &Facts{}}
	b, err := read(metaFile)
	if err != nil {
		return nil, err
	}
	if err := decodePart(metaFile, b, &r.Meta); err != nil {
		return nil, err
	}
	if r.Meta.Schema != RecordSchema {
		return nil, fmt.Errorf("its schema is %q, this version reads %q", shorten(r.Meta.Schema), RecordSchema)
	}
	for _, p := range recordParts {
		b, err := read(p.file)
		if err != nil {
			return nil, err
		}
		if err := decodePart(p.file, b, p.part(r.Facts)); err != nil {
			return nil, err
		}
	}
	normalise(r.Facts)
	if r.Facts, err = disarm(r.Facts); err != nil {
		return nil, err
	}
	if err := validate(r.Facts); err != nil {
		return nil, err
	}
	return r, nil
}

// decodePart decodes the JSON of one file into v. Names that this version does
// not know are skipped: a newer one wrote them.
func decodePart(name string, b []byte, v any) error {
	if err := checkShape(b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err := json.Unmarshal(b, v)
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%s: byte %d: %w", name, bad.Offset, err)
	}
	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: byte %d: a %s stands where %s needs another type",
			name, bad.Offset, bad.Value, cmp.Or(shorten(bad.Field), "the file"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// checkShape refuses JSON whose decoded form would be far larger than its text
// ("[{},{},…]"): it counts elements and depth without decoding. What is no JSON
// at all is left to the decoder.
func checkShape(b []byte) error {
	var counts []int
	items := 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			if counts, items = append(counts, 1), items+1; len(counts) > maxRecordDepth {
				return fmt.Errorf("byte %d: nested more than %d deep", i, maxRecordDepth)
			}
		case ']', '}':
			counts = counts[:max(0, len(counts)-1)]
		case ',':
			if items++; len(counts) == 0 {
				continue
			}
			if counts[len(counts)-1]++; counts[len(counts)-1] > maxRecordList {
				return fmt.Errorf("byte %d: a list has more than %d elements", i, maxRecordList)
			}
		}
		if items > maxRecordItems {
			return fmt.Errorf("byte %d: more than %d elements", i, maxRecordItems)
		}
	}
	return nil
}

// Interface and program names are bytes, and JSON has room for UTF-8 alone.
// armour writes each byte that is no UTF-8 as a NUL, which no name can hold, and
// two hexadecimal digits; a NUL itself likewise. disarm undoes it.
func armour(f *Facts) *Facts {
	return mapStrings(reflect.ValueOf(f), holdsText, func(_, s string) string {
		if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
			return s
		}
		var b strings.Builder
		for i, r := range s {
			if r == 0 || r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
				b.WriteString("\x00" + hex.EncodeToString([]byte{s[i]}))
				continue
			}
			b.WriteRune(r)
		}
		return b.String()
	}).Interface().(*Facts)
}

func disarm(f *Facts) (*Facts, error) {
	var bad error
	out := mapStrings(reflect.ValueOf(f), holdsText, func(_, s string) string {
		parts := strings.Split(s, "\x00")
		for i, p := range parts[1:] {
			if len(p) < 2 {
				bad = fmt.Errorf("%q has a NUL that stands for no byte", shorten(s))
				return s
			}
			raw, err := hex.DecodeString(p[:2])
			if err != nil {
				bad = fmt.Errorf("%q has a NUL that stands for no byte", shorten(s))
				return s
			}
			parts[i+1] = string(raw) + p[2:]
		}
		return strings.Join(parts, "")
	})
	return out.Interface().(*Facts), bad
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

// PseudonymOf returns what stands in the record for an address, host name,
// HOST:PORT or directory of this host. ok is false if the record was made on
// another host, or its pseudonyms agree with no other record.
func (r *Record) PseudonymOf(s string) (pseudonym string, ok bool) {
	if r.Meta.WithAddresses {
		return s, true
	}
	if r.key.secret == nil {
		return s, false
	}
	p := newPseudonymizer(r.key)
	if strings.HasPrefix(s, "/") {
		return p.path(s), true
	}
	return p.host(s), true
}

// Destination returns the destination of the record that asked means, as
// Options.To takes it: written as the record has it, or, on the host that made
// the record, as it was asked there. The error lists what the record holds.
func (r *Record) Destination(asked string) (string, error) {
	here, _ := r.PseudonymOf(asked)
	var held []string
	for _, p := range r.Facts.Paths {
		if p.Asked == asked || p.Asked == here {
			return p.Asked, nil
		}
		held = append(held, p.Asked)
	}
	slices.Sort(held)
	if len(held) == 0 {
		return "", fmt.Errorf("the record holds no destination, so no path to %s: make it with --to %s", asked, asked)
	}
	why := ""
	if _, ok := r.PseudonymOf(asked); !ok {
		why = " (it was made elsewhere, so real addresses are not recognised)"
	}
	return "", fmt.Errorf("the record holds no destination %s%s; it holds %s",
		asked, why, strings.Join(slices.Compact(held), ", "))
}
