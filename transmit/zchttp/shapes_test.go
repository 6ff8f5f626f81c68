package zchttp_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
	"github.com/zcprobe/zcprobe/transmit/zchttp"
)

// A site is a directory to serve, with files of all sizes that matter.
type site struct {
	dir   string
	root  *os.Root
	files map[string][]byte
}

var siteSizes = []int{0, 1, 511, 512, 513, 1 << 10, 3 << 10, 3<<10 + 1, 16 << 10, 256 << 10, 3<<20 + 5}

// newSite makes one. "f262144" has 262144 bytes that look like nothing, and so has
// "f262144.txt".
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), files: map[string][]byte{}}
	r := rand.NewChaCha8([32]byte{7})
	modified := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	add := func(name string, p []byte) {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, p, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
		s.files["/"+name] = p
	}
	for _, n := range siteSizes {
		p := make([]byte, n)
		_, _ = r.Read(p)
		add("f"+strconv.Itoa(n), p)
		add("f"+strconv.Itoa(n)+".txt", p)
	}
	add("index/index.html", bytes.Repeat([]byte("<p>"), 4000))
	if err := os.Mkdir(filepath.Join(s.dir, "list"), 0o755); err != nil {
		t.Fatal(err)
	}
	add("list/a&b", []byte("x"))
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	s.root = root
	t.Cleanup(func() { _ = root.Close() })
	return s
}

func (s *site) open(r *http.Request) *os.File {
	f, err := os.Open(filepath.Join(s.dir, filepath.FromSlash(r.URL.Path)))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return f
}

// A shape is a way to serve a file, as programs do.
type shape struct {
	name string
	// plain is the handler for both servers, ours takes its place in ours. Both get
	// paths of the site.
	plain func(*site) http.Handler
	ours  func(*site) http.Handler
	// way moves a body of a file of more than 512 bytes with our server: the copies of
	// the connection that are reported. "" is none: net/http copies.
	way transmit.Backend
	// stdlib says that net/http of its own uses sendfile.
	stdlib bool
	// files says that it serves as http.FileServer does: ranges, conditions, indexes.
	files bool
}

// handler makes a handler that opens the file itself.
func handler(serve func(w http.ResponseWriter, r *http.Request, f *os.File)) func(*site) http.Handler {
	return func(s *site) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f := s.open(r)
			defer f.Close()
			serve(w, r, f)
		})
	}
}

func setLength(w http.ResponseWriter, f *os.File) int64 {
	fi, err := f.Stat()
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(fi.Size(), 10))
	w.Header().Set("Content-Type", "application/x-shape")
	return fi.Size()
}

// recorded is middleware that wraps the writer as most of the world does.
func recorded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&unwrappable{w}, r) })
}

type unwrappable struct{ http.ResponseWriter }

func (w *unwrappable) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func recorders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := zchttp.NewRecorder(zchttp.NewRecorder(w))
		h.ServeHTTP(rec, r)
		if rec.Status() == 0 && rec.Bytes() > 0 {
			log.Print("a body without a status")
		}
	})
}

func fileServer(fsys fs.FS) http.Handler { return zchttp.FileServer(fsys, zchttp.Options{}) }

// copied copies the file without saying how long it is.
var copied = handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
	w.Header().Set("Content-Type", "application/x-shape")
	_, _ = io.Copy(w, f)
})

