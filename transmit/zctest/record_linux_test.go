package zctest

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// file returns an open file with n bytes of a pattern.
func file(t testing.TB, n int) *os.File {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestRecord(t *testing.T) {
	p := Copied(t)
	f := file(t, 1<<20)
	calls := Record(t, func() {
		if _, err := io.Copy(p.Conn, f); err != nil {
			t.Error(err)
		}
	})
	t.Logf("\n%s", calls)
	on, err := calls.On(p.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if got := on.Names(); !slices.Equal(got, []string{"sendfile"}) {
		t.Errorf("calls %v\n%s", got, on)
	}
}
