package scenario

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FileSchema names the format of files of scenarios.
const FileSchema = "zcprobe/scenarios/v1"

// Bounds of files.
const (
	MaxFile       = 4 << 20 // bytes
	mostScenarios = 1000
	mostText      = 1000 // bytes of a sentence
	mostItems     = 32   // steps, truths, causes
	mostProblems  = 20   // that are told of one file
)

// A FileError is all that is wrong with a file of scenarios.
type FileError struct {
	File     string
	Problems []string // each names its scenario and field
}

func (e *FileError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, e.File+": "+p)
	}
	return strings.Join(lines, "\n")
}

// Read reads a file of scenarios, as List prints them: a JSON object with the schema
// and the scenarios. What is unknown, missing, twice there or out of bounds is an
// error, a [*FileError]. Nothing is opened or run.
func Read(file string, src []byte) ([]Scenario, error) {
	r := &fileReader{}
	all := r.document(src)
	if len(r.problems) == 0 {
		return all, nil
	}
	if n := len(r.problems) - mostProblems; n > 0 {
		r.problems = append(r.problems[:mostProblems], fmt.Sprintf("and %d more problems", n))
	}
	return nil, &FileError{File: file, Problems: r.problems}
}

type fileReader struct {
	scenario string // which is read, for problems
	problems []string
}

// problem keeps what is wrong with a field.
func (r *fileReader) problem(field, format string, args ...any) {
	at := r.scenario
	if field != "" {
		at = strings.TrimPrefix(at+" "+field, " ")
	}
	text := fmt.Sprintf(format, args...)
	if at != "" {
		text = at + ": " + text
	}
	r.problems = append(r.problems, text)
}

func (r *fileReader) document(src []byte) []Scenario {
	switch {
	case len(src) > MaxFile:
		r.problem("", "is larger than %d bytes", MaxFile)
		return nil
	case !utf8.Valid(src):
		r.problem("", "is no UTF-8")
		return nil
	}
	var top json.RawMessage
	if err := json.Unmarshal(src, &top); err != nil {
		where := ""
		if e, ok := err.(*json.SyntaxError); ok {
			where = fmt.Sprintf("line %d", 1+bytes.Count(src[:min(int(e.Offset), len(src))], []byte("\n")))
		}
		r.problem(where, "%v", err)
		return nil
	}
	var doc struct {
		Schema    string            `json:"schema"`
		Scenarios []json.RawMessage `json:"scenarios"`
	}
	r.fill("", top, reflect.ValueOf(&doc).Elem(), "kernel", "needs")
	if doc.Schema != FileSchema && len(r.problems) == 0 {
		r.problem("schema", "is %q, and %q is understood", doc.Schema, FileSchema)
	}
	if len(doc.Scenarios) > mostScenarios {
		r.problem("scenarios", "are more than %d", mostScenarios)
	}
	if len(r.problems) > 0 {
		return nil
	}
	var all []Scenario
	seen := map[string]bool{}
	for i, raw := range doc.Scenarios {
		s := r.read(i, raw)
		if seen[s.ID] && s.ID != "" {
			r.problem("id", "is there twice")
		}
		seen[s.ID] = true
		all = append(all, s)
	}
	return all
}

// read reads one scenario.
func (r *fileReader) read(i int, raw json.RawMessage) (s Scenario) {
	r.scenario = fmt.Sprintf("scenario %d", i+1)
	var named struct{ ID string }
	if json.Unmarshal(raw, &named) == nil && len(named.ID) <= mostText {
		r.scenario = fmt.Sprintf("scenario %d (%q)", i+1, named.ID)
	}
	before := len(r.problems)
	// What List says besides is read over.
	r.fill("", raw, reflect.ValueOf(&s).Elem(), "makes", "sends", "expected")
	if len(r.problems) == before {
		r.check(&s)
	}
	return s
}

// A member is a name of an object and its value.
type member struct {
	name  string
	value json.RawMessage
}

// members splits an object, whose names are to be there once.
func (r *fileReader) members(path string, raw json.RawMessage) (out []member, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		r.problem(path, "is no object")
		return nil, false
	}
	for d.More() {
		name, err := d.Token()
		var m member
		if err == nil {
			m.name, _ = name.(string)
			err = d.Decode(&m.value)
		}
		if err != nil {
			r.problem(path, "%v", err)
			return nil, false
		}
		if slices.ContainsFunc(out, func(o member) bool { return o.name == m.name }) {
			r.problem(under(path, m.name), "is there twice")
		}
		if out = append(out, m); len(out) > 2*mostItems {
			r.problem(path, "has too many fields")
			return nil, false
		}
	}
	return out, true
}

