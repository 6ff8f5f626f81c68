package zchttp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/zcprobe/zcprobe/transmit"
)

// sniffBytes is what net/http copies of a body to find its content type (sniffLen in
// net/http/sniff.go), and what wrappers that are gone round see of it.
const sniffBytes = 512

// A passer declares whether the body passes it unchanged and unseen.
type passer interface{ PassThrough() bool }

// An unwrapper is what http.ResponseController knows, too.
type unwrapper interface{ Unwrap() http.ResponseWriter }

// passes reports whether a wrapper declares that the body passes it unchanged.
func passes(w http.ResponseWriter) bool {
	p, ok := w.(passer)
	return ok && p.PassThrough()
}

// mostWrappers bounds how deep wrappers are followed: one that wraps itself would
// never end.
const mostWrappers = 100

// An Obstacle is why a body that is copied to an http.ResponseWriter is copied by
// the process.
type Obstacle struct {
	Where  string // a type of Go, or a part of the protocol
	Reason string // one clause
}

// Error says both.
func (o *Obstacle) Error() string { return o.Where + ": " + o.Reason }

// ReaderFrom returns what to copy a body of w to: the io.ReaderFrom of w, or that of
// what w wraps, if all that is in between declares by PassThrough that it does not
// look at the body. Else the error is an [*Obstacle], and the body must be written to
// w.
//
// Who uses it writes up to 512 bytes to w first, if it returns another than w, so
// that wrappers see the response begin. [Copy] does so.
func ReaderFrom(w http.ResponseWriter) (io.ReaderFrom, error) {
	for range mostWrappers {
		if to, ok := w.(io.ReaderFrom); ok {
			return to, nil
		}
		name := fmt.Sprintf("%T", w)
		u, ok := w.(unwrapper)
		switch {
		case !ok:
			return nil, &Obstacle{name, "it has neither ReadFrom nor Unwrap"}
		case !passes(w):
			return nil, &Obstacle{name, "it wraps a writer without ReadFrom of its own, and does not declare PassThrough"}
		}
		if w = u.Unwrap(); w == nil {
			return nil, &Obstacle{name, "it wraps nothing"}
		}
	}
	return nil, &Obstacle{fmt.Sprintf("%T", w), "there are too many wrappers in one another"}
}

// Copy copies src to w as io.Copy does, by ReadFrom where the rule for wrappers
// allows it (see the package). It sets Content-Length, if the handler set neither it
// nor a Content-Encoding or Transfer-Encoding, and if all wrappers declare that the
// body passes them unchanged, when src is one of these, or in an io.LimitedReader:
// a regular file, an io.SectionReader of one, or something with a method Len, as
// bytes.Reader and transmit.BodyReader. net/http would send it in chunks, and copy.
//
// It is for bodies as a whole: a handler that writes more than src sets the length
// itself, or the response ends with an http.ErrContentLength.
func Copy(w http.ResponseWriter, src io.Reader) (int64, error) {
	setLength(w, src)
	return copyTo(w, src)
}

// copyTo copies by ReadFrom where that is allowed.
func copyTo(w http.ResponseWriter, src io.Reader) (int64, error) {
	to, err := ReaderFrom(w)
	if err != nil {
		return io.Copy(writerOnly{w}, src)
	}
	if _, direct := w.(io.ReaderFrom); direct {
		return to.ReadFrom(src)
	}
	n, err := io.Copy(writerOnly{w}, io.LimitReader(src, sniffBytes))
	if err != nil || n < sniffBytes {
		return n, err
	}
	m, err := to.ReadFrom(src)
	return n + m, err
}

// writerOnly hides all other methods, so that io.Copy writes.
type writerOnly struct{ io.Writer }

// setLength sets Content-Length if that is known and what w sends.
func setLength(w http.ResponseWriter, src io.Reader) {
	h := w.Header()
	for _, k := range []string{"Content-Length", "Content-Encoding", "Transfer-Encoding"} {
		if _, there := h[k]; there {
			return
		}
	}
	if !unchanged(w) {
		return
	}
	if n := sizeOf(src); n >= 0 {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
}

// unchanged reports whether a body written to w is what is sent.
func unchanged(w http.ResponseWriter) bool {
	for range mostWrappers {
		u, ok := w.(unwrapper)
		if !ok {
			return servers(w)
		}
		if !passes(w) {
			return false
		}
		w = u.Unwrap()
	}
	return false
}

// servers reports whether w is made by net/http: by the server for HTTP/1, or for
// HTTP/2.
func servers(w http.ResponseWriter) bool {
	name := fmt.Sprintf("%T", w)
	return strings.HasPrefix(name, "*http.") && strings.HasSuffix(strings.ToLower(name), "response") ||
		name == "*http.http2responseWriter"
}

// sizeOf returns how many bytes a reader has left, -1 if it cannot be told.
func sizeOf(src io.Reader) int64 {
	switch r := src.(type) {
	case *io.LimitedReader:
		if n := sizeOf(r.R); n >= 0 {
			return min(n, max(r.N, 0))
		}
	case *io.SectionReader:
		at, err := r.Seek(0, io.SeekCurrent)
		if outer, off, n := r.Outer(); err == nil {
			end := off + n
			if f, ok := outer.(io.Reader); ok {
				if whole := wholeSize(f); whole >= 0 {
					return max(min(end, whole)-off-at, 0)
				}
			} else if b, ok := outer.(*transmit.Body); ok {
				return max(min(end, b.Size())-off-at, 0)
			}
		}
	case *os.File, *transmit.File:
		size := wholeSize(r)
		if at, err := r.(io.Seeker).Seek(0, io.SeekCurrent); err == nil && size >= 0 {
			return max(size-at, 0)
		}
	case *bytes.Buffer:
		return int64(r.Len())
	case interface {
		io.Seeker
		Len() int
	}:
		return int64(r.Len())
	}
	return -1
}

// wholeSize returns the size of what has one from its start.
func wholeSize(src io.Reader) int64 {
	switch r := src.(type) {
	case *transmit.File:
		return wholeSize(r.File)
	case *os.File:
		// Files of procfs claim 0 bytes.
		if fi, err := r.Stat(); err == nil && fi.Mode().IsRegular() && fi.Size() > 0 {
			return fi.Size()
		}
	case interface{ Size() int64 }:
		return r.Size()
	}
	return -1
}
