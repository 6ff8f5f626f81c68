package ebpf

import (
	"bytes"
	"encoding/binary"
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

// tinyProgram is an ELF file whose only content is build information, with names of
// sections of the given length.
func tinyProgram(names uint64) []byte {
	const head, section, at = 64, 64, 64
	info := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	info = append(info, append([]byte{8}, "go1.26.1"...)...)
	text := []byte("\x00.go.buildinfo\x00.shstrtab\x00")
	headers := at + len(info) + len(text)
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)                     // executable
	b = le.AppendUint16(b, 62)                    // x86-64
	b = le.AppendUint32(b, 1)                     // version
	b = le.AppendUint64(le.AppendUint64(b, 0), 0) // entry, program headers
	b = le.AppendUint64(b, uint64(headers))       // section headers
	b = le.AppendUint32(b, 0)                     // flags
	for _, n := range []uint16{head, 56, 0, section, 3, 2} {
		b = le.AppendUint16(b, n)
	}
	b = append(append(b, info...), text...)
	add := func(name, kind uint32, offset, size uint64) {
		b = le.AppendUint32(le.AppendUint32(b, name), kind)
		for _, n := range []uint64{0, 0, offset, size, 0, 1, 0} {
			b = le.AppendUint64(b, n)
		}
	}
	add(0, 0, 0, 0)
	add(1, 1, at, uint64(len(info)))
	add(15, 3, at+uint64(len(info)), max(names, uint64(len(text))))
	return b
}

// A program can have headers that make its reader take all memory.
func TestGoVersionOfHugeProgram(t *testing.T) {
	if got := goVersionOf(bytes.NewReader(tinyProgram(0))); got != "go1.26.1" {
		t.Fatalf("%q: the program is none", got)
	}
	file := filepath.Join(t.TempDir(), "program")
	const huge = 1 << 40
	if err := os.WriteFile(file, tinyProgram(huge), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, huge); err != nil {
		t.Skipf("needs a file system with files of 1 TiB: %v", err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := goVersion(file); got != "" {
		t.Errorf("%q", got)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("took %d bytes of memory", took)
	}
}

func FuzzGoVersion(f *testing.F) {
	f.Add(tinyProgram(0))
	f.Add(tinyProgram(1 << 40))
	f.Add(tinyProgram(0)[:100])
	f.Fuzz(func(t *testing.T, program []byte) {
		if v := goVersionOf(&bounded{bytes.NewReader(program), mostOfBinary}); len(v) > 64 {
			t.Errorf("a version of %d bytes", len(v))
		}
	})
}
