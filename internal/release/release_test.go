package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// What is listed of a binary is what go version -m says of it, and twice the same.
func TestBillOfMaterials(t *testing.T) {
	tool := testenv.Tool(t, "go")
	binary := filepath.Join(t.TempDir(), "zcprobe")
	build := exec.Command(tool, "build", "-o", binary, "../../cmd/zcprobe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said, err := exec.Command(tool, "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	var first bytes.Buffer
	if err := run(t.Context(), []string{"sbom", binary}, &first); err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(first.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.Metadata.Component.Name != "github.com/zcprobe/zcprobe" || d.Metadata.Component.Version == "" {
		t.Errorf("%+v", d.Metadata)
	}
	deps := 0
	for l := range strings.Lines(string(said)) {
		f := strings.Fields(l)
		if len(f) != 4 || f[0] != "dep" {
			continue
		}
		deps++
		i := slices.IndexFunc(d.Components, func(c component) bool { return c.Name == f[1] })
		if i < 0 || d.Components[i].Version != f[2] || d.Components[i].Properties[0].Value != f[3] {
			t.Errorf("%s is not listed as it is", f[1])
		}
	}
	if deps == 0 || len(d.Components) != deps+1 || len(d.Dependencies[0].DependsOn) != deps+1 {
		t.Errorf("%d modules, %d listed", deps, len(d.Components))
	}
	var again, texts bytes.Buffer
	if err := run(t.Context(), []string{"sbom", binary}, &again); err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Errorf("twice: %v", err)
	}
	if err := run(t.Context(), []string{"licences", binary}, &texts); err != nil {
		t.Fatal(err)
	}
	for _, c := range d.Components {
		name := strings.Replace(c.Name, "std", "Go's standard library", 1)
		if !strings.Contains(texts.String(), "==== "+name+" ") {
			t.Errorf("no licence of %s", c.Name)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"sbom"}, {"sbom", "main.go"}, {"licences", "absent"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}
