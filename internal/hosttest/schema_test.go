package hosttest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

// A doc is a schema file and its definitions.
type doc struct {
	t    *testing.T
	file string
	root map[string]any
}

func open(t *testing.T, name string) doc {
	t.Helper()
	b, err := os.ReadFile(hosttest.Testdata(t, "schema", name))
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
	for i := range typ.NumField() {
		name, opts, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
		if !strings.Contains(opts, "omitempty") {
			required = append(required, name)
		}
		prop, ok := props[name].(map[string]any)
		if !ok {
			d.t.Errorf("%s %s: %s is missing", d.file, at, name)
			continue
		}
		d.agree(at+"."+name, prop, typ.Field(i).Type)
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

func TestSchemasAgreeWithTypes(t *testing.T) {
	for file, typ := range map[string]reflect.Type{
		"probe.v1.json":  reflect.TypeFor[probe.Report](),
		"path.v1.json":   reflect.TypeFor[probe.PathReport](),
		"record.v1.json": reflect.TypeFor[probe.RecordMeta](),
		"preflight.v1.json": reflect.TypeFor[struct {
			Schema  string        `json:"schema"`
			Verdict probe.Verdict `json:"verdict"`
			Checks  []probe.Check `json:"checks"`
		}](),
		"explain.v1.json": reflect.TypeFor[struct {
			Schema string        `json:"schema"`
			Causes []probe.Cause `json:"causes"`
		}](),
		"error.v1.json": reflect.TypeFor[struct {
			Schema string `json:"schema"`
			Error  string `json:"error"`
			Kind   string `json:"kind"`
		}](),
	} {
		d := open(t, file)
		d.agree("", d.root, typ)
	}
	files, err := filepath.Glob(hosttest.Testdata(t, "schema", "*.json"))
	if err != nil || len(files) != 6 {
		t.Errorf("schemas %q (%v), want 6", files, err)
	}
}

// The schemas must take what we print and refuse what breaks their promises.
func TestSchemasDecide(t *testing.T) {
	explain, err := json.Marshal(map[string]any{"schema": "zcprobe/explain/v1", "causes": probe.Causes()})
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Validate(t, "explain.v1", explain)
	for name, c := range map[string]struct{ schema, doc string }{
		"other schema":   {"error.v1", `{"schema":"zcprobe/error/v2","error":"x","kind":"y"}`},
		"missing name":   {"error.v1", `{"schema":"zcprobe/error/v1","error":"x"}`},
		"null list":      {"explain.v1", `{"schema":"zcprobe/explain/v1","causes":null}`},
		"null in a list": {"explain.v1", `{"schema":"zcprobe/explain/v1","causes":[null]}`},
	} {
		t.Run(name, func(t *testing.T) {
			var r recorder
			hosttest.Validate(&r, c.schema, []byte(c.doc))
			if !r.failed {
				t.Errorf("%s takes %s", c.schema, c.doc)
			}
		})
	}
}

// A recorder is a test that only notes that it failed.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()      {}
func (r *recorder) Error(...any) { r.failed = true }
