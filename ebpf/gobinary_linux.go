package ebpf

import (
	"debug/elf"
	"encoding/binary"
	"strings"
)

// goVersion returns the version of Go that made a program, "" if it is none of
// Go's. It reads the little of the build information that is needed: package
// debug/buildinfo brings the formats of every other system with it.
func goVersion(file string) string {
	f, err := elf.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	s := f.Section(".go.buildinfo")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return ""
	}
	// The layout of Go 1.18 and later: a magic of 14 bytes, the size of a pointer,
	// flags of which bit 1 says that strings follow at offset 32, each behind its
	// length. What is older is Go, of a version that is not told.
	head := make([]byte, 32+64)
	n, _ := s.ReadAt(head, 0) // a short section is told by n
	head = head[:n]
	if n < 32 || !strings.HasPrefix(string(head), "\xff Go buildinf:") {
		return ""
	}
	const inline = 2
	if head[15]&inline == 0 {
		return "go"
	}
	length, used := binary.Uvarint(head[32:])
	if used <= 0 || length > uint64(len(head)-32-used) {
		return "go"
	}
	return string(head[32+used : 32+used+int(length)])
}
