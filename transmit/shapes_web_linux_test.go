package transmit_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A web is what handlers of a library use.
type web struct {
	context    func(context.Context, net.Conn) context.Context
	writer     func(http.ResponseWriter) http.ResponseWriter
	counter    func(http.ResponseWriter) http.ResponseWriter // that knows status and length
	copy       func(http.ResponseWriter, io.Reader) (int64, error)
	fileServer func(fs.FS) http.Handler
	content    func(w http.ResponseWriter, r *http.Request, name string, at time.Time, c io.ReadSeeker)
}

// plainWeb is net/http by itself.
var plainWeb = web{
	context:    func(ctx context.Context, _ net.Conn) context.Context { return ctx },
	writer:     func(w http.ResponseWriter) http.ResponseWriter { return w },
	counter:    func(w http.ResponseWriter) http.ResponseWriter { return hiding{w} },
	copy:       func(w http.ResponseWriter, r io.Reader) (int64, error) { return io.Copy(w, r) },
	fileServer: http.FileServerFS,
	content:    http.ServeContent,
}

// Middleware's writers: as a program has them, with the Unwrap of
// http.ResponseController, and with what lets a body go round them.
type (
	hiding   struct{ http.ResponseWriter }
	unwraps  struct{ http.ResponseWriter }
	passesOn struct{ unwraps }
)

func (w unwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (passesOn) PassThrough() bool            { return true }

// vouching is zchttp.Wrap with a function that says which wrappers may be gone round.
const vouching = "zchttp.Wrap, vouched for"

const (
	whyHiding  = "a wrapper without Unwrap may look at the bytes, and nobody can go round it (see zchttp on wrappers)"
	whyUnwrap  = "Unwrap does not say that the body may go round: it may be hashed or compressed there. PassThrough does, or who calls Wrap may vouch for it (see zchttp)"
	whyTimeout = "the whole body is kept in memory until the handler returns"
	whyHTTPS   = "crypto/tls encrypts in memory"
	whyHTTP2   = "HTTP/2 cuts bodies in frames of its own, and crypto/tls encrypts them in memory"
	whyChunked = "net/http cuts a body without Content-Length in chunks, from memory (zchttp.Copy sets the length where it is known)"
	whyRanges  = "net/http makes a body of several ranges in memory, through a pipe of its own (zchttp.ServeContent does not)"
	whyFS      = "the file of an fs.FS is hidden from package net"
)

// A visit is a request, and how it is answered.
type visit struct {
	ranges  string
	handler func(s *stage, f *os.File) http.Handler
	secure  bool
	http2   bool
}

// serveFile is http.ServeFile through a middleware's writer.
func serveFile(through func(http.ResponseWriter) http.ResponseWriter) func(s *stage, f *os.File) http.Handler {
	return func(s *stage, f *os.File) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(s.writer(through(w)), r, f.Name())
		})
	}
}

func direct(w http.ResponseWriter) http.ResponseWriter { return w }

// copied is io.Copy, with a Content-Length or without.
func copied(length bool) func(s *stage, f *os.File) http.Handler {
	return func(s *stage, f *os.File) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			if length {
				w.Header().Set("Content-Length", strconv.Itoa(shapeBytes))
			}
			if _, err := s.web.copy(w, f); err != nil {
				s.t.Error(err)
			}
		})
	}
}

// served is a file server for the directory of the file.
func served(server func(s *stage, dir string) http.Handler) func(s *stage, f *os.File) http.Handler {
	return func(s *stage, f *os.File) http.Handler { return server(s, filepath.Dir(f.Name())) }
}

