package bpfobject

import (
	"bytes"
	"compress/gzip"
	"testing"
)

// What is no compressed object is an error, wherever it ends.
func TestLoadRefuses(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte("no ELF file, and long enough to be cut off")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for n := range len(whole) {
		if _, err := Unpack(whole[:n]); err == nil {
			t.Fatalf("unpacked %d of %d bytes", n, len(whole))
		}
	}
	if _, err := Load(whole); err == nil {
		t.Error("loaded what is no ELF file")
	}
}
