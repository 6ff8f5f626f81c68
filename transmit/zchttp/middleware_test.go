package zchttp_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// wrapping makes middleware of a wrapper.
func wrapping(wrap func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(wrap(w), r) })
	}
}

// passing declares that it does not look at bodies.
type passing struct {
	unwrappable
	began int
}

func (p *passing) PassThrough() bool { return true }

func (p *passing) Write(b []byte) (int, error) {
	if p.began++; p.began == 1 {
		p.Header().Set("X-Began", "yes")
	}
	return p.ResponseWriter.Write(b)
}

// hashing must see all of a body.
type hashing struct {
	unwrappable
	sum hash.Hash
}

func (h *hashing) Write(b []byte) (int, error) {
	h.sum.Write(b)
	return h.ResponseWriter.Write(b)
}

// denying has PassThrough, and says no.
type denying struct{ hashing }

func (d *denying) PassThrough() bool { return false }

// forwarding has a ReadFrom as the rule says.
type forwarding struct{ unwrappable }

func (f *forwarding) ReadFrom(r io.Reader) (int64, error) { return zchttp.Copy(f.ResponseWriter, r) }

// selfish never gets to its end.
type selfish struct{ passing }

func (s *selfish) Unwrap() http.ResponseWriter { return s }

// losing drops a byte.
type losing struct{ unwrappable }

func (l *losing) Write(b []byte) (int, error) {
	n := len(b)
	_, err := l.ResponseWriter.Write(bytes.Replace(b, []byte{7}, []byte{8}, 1))
	return n, err
}

func TestCheckMiddleware(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(http.ResponseWriter) http.ResponseWriter
		want string
	}{
		{"none", func(w http.ResponseWriter) http.ResponseWriter { return w }, ""},
		{"recorder", func(w http.ResponseWriter) http.ResponseWriter { return zchttp.NewRecorder(w) }, ""},
		{"embedded recorder", func(w http.ResponseWriter) http.ResponseWriter {
			return &struct{ *zchttp.Recorder }{zchttp.NewRecorder(w)}
		}, ""},
		{"forwarding", func(w http.ResponseWriter) http.ResponseWriter { return &forwarding{unwrappable{w}} }, ""},
		{"passing", func(w http.ResponseWriter) http.ResponseWriter { return &passing{unwrappable: unwrappable{w}} }, "shows it to zchttp.Wrap alone"},
		{"recorder of passing", func(w http.ResponseWriter) http.ResponseWriter {
			return zchttp.NewRecorder(&passing{unwrappable: unwrappable{w}})
		}, ""},
		{"unwrap", func(w http.ResponseWriter) http.ResponseWriter { return &unwrappable{w} }, "does not declare PassThrough"},
		{"struct", func(w http.ResponseWriter) http.ResponseWriter { return struct{ http.ResponseWriter }{w} }, "neither ReadFrom nor Unwrap"},
		{"hash", func(w http.ResponseWriter) http.ResponseWriter { return &hashing{unwrappable{w}, sha256.New()} }, "written by the process"},
		{"endless", func(w http.ResponseWriter) http.ResponseWriter {
			return &selfish{passing{unwrappable: unwrappable{w}}}
		}, "too many wrappers"},
		{"wrong", func(w http.ResponseWriter) http.ResponseWriter { return &losing{unwrappable{w}} }, "are not the"},
	} {
		err := zchttp.CheckMiddleware(wrapping(c.wrap))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if errors.Is(err, zchttp.ErrNeedsWrap) != (c.name == "passing") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := zchttp.CheckMiddleware(func(http.Handler) http.Handler { return http.NotFoundHandler() }); err == nil {
		t.Error("a middleware that serves nothing is a good one")
	}
	if err := zchttp.CheckMiddleware(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}); err == nil {
		t.Error("a middleware that panics is a good one")
	}
}