func under(path, name string) string {
	if len(name) > mostText {
		name = name[:20] + ".."
	}
	return strings.TrimPrefix(path+"."+name, ".")
}

// fill reads a value into one of Go, strictly: an object into a struct, by its tags.
// Fields of names that are to be passed over may be anything.
func (r *fileReader) fill(path string, raw json.RawMessage, into reflect.Value, over ...string) {
	raw = bytes.TrimSpace(raw)
	if into.Type() == reflect.TypeFor[Steps]() {
		r.steps(path, raw, into)
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		if all, ok := r.members(path, raw); ok {
			r.object(path, all, into, over)
		}
	case reflect.Slice:
		r.list(path, raw, into)
	case reflect.String:
		r.text(path, raw, into)
	case reflect.Bool:
		if s := string(raw); s == "true" || s == "false" {
			into.SetBool(s == "true")
			return
		}
		r.problem(path, "is neither true nor false")
	default:
		r.number(path, raw, into)
	}
}

func (r *fileReader) object(path string, all []member, into reflect.Value, over []string) {
	var known []string
	for i := range into.NumField() {
		name, rest, _ := strings.Cut(into.Type().Field(i).Tag.Get("json"), ",")
		known = append(known, name)
		k := slices.IndexFunc(all, func(m member) bool { return m.name == name })
		switch {
		case k >= 0:
			r.fill(under(path, name), all[k].value, into.Field(i))
		case rest == "":
			r.problem(under(path, name), "is missing")
		}
	}
	for _, m := range all {
		if !slices.Contains(known, m.name) && !slices.Contains(over, m.name) {
			r.problem(under(path, m.name), "is unknown; the fields here are: %s", list(known))
		}
	}
}

func (r *fileReader) list(path string, raw json.RawMessage, into reflect.Value) {
	items, ok := r.items(path, raw, into.Type())
	if !ok {
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		if into.Type() == reflect.TypeFor[[]json.RawMessage]() {
			into.Index(i).SetBytes(item)
			continue
		}
		r.fill(fmt.Sprintf("%s[%d]", path, i), item, into.Index(i))
	}
}

func (r *fileReader) items(path string, raw json.RawMessage, typ reflect.Type) (items []json.RawMessage, ok bool) {
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		r.problem(path, "is no list")
		return nil, false
	}
	if typ != reflect.TypeFor[[]json.RawMessage]() && len(items) > mostItems {
		r.problem(path, "has %d entries, and %d is the most", len(items), mostItems)
		return nil, false
	}
	return items, true
}

// steps reads a set-up.
func (r *fileReader) steps(path string, raw json.RawMessage, into reflect.Value) {
	items, ok := r.items(path, raw, into.Type())
	if !ok {
		return
	}
	var out Steps
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		all, ok := r.members(at, item)
		if !ok {
			continue
		}
		k := slices.IndexFunc(all, func(m member) bool { return m.name == "step" })
		if k < 0 {
			r.problem(at+".step", "is missing; there are %s", strings.Join(stepNames(), ", "))
			continue
		}
		var name string
		r.text(at+".step", all[k].value, reflect.ValueOf(&name).Elem())
		kind := kinds()[name]
		if kind == nil {
			r.problem(at+".step", "is %q; there are %s", name, strings.Join(stepNames(), ", "))
			continue
		}
		s := reflect.New(reflect.TypeOf(kind)).Elem()
		r.object(at, slices.Delete(all, k, k+1), s, nil)
		if one, ok := s.Interface().(Step); ok {
			out = append(out, one)
		}
	}
	into.Set(reflect.ValueOf(out))
}

func (r *fileReader) text(path string, raw json.RawMessage, into reflect.Value) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		r.problem(path, "is no text")
		return
	}
	if len(s) > mostText {
		r.problem(path, "has %d bytes, and %d is the most", len(s), mostText)
		return
	}
	into.SetString(s)
}

func (r *fileReader) number(path string, raw json.RawMessage, into reflect.Value) {
	bits := into.Type().Bits()
	var err error
	switch {
	case into.CanFloat():
		var f float64
		if f, err = strconv.ParseFloat(string(raw), bits); err == nil {
			into.SetFloat(f)
		}
	case into.CanUint():
		var n uint64
		if n, err = strconv.ParseUint(string(raw), 10, bits); err == nil {
			into.SetUint(n)
		}
	case into.CanInt():
		var n int64
		if n, err = strconv.ParseInt(string(raw), 10, bits); err == nil {
			into.SetInt(n)
		}
	}
	if err != nil {
		what := "a whole number"
		if into.CanFloat() {
			what = "a number"
		}
		r.problem(path, "is no number of its range: %.40s is to be %s", raw, what)
	}
}
