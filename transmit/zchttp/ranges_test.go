package zchttp

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzRanges holds what is sent for a Range header of a stranger against what
// net/http sends.
func FuzzRanges(f *testing.F) {
	for _, header := range []string{
		"bytes=0-1,2-3", "bytes=-0", "bytes=-5,0-0", "bytes=5-,9999-", "bytes= 1 - 2 ,, 3-4", "bytes=3-1,0-1", "bytes=-",
		"bytes=0-9223372036854775807,1-1", "bytes=0-0,-1", "bits=0-1", "bytes=0-1,x-2", "bytes=100-,0-99999999999999999999",
	} {
		f.Add(header, uint16(3000))
	}
	f.Fuzz(func(t *testing.T, header string, size uint16) {
		content := bytes.Repeat([]byte("0123456789abcde\n"), int(size)/16+1)[:size]
		serve := func(how func(http.ResponseWriter, *http.Request, string, time.Time, *bytes.Reader)) (int, string, string) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Range"] = []string{header}
			w := httptest.NewRecorder()
			how(w, r, "a.txt", time.Time{}, bytes.NewReader(content))
			boundary := boundaryOf(w.Header().Get("Content-Type"))
			if boundary == "" {
				return w.Code, w.Header().Get("Content-Range"), w.Body.String()
			}
			return w.Code, w.Header().Get("Content-Length"), strings.ReplaceAll(w.Body.String(), boundary, "BOUNDARY")
		}
		code, length, body := serve(func(w http.ResponseWriter, r *http.Request, name string, at time.Time, c *bytes.Reader) {
			ServeContent(w, r, name, at, c)
		})
		wantCode, wantLength, wantBody := serve(func(w http.ResponseWriter, r *http.Request, name string, at time.Time, c *bytes.Reader) {
			http.ServeContent(w, r, name, at, c)
		})
		if code != wantCode || length != wantLength || body != wantBody {
			t.Errorf("%q of %d bytes: %d %s, %d bytes; net/http: %d %s, %d bytes", header, size, code, length, len(body), wantCode, wantLength, len(wantBody))
		}
	})
}
