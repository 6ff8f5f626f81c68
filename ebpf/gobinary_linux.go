package ebpf

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
)

// goVersion returns the version of Go that made a program, "" if it is none of
// Go's. It reads the little of the build information that is needed: package
// debug/buildinfo brings the formats of every other system with it.
func goVersion(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	return goVersionOf(&bounded{f, mostOfBinary})
}

// mostOfBinary is how much of a program is read: its headers and the names of its
// sections. A few kilobytes are usual.
const mostOfBinary = 1 << 20

// bounded reads so many bytes at most. Whoever made a program writes what its headers
// say: names of sections as long as the file, which may be sparse, and larger than
// memory.
type bounded struct {
	r    io.ReaderAt
	left int
}

var errMuch = errors.New("more is to be read than any program needs")

func (b *bounded) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > b.left {
		return 0, errMuch
	}
	b.left -= len(p)
	return b.r.ReadAt(p, off)
}

func goVersionOf(r io.ReaderAt) string {
	f, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
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
