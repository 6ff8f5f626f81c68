package zctest

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
)

type hiding struct{ http.ResponseWriter }

func (w hiding) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestAssertFastPath(t *testing.T) {
	f := file(t, 200_000)
	dir, base := filepath.Split(f.Name())
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, want[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(dir))
	for _, c := range []struct {
		name, target string
		listen       func(net.Listener) net.Listener
		handler      http.Handler
		want         string
	}{
		{"files", base, nil, files, ""},
		{"of an fs.FS", base, nil, http.FileServerFS(os.DirFS(dir)), "os.DirFS"},
		{"of an fs.FS, wrapped", base, func(l net.Listener) net.Listener { return transmit.WrapListener(l, transmit.ConnOptions{}) },
			http.FileServerFS(os.DirFS(dir)), ""},
		{"middleware", base, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { files.ServeHTTP(hiding{w}, r) }), "Unwrap is not enough"},
		{"memory", base, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(want) }), "from memory"},
		{"small", "small", nil, files, "which tell nothing"},
		{"missing", "missing", nil, files, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := judged(t, func(v testing.TB) {
				body := AssertFastPath(v, func(l net.Listener) error {
					if c.listen != nil {
						l = c.listen(l)
					}
					return http.Serve(l, c.handler)
				}, "/"+c.target)
				if c.target == base && !bytes.Equal(body, want) {
					t.Errorf("%d bytes of body, other than those of the file", len(body))
				}
			})
			if got.failed != (c.want != "") || !strings.Contains(got.text.String(), c.want) {
				t.Errorf("failed %t, want %q; it said\n%s", got.failed, c.want, &got.text)
			}
		})
	}
}