// TestNothingIsBypassed has wrappers that look at the body see all of it.
func TestNothingIsBypassed(t *testing.T) {
	s := newSite(t)
	const path = "/f262144"
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, src io.ReadSeeker){
		"Copy": func(w http.ResponseWriter, r *http.Request, src io.ReadSeeker) { _, _ = zchttp.Copy(w, src) },
		"io.Copy to Wrap": func(w http.ResponseWriter, r *http.Request, src io.ReadSeeker) {
			_, _ = io.Copy(zchttp.Wrap(w, func(w http.ResponseWriter) bool { _, wrong := w.(*denying); return wrong }), src)
		},
		"recorder": func(w http.ResponseWriter, r *http.Request, src io.ReadSeeker) {
			_, _ = io.Copy(zchttp.NewRecorder(w), src)
		},
	} {
		for _, wrap := range []func(http.ResponseWriter, hash.Hash) http.ResponseWriter{
			func(w http.ResponseWriter, h hash.Hash) http.ResponseWriter { return &hashing{unwrappable{w}, h} },
			func(w http.ResponseWriter, h hash.Hash) http.ResponseWriter {
				return &denying{hashing{unwrappable{w}, h}}
			},
			func(w http.ResponseWriter, h hash.Hash) http.ResponseWriter {
				return &passing{unwrappable: unwrappable{&hashing{unwrappable{w}, h}}}
			},
		} {
			sum := sha256.New()
			addr := serveOurs(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f := s.open(r)
				defer f.Close()
				serve(wrap(w, sum), r, f)
			}), transmit.ConnOptions{})
			resp, err := http.Get("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !bytes.Equal(body, s.files[path]) {
				t.Errorf("%s: %d bytes, %v", name, len(body), err)
			}
			if want := sha256.Sum256(body); !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%s: a wrapper did not see all of the body", name)
			}
			if resp.ContentLength >= 0 {
				t.Errorf("%s: the length of what a wrapper may change was announced", name)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestPassedWrappersSeeTheBegin has a wrapper that is gone round set a header at the
// first write.
func TestPassedWrappersSeeTheBegin(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/f511", "/f512", "/f513", "/f262144"} {
		var copies reports
		w := &passing{}
		addr := serveOurs(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			f := s.open(r)
			defer f.Close()
			w.ResponseWriter = rw
			if n, err := zchttp.Copy(w, f); n != int64(len(s.files[path])) || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}), transmit.ConnOptions{OnCopy: copies.add})
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(body, s.files[path]) || resp.ContentLength != int64(len(body)) {
			t.Errorf("%s: %d bytes of %d, %v", path, len(body), resp.ContentLength, err)
		}
		if resp.Header.Get("X-Began") != "yes" || w.began != 1 {
			t.Errorf("%s: the wrapper saw %d writes, %v", path, w.began, resp.Header)
		}
		if len(body) > 600 {
			copies.check(t, transmit.Sendfile, false)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestRecorder(t *testing.T) {
	plain := httptest.NewRecorder()
	r := zchttp.NewRecorder(plain)
	if r.Status() != 0 {
		t.Error("a status before there is one")
	}
	r.WriteHeader(http.StatusTeapot)
	r.WriteHeader(http.StatusOK)
	_, _ = r.Write([]byte("12"))
	_, _ = r.WriteString("345")
	_, _ = io.Copy(r, io.LimitReader(strings.NewReader("6789"), 3))
	if r.Status() != http.StatusTeapot || r.Bytes() != 8 || plain.Body.String() != "12345678" {
		t.Errorf("%d, %d, %q", r.Status(), r.Bytes(), plain.Body)
	}
	hints := zchttp.NewRecorder(httptest.NewRecorder())
	hints.WriteHeader(http.StatusEarlyHints)
	if hints.Status() != 0 {
		t.Errorf("a status of %d after a hint", hints.Status())
	}
	r.Flush()
	if !plain.Flushed {
		t.Error("it does not flush")
	}
	if _, _, err := r.Hijack(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("hijacked nothing: %v", err)
	}
	if err := r.Push("/", nil); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("pushed: %v", err)
	}
	if err := zchttp.NewRecorder(struct{ http.ResponseWriter }{plain}).FlushError(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("flushed what cannot be: %v", err)
	}
}
