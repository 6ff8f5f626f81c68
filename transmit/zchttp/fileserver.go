package zchttp

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/zcprobe/zcprobe/transmit"
)

// Options say how [FileServer] sends.
type Options struct {
	// File is how files are sent on connections of a transmit.Listener; Header and
	// Trailer are not used. With File.Mappings files are sent from mappings that are
	// kept, from [transmit.MappedThreshold] bytes on and where the path to the peer
	// lets that pay; on loopback and elsewhere by sendfile. A file that was replaced
	// or changed is seen at the next request.
	File transmit.FileOptions
}

// FileServer serves the files of a file system as http.FileServerFS does: the same
// headers, conditions, ranges, indexes and redirects. What differs is how bytes go.
//
// http.FileServerFS hides the files of os.DirFS, os.Root and the like from package
// net, which then copies them; FileServer does not, on any connection. Bodies that go
// with their head in one packet are sent with it, and of several ranges each is sent
// by reference, where net/http copies them through a pipe.
//
// Files are sent by reference: whoever publishes new content replaces a file, by
// rename(2), and does not write into it, or File.Snapshot is set. A file that is made
// shorter while it is sent cuts the connection.
func FileServer(root fs.FS, o Options) http.Handler {
	o.File.Header, o.File.Trailer, o.File.Mapping = nil, nil, transmit.Mapping{}
	files := http.FileServer(&fileSystem{fsys: root, o: o.File})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rw := newResponse(w, r)
		if rw.several == nil {
			files.ServeHTTP(rw, r)
			return
		}
		http.FileServer(&fileSystem{fsys: root, o: o.File, several: rw.several}).ServeHTTP(rw, r)
	})
}

// ServeContent is http.ServeContent, with the differences that [FileServer] has to
// http.FileServerFS. For an *os.File, *transmit.File or *transmit.BodyReader ranges
// are sent by reference.
func ServeContent(w http.ResponseWriter, r *http.Request, name string, modtime time.Time, content io.ReadSeeker) {
	rw := newResponse(w, r)
	if m := rw.several; m != nil {
		m.content, m.name = content, name
	}
	http.ServeContent(rw, r, name, modtime, content)
}

// ServeBody serves a body as http.ServeContent does. To a body that was released it
// answers that the server failed.
func ServeBody(w http.ResponseWriter, r *http.Request, name string, modtime time.Time, b *transmit.Body) {
	content := b.NewReader()
	defer content.Close()
	ServeContent(w, r, name, modtime, content)
}

// fileSystem opens files without hiding what they are.
type fileSystem struct {
	fsys    fs.FS
	o       transmit.FileOptions
	several *several // is told what was opened last: that is what is served
}

// Open opens as http.FS does.
func (s *fileSystem) Open(name string) (http.File, error) {
	below := strings.TrimPrefix(name, "/")
	if name == "/" {
		below = "."
	}
	f, err := s.fsys.Open(below)
	if err != nil {
		// It knows how to tell what is not there from what is not permitted.
		return http.FS(s.fsys).Open(name)
	}
	if of, ok := f.(*os.File); ok {
		f := &transmit.File{File: of, Options: s.o}
		if s.several != nil {
			s.several.content, s.several.name = f, of.Name()
		}
		return f, nil
	}
	return http.FS(opened{f}).Open(name)
}

// opened is a file system of one file, which is open.
type opened struct{ f fs.File }

func (o opened) Open(string) (fs.File, error) { return o.f, nil }

// smallBytes is up to what length a body is read and written: with a head of the
// usual 200 to 500 bytes it fits net/http's buffer of a connection, 4 KiB
// (newBufioWriterSize in net/http/server.go), and leaves in one call.
const smallBytes = 3 << 10

var smallBuffers = sync.Pool{New: func() any { return new([smallBytes]byte) }}

// A response is the writer that serving of files gets. Its ReadFrom is called with
// the body, by http.ServeContent.
type response struct {
	http.ResponseWriter
	several *several // nil if one range is asked for, or none
}

// newResponse makes a writer for the response to r.
func newResponse(w http.ResponseWriter, r *http.Request) *response {
	rw := &response{ResponseWriter: w}
	if h := r.Header.Get("Range"); strings.Contains(h, ",") {
		types, typed := w.Header()["Content-Type"]
		rw.several = &several{header: h, types: types, typed: typed}
	}
	return rw
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom sends the body.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	l, ok := src.(*io.LimitedReader)
	if !ok {
		return copyTo(w.ResponseWriter, src)
	}
	if n, done, err := w.parts(l); done {
		return n, err
	}
	if l.N <= smallBytes {
		return w.small(l)
	}
	return copyTo(w.ResponseWriter, src)
}

// small reads a body and writes it.
func (w *response) small(src *io.LimitedReader) (int64, error) {
	buf := smallBuffers.Get().(*[smallBytes]byte)
	defer smallBuffers.Put(buf)
	n, rerr := io.ReadFull(src, buf[:max(src.N, 0)])
	m, err := w.Write(buf[:n])
	if err == nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
		err = rerr
	}
	return int64(m), err
}
