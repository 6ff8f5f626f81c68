package ebpf

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

func TestGoVersion(t *testing.T) {
	if got := goVersion("/proc/self/exe"); got != runtime.Version() {
		t.Errorf("%q, want %q", got, runtime.Version())
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("\x7fELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{testenv.Tool(t, "sh"), text, "/no/such/file", "/"} {
		if got := goVersion(file); got != "" {
			t.Errorf("%s: %q", file, got)
		}
	}
}