var shapes = []shape{
	{name: "ServeFile", plain: func(s *site) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, filepath.Join(s.dir, filepath.FromSlash(r.URL.Path)))
		})
	}, way: transmit.Sendfile, stdlib: true, files: true},
	{name: "ServeContent", plain: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		fi, _ := f.Stat()
		http.ServeContent(w, r, f.Name(), fi.ModTime(), f)
	}), way: transmit.Sendfile, stdlib: true},
	{name: "FileServer", plain: func(s *site) http.Handler { return http.FileServer(http.Dir(s.dir)) }, way: transmit.Sendfile, stdlib: true, files: true},
	{name: "FileServerFS", plain: func(s *site) http.Handler { return http.FileServerFS(os.DirFS(s.dir)) }, way: transmit.Sendfile, files: true},
	{name: "ServeFileFS", plain: func(s *site) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, os.DirFS(s.dir), r.URL.Path[1:])
		})
	}, way: transmit.Sendfile, files: true},
	{name: "os.Root", plain: func(s *site) http.Handler { return http.FileServer(http.FS(s.root.FS())) }, way: transmit.Sendfile, files: true},
	{name: "zchttp.FileServer", plain: func(s *site) http.Handler { return http.FileServerFS(os.DirFS(s.dir)) },
		ours: func(s *site) http.Handler { return fileServer(os.DirFS(s.dir)) }, way: transmit.Sendfile, files: true},
	{name: "zchttp.FileServer of a root", plain: func(s *site) http.Handler { return http.FileServerFS(s.root.FS()) },
		ours: func(s *site) http.Handler { return fileServer(s.root.FS()) }, way: transmit.Sendfile, files: true},
	{name: "copy with a length", plain: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		setLength(w, f)
		_, _ = io.Copy(w, f)
	}), way: transmit.Sendfile, stdlib: true},
	{name: "copy of a nested limit", plain: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		n := setLength(w, f)
		_, _ = io.Copy(w, io.LimitReader(io.LimitReader(f, n), n+9))
	}), way: transmit.Sendfile},
	{name: "copy of a section", plain: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		n := setLength(w, f)
		_, _ = io.Copy(w, io.NewSectionReader(f, 0, n))
	}), way: transmit.Sendfile},
	{name: "copy in chunks", plain: copied},
	{name: "zchttp.Copy", plain: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		if setLength(w, f) == 0 {
			w.Header().Del("Content-Length") // files of 0 bytes may be longer, in procfs
		}
		_, _ = io.Copy(w, f)
	}), ours: handler(func(w http.ResponseWriter, r *http.Request, f *os.File) {
		w.Header().Set("Content-Type", "application/x-shape")
		_, _ = zchttp.Copy(w, f)
	}), way: transmit.Sendfile},
	{name: "a wrapper", plain: func(s *site) http.Handler { return recorded(http.FileServer(http.Dir(s.dir))) }, files: true},
	{name: "a wrapper by the rule", plain: func(s *site) http.Handler { return recorded(http.FileServer(http.Dir(s.dir))) },
		ours: func(s *site) http.Handler { return recorders(http.FileServer(http.Dir(s.dir))) }, way: transmit.Sendfile, files: true},
	{name: "zchttp.FileServer in a wrapper by the rule", plain: func(s *site) http.Handler { return recorded(http.FileServerFS(os.DirFS(s.dir))) },
		ours: func(s *site) http.Handler { return recorders(fileServer(os.DirFS(s.dir))) }, way: transmit.Sendfile, files: true},
	{name: "a vouched wrapper", plain: func(s *site) http.Handler { return recorded(http.FileServer(http.Dir(s.dir))) },
		ours: func(s *site) http.Handler {
			files := http.FileServer(http.Dir(s.dir))
			return recorded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				files.ServeHTTP(zchttp.Wrap(w, func(w http.ResponseWriter) bool { _, ok := w.(*unwrappable); return ok }), r)
			}))
		}, way: transmit.Sendfile, files: true},
	{name: "TimeoutHandler", plain: func(s *site) http.Handler {
		return http.TimeoutHandler(http.FileServer(http.Dir(s.dir)), time.Minute, "late")
	}, files: true},
	{name: "memory", plain: memory(func(w http.ResponseWriter, r *http.Request, name string, p []byte, b *transmit.Body) {
		http.ServeContent(w, r, name, time.Unix(1e9, 0), bytes.NewReader(p))
	}), ours: memory(func(w http.ResponseWriter, r *http.Request, name string, p []byte, b *transmit.Body) {
		zchttp.ServeBody(w, r, name, time.Unix(1e9, 0), b)
	}), way: transmit.Write},
}

// memory makes a handler of what the site holds.
func memory(serve func(w http.ResponseWriter, r *http.Request, name string, p []byte, b *transmit.Body)) func(*site) http.Handler {
	return func(s *site) http.Handler {
		bodies := map[string]*transmit.Body{}
		for name, p := range s.files {
			bodies[name] = transmit.NewBody(p)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, ok := bodies[r.URL.Path]
			if !ok {
				http.NotFound(w, r)
				return
			}
			serve(w, r, r.URL.Path, s.files[r.URL.Path], b)
		})
	}
}

// serve serves h on loopback until the test ends, and returns the address.
func serve(t testing.TB, h http.Handler, wrap func(net.Listener) net.Listener, set ...func(*http.Server)) (addr string, srv *http.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	srv = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ConnContext: zchttp.ConnContext}
	for _, f := range set {
		f(srv)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
		<-done
	})
	return addr, srv
}

// serveOurs serves h by our listener.
func serveOurs(t testing.TB, h http.Handler, o transmit.ConnOptions, set ...func(*http.Server)) string {
	addr, _ := serve(t, h, func(l net.Listener) net.Listener { return transmit.WrapListener(l, o) }, set...)
	return addr
}
