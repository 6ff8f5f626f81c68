package hosttest

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Agree fails the test unless a schema of testdata/schema ("probe.v1") describes
// the JSON form of a Go type: the same names, types and promises, and nothing
// that closes a list which may grow.
func Agree(t testing.TB, schema string, typ reflect.Type) {
	t.Helper()
	d := open(t, schema+".json")
	d.agree("", d.root, typ)
}

// A doc is a schema file and its definitions.
type doc struct {
	t    testing.TB
	file string
	root map[string]any
}

func open(t testing.TB, name string) doc {
	t.Helper()
	b, err := os.ReadFile(Testdata(t, "schema", name))
	if err != nil {
		t.Fatal(err)
	}
	d := doc{t: t, file: name}
	if err := json.Unmarshal(b, &d.root); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

func (d doc) follow(node map[string]any) (doc, map[string]any) {
	r, ok := node["$ref"].(string)
	if !ok {
		return d, node
	}
	if name, ok := strings.CutPrefix(r, "#/$defs/"); ok {
		def, ok := d.root["$defs"].(map[string]any)[name].(map[string]any)
		if !ok {
			d.t.Fatalf("%s: no definition %s", d.file, name)
		}
		return d, def
	}
	d = open(d.t, r)
	return d, d.root
}

// agree compares a schema with the Go type that is printed under it.
func (d doc) agree(at string, node map[string]any, typ reflect.Type) {
	d, node = d.follow(node)
	if _, ok := node["const"]; ok {
		return
	}
	want, nullable := "", false
	if typ.Kind() == reflect.Pointer {
		typ, nullable = typ.Elem(), typ.Elem().Kind() != reflect.Struct
	}
	switch typ.Kind() {
	case reflect.String:
		want = "string"
	case reflect.Bool:
		want = "boolean"
	case reflect.Slice:
		want = "array"
		if items, ok := node["items"].(map[string]any); ok {
			d.agree(at+"[]", items, typ.Elem())
		} else {
			d.t.Errorf("%s %s: no items", d.file, at)
		}
	case reflect.Map:
		want, nullable = "object", true
		if values, ok := node["additionalProperties"].(map[string]any); ok {
			d.agree(at+"{}", values, typ.Elem())
		} else {
			d.t.Errorf("%s %s: says nothing of its values", d.file, at)
		}
	case reflect.Float64:
		want = "number"
	case reflect.Struct:
		want = "object"
		d.agreeFields(at, node, typ)
	default:
		want = "integer"
	}
	wantType := fmt.Sprint(want)
	if nullable {
		wantType = fmt.Sprint([]string{want, "null"})
	}
	if got := fmt.Sprint(node["type"]); got != wantType {
		d.t.Errorf("%s %s: type %s, want %s", d.file, at, got, wantType)
	}
	if _, closed := node["enum"]; closed {
		d.t.Errorf("%s %s: a closed list of words", d.file, at)
	}
}

func (d doc) agreeFields(at string, node map[string]any, typ reflect.Type) {
	props, _ := node["properties"].(map[string]any)
	var required, names []string
	for _, f := range printed(typ) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
		if !strings.Contains(opts, "omitempty") && !strings.Contains(opts, "omitzero") {
			required = append(required, name)
		}
		prop, ok := props[name].(map[string]any)
		if !ok {
			d.t.Errorf("%s %s: %s is missing", d.file, at, name)
			continue
		}
		d.agree(at+"."+name, prop, f.Type)
	}
	for name := range props {
		if !slices.Contains(names, name) {
			d.t.Errorf("%s %s: %s is printed by nobody", d.file, at, name)
		}
	}
	var listed []string
	list, _ := node["required"].([]any)
	for _, r := range list {
		listed = append(listed, fmt.Sprint(r))
	}
	slices.Sort(listed)
	slices.Sort(required)
	if !slices.Equal(listed, required) {
		d.t.Errorf("%s %s: requires %q, want %q", d.file, at, listed, required)
	}
	if node["additionalProperties"] == false {
		d.t.Errorf("%s %s: closed, but names are added", d.file, at)
	}
}

// printed returns the fields of a struct that are in its JSON form; those of an
// embedded struct stand beside the others.
func printed(typ reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for _, f := range reflect.VisibleFields(typ) {
		if f.IsExported() && !f.Anonymous && f.Tag.Get("json") != "-" {
			out = append(out, f)
		}
	}
	return out
}
