package hosttest_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/probe"
)

// The schemas of what package probe makes; those of the commands are compared
// where the commands are.
func TestSchemasAgreeWithTypes(t *testing.T) {
	hosttest.Agree(t, "probe.v1", reflect.TypeFor[probe.Report]())
	hosttest.Agree(t, "path.v1", reflect.TypeFor[probe.PathReport]())
	hosttest.Agree(t, "record.v1", reflect.TypeFor[probe.RecordMeta]())
}

// The schemas must take what we print and refuse what breaks their promises.
func TestSchemasDecide(t *testing.T) {
	explain, err := json.Marshal(map[string]any{"schema": "zcprobe/explain/v1", "causes": probe.Causes(), "checks": []string{}})
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Validate(t, "explain.v1", explain)
	for name, c := range map[string]struct{ schema, doc string }{
		"other schema":   {"error.v1", `{"schema":"zcprobe/error/v2","error":"x","kind":"y"}`},
		"missing name":   {"error.v1", `{"schema":"zcprobe/error/v1","error":"x"}`},
		"null list":      {"explain.v1", `{"schema":"zcprobe/explain/v1","causes":null,"checks":[]}`},
		"null in a list": {"explain.v1", `{"schema":"zcprobe/explain/v1","causes":[null],"checks":[]}`},
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
