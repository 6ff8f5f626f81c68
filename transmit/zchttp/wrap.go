package zchttp

import (
	"io"
	"net/http"
)

// Wrap returns a writer for a handler whose ReadFrom goes through the wrappers that
// w is made of, as [Copy] does, but sets no Content-Length: what io.Copy,
// http.ServeContent and http.ServeFile need. w itself is returned if nothing is to
// be gained.
//
//	http.ServeFile(zchttp.Wrap(w), r, name)
//
// through, if given, is asked about wrappers that have an Unwrap, but do not say
// themselves whether the body may go round them: it vouches for wrappers of others.
func Wrap(w http.ResponseWriter, through ...func(http.ResponseWriter) bool) http.ResponseWriter {
	if _, direct := w.(io.ReaderFrom); direct {
		return w
	}
	in := w
	for range mostWrappers {
		if to, ok := in.(io.ReaderFrom); ok {
			return &around{ResponseWriter: w, to: to}
		}
		u, ok := in.(unwrapper)
		if !ok || !passes(in) && !vouched(in, through) {
			break
		}
		if in = u.Unwrap(); in == nil {
			break
		}
	}
	return w
}

// vouched reports whether the body may go round a wrapper that does not say so, and
// does not deny it either.
func vouched(w http.ResponseWriter, through []func(http.ResponseWriter) bool) bool {
	if _, says := w.(passer); says {
		return false
	}
	for _, ask := range through {
		if ask(w) {
			return true
		}
	}
	return false
}

// around is a wrapped writer, and the way past its wrappers.
type around struct {
	http.ResponseWriter
	to io.ReaderFrom
}

// Unwrap is for http.ResponseController.
func (a *around) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// ReadFrom lets the wrappers see the response begin.
func (a *around) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(writerOnly{a.ResponseWriter}, io.LimitReader(src, sniffBytes))
	if err != nil || n < sniffBytes {
		return n, err
	}
	m, err := a.to.ReadFrom(src)
	return n + m, err
}

// Flush flushes what is wrapped, if that can be.
func (a *around) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }
