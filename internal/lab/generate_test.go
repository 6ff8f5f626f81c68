package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/bpfobject"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestGenerated builds what `go generate` built, and compares.
func TestGenerated(t *testing.T) {
	clang := testenv.Tool(t, "clang-14")
	testenv.Tool(t, "llvm-strip-14")
	if out, err := command(clang, "--version").Output(); err != nil || !bytes.Contains(out, []byte(" 14.0.6")) {
		t.Skipf("needs clang 14.0.6: %s, %v", bytes.TrimSpace(out), err)
	}
	directive := "//go:generate "
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(source), directive)
	if !ok {
		t.Fatal("generate.go has no directive")
	}
	args := split(strings.TrimSpace(line))
	dir := t.TempDir()
	args = append(args[1:3:3], append([]string{"-output-dir", dir, "-go-package", "lab"}, args[3:]...)...)
	if out, err := command(testenv.Tool(t, "go"), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"sink_bpfel.go", "sink_bpfel.o.gz"} {
		if !bytes.Equal(generated(t, name), generated(t, filepath.Join(dir, name))) {
			t.Errorf("%s is not what its source makes: run go generate ./internal/lab", name)
		}
	}
}

// generated returns what a file holds. Versions of Go may compress differently.
func generated(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil && strings.HasSuffix(name, ".gz") {
		b, err = bpfobject.Unpack(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// split splits a command line at spaces outside double quotes.
func split(line string) []string {
	quoted := false
	fields := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i := range fields {
		fields[i] = strings.Trim(fields[i], `"`)
	}
	return fields
}
