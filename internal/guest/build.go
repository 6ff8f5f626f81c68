package guest

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// Build compiles a command of this module for guests, static and stripped, and
// returns the file. pkg is relative to the module: "./cmd/zcprobe".
func Build(t testing.TB, pkg string) string {
	t.Helper()
	return BuildFor(t, amd64, pkg)
}

// BuildFor is Build for an architecture.
func BuildFor(t testing.TB, arch, pkg string) string {
	t.Helper()
	return goTool(t, arch, path.Base(pkg), pkg, "build", "-trimpath", "-ldflags=-s -w")
}

// BuildTests compiles the tests of a package for guests and returns the file. With
// [CoverDir] they count which statements they reach, if they are told where to write it.
func BuildTests(t testing.TB, pkg string) string {
	t.Helper()
	args := []string{"test", "-c"}
	if CoverDir() != "" {
		args = append(args, "-cover")
	}
	return goTool(t, amd64, path.Base(pkg)+".test", pkg, args...)
}

// CoverDir is the directory where ZCPROBE_COVER wants the coverage profiles of guests,
// or "".
func CoverDir() string { return os.Getenv("ZCPROBE_COVER") }

func goTool(t testing.TB, arch, name, pkg string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, "go"), append(args, "-o", out, pkg)...)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	return out
}

// moduleRoot is the directory with go.mod, at or above the one tests run in.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
	}
}