// webShapes are those of net/http.
var webShapes = []shape{
	{name: "http.ServeFile", with: "WrapListener", make: visit{handler: serveFile(direct)}.make},
	{name: "http.ServeFile, one range", with: "WrapListener", make: visit{handler: serveFile(direct), ranges: "bytes=1000-900000"}.make},
	{name: "http: io.Copy, with Content-Length", with: "WrapListener", make: visit{handler: copied(true)}.make},
	{name: "http: io.Copy, chunked", with: "zchttp.Copy", why: whyChunked, make: visit{handler: copied(false)}.make},
	{name: "http.ServeContent, two ranges", with: "zchttp.ServeContent", why: whyRanges, make: visit{ranges: "bytes=0-299999,500000-899999",
		handler: func(s *stage, f *os.File) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.web.content(w, r, "source", time.Time{}, f) })
		}}.make},
	{name: "http.ServeFile through a wrapper", with: "zchttp.Wrap", why: whyHiding, make: visit{
		handler: serveFile(func(w http.ResponseWriter) http.ResponseWriter { return hiding{w} })}.make},
	{name: "http.ServeFile through a wrapper with Unwrap", with: "zchttp.Wrap", why: whyUnwrap, make: visit{
		handler: serveFile(func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} })}.make},
	{name: "http.ServeFile through a wrapper with Unwrap", with: vouching, make: visit{
		handler: serveFile(func(w http.ResponseWriter) http.ResponseWriter { return unwraps{w} })}.make},
	{name: "http.ServeFile through a wrapper that counts", with: "zchttp.Recorder", make: visit{
		handler: func(s *stage, f *os.File) http.Handler { return serveFile(s.counter)(s, f) }}.make},
	{name: "http.ServeFile through a wrapper with PassThrough", with: "zchttp.Wrap", make: visit{
		handler: serveFile(func(w http.ResponseWriter) http.ResponseWriter { return passesOn{unwraps{w}} })}.make},
	{name: "http.TimeoutHandler(ServeFile)", with: "WrapListener", why: whyTimeout, make: visit{
		handler: func(s *stage, f *os.File) http.Handler {
			return http.TimeoutHandler(serveFile(direct)(s, f), time.Minute, "late")
		}}.make},
	{name: "http.ServeFileFS(os.DirFS)", with: "WrapListener", why: whyFS, make: visit{
		handler: served(func(s *stage, dir string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, os.DirFS(dir), "source") })
		})}.make},
	{name: "http.FileServerFS(os.DirFS)", with: "zchttp.FileServer", why: whyFS, make: visit{
		handler: served(func(s *stage, dir string) http.Handler { return s.web.fileServer(os.DirFS(dir)) })}.make},
	{name: "http.FileServer(http.FS(os.DirFS))", with: "WrapListener", why: whyFS, make: visit{
		handler: served(func(s *stage, dir string) http.Handler { return http.FileServer(http.FS(os.DirFS(dir))) })}.make},
	{name: "https, HTTP/1.1: http.ServeFile", with: "WrapListener", why: whyHTTPS, make: visit{handler: serveFile(direct), secure: true}.make},
	{name: "https, HTTP/2: http.ServeFile", with: "WrapListener", why: whyHTTP2, make: visit{handler: serveFile(direct), secure: true, http2: true}.make},
}

// A watchedListener has the calls on its connections in the table.
type watchedListener struct {
	net.Listener
	s  *stage
	mu sync.Mutex
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.target = l.s.watch(c.(syscall.Conn))
	return c, nil
}

// make starts a server and returns the request.
func (v visit) make(s *stage) func() {
	f := s.file()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	s.must(err)
	server := &http.Server{Handler: v.handler(s, f), ConnContext: s.web.context}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(!v.http2)
	server.Protocols.SetHTTP2(v.http2)
	client := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: v.http2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	scheme := "http"
	var all sync.WaitGroup
	serve := server.Serve
	if v.secure {
		scheme = "https"
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate(s.t)}, DynamicRecordSizingDisabled: true}
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	all.Go(func() { _ = serve(s.listen(&watchedListener{Listener: l, s: s})) })
	s.t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = server.Close()
		all.Wait()
	})
	s.want = v.wanted(s.content)
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, fmt.Sprintf("%s://%s/source", scheme, l.Addr()), nil)
	s.must(err)
	if v.ranges != "" {
		request.Header.Set("Range", v.ranges)
	}
	var got []byte
	s.got = func() []byte { return got }
	return func() {
		if got, err = v.fetch(client, request); err != nil {
			s.t.Error(err)
		}
	}
}

// wanted is what the ranges have of the content, one after another.
func (v visit) wanted(content []byte) []byte {
	if v.ranges == "" {
		return content
	}
	var want []byte
	for r := range strings.SplitSeq(strings.TrimPrefix(v.ranges, "bytes="), ",") {
		var first, last int
		_, _ = fmt.Sscanf(r, "%d-%d", &first, &last)
		want = append(want, content[first:last+1]...)
	}
	return want
}

// fetch returns the body, or what its parts have.
func (v visit) fetch(client *http.Transport, request *http.Request) ([]byte, error) {
	response, err := client.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if v.http2 != (response.ProtoMajor == 2) {
		return nil, fmt.Errorf("answered by %s", response.Proto)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %v", response.Status, err)
	}
	kind, parameters, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		return body, nil
	}
	var all []byte
	for parts := multipart.NewReader(bytes.NewReader(body), parameters["boundary"]); ; {
		p, err := parts.NextPart()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		part, err := io.ReadAll(p)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
}
