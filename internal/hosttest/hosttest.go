// Package hosttest gives tests the recorded hosts of testdata/hosts and checks
// JSON against the published schemas of testdata/schema. Tests only.
package hosttest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/zcprobe/zcprobe/probe"
)

// Names returns the recorded hosts, sorted.
func Names(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(Testdata(t, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatal("there are no recorded hosts")
	}
	return names
}

// Dir returns the directory of a recorded host, as --from-record takes it.
func Dir(t testing.TB, name string) string {
	t.Helper()
	return Testdata(t, "hosts", name)
}

// Load returns the facts of a recorded host. They are the caller's.
func Load(t testing.TB, name string) *probe.Facts {
	t.Helper()
	f, err := probe.ReadRecord(Dir(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Validate fails the test if doc is not valid under a schema of testdata/schema
// ("probe.v1").
func Validate(t testing.TB, schema string, doc []byte) {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(Testdata(t, "schema", schema+".json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	if err := s.Validate(v); err != nil {
		t.Error(err)
	}
}

// Testdata returns a path below the module's testdata directory.
func Testdata(t testing.TB, parts ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(append([]string{dir, "testdata"}, parts...)...)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skip("needs the module's source tree")
		}
		dir = up
	}
}
