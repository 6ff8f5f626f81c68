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

// What a record may hold: enough for 4000 devices. A hostile one must not cost
// more memory than this allows.
const (
	maxRecordFile  = 8 << 20 // bytes of one file
	maxRecordList  = 1 << 13 // elements of one list or object
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
	return io.ReadAll(io.LimitReader(f, maxRecordFile+1))
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
		if err := decodeFacts(p.file, b, p.part(r.Facts)); err != nil {
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

// decodeFacts decodes one file into a part of the facts.
func decodeFacts(name string, b []byte, part any) error {
	networks, ok := part.(*[]Network)
	if !ok {
		return decodePart(name, b, part)
	}
	var r recordedNetworks
	if err := decodePart(name, b, &r); err != nil {
		return err
	}
	var err error
	if *networks, err = r.networks(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// decodePart decodes the JSON of one file into v. Names that this version does
// not know are skipped: a newer one wrote them.
func decodePart(name string, b []byte, v any) error {
	if len(b) > maxRecordFile {
		return fmt.Errorf("%s is larger than %d MiB", name, maxRecordFile>>20)
	}
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
// HOST:PORT, directory or interface of this host. ok is false if the record was
// made on another host, or its pseudonyms agree with no other record.
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
	if named := (&scrubber{p: p}).namedByMAC(s); named != s {
		return named, true
	}
	return p.host(s), true
}

// Options returns asked as [Judge] needs it for the facts of the record, in
// which pseudonyms may stand for what the user names. A destination, and the
// source it is asked from, can be given as the record has them, or, on the host
// that made the record, as they are. The error lists the destinations that the
// record holds.
func (r *Record) Options(asked Options) (Options, error) {
	names := func(inRecord, given string) bool {
		here, ok := r.PseudonymOf(given)
		return inRecord == given || ok && given != "" && inRecord == here
	}
	o := asked
	for _, n := range r.Facts.Networks[0].Links {
		if names(n.Name, asked.Dev) {
			o.Dev = n.Name
		}
	}
	if asked.To == "" {
		return o, nil
	}
	var held []string
	for _, q := range r.Facts.Paths {
		to := names(q.Asked, asked.To) || names(q.Host, asked.To) || names(q.Addr, asked.To)
		if to && names(q.From, asked.From) {
			o.To, o.From = q.Asked, q.From
			return o, nil
		}
		if q.From == "" {
			held = append(held, q.Asked)
		} else {
			held = append(held, q.Asked+" from "+q.From)
		}
	}
	if asked.From != "" {
		asked.To += " from " + asked.From
	}
	if len(held) == 0 {
		return o, fmt.Errorf("the record holds no path to %s, nor to any destination: they are recorded by `zcprobe record DIR --to HOST`", asked.To)
	}
	why := ""
	if _, ok := r.PseudonymOf(""); !ok {
		why = " (it was made elsewhere, so real addresses are not recognised)"
	}
	slices.Sort(held)
	return o, fmt.Errorf("the record holds no path to %s%s; it holds paths to %s",
		asked.To, why, strings.Join(slices.Compact(held), ", "))
}
