package zchttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// A Recorder wraps an http.ResponseWriter and knows the status of the response and
// the bytes of its body, as middleware that logs, counts or measures needs. It keeps
// what else the writer can: ReadFrom, Flush, Hijack and Push as far as it has them,
// and all that http.ResponseController does.
//
// Middleware may embed a *Recorder. One that has a Write of its own, because it looks
// at the body, must not: it inherits a ReadFrom that goes round that Write.
//
// Like the writer it wraps it is used by one goroutine at a time.
type Recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// NewRecorder makes a Recorder of w.
func NewRecorder(w http.ResponseWriter) *Recorder { return &Recorder{ResponseWriter: w} }

// Status is that of the response: of the first WriteHeader that is not of the
// informational kind (1xx, but for 101), or 200 once there is a body. It is 0 while
// the response has not begun, which for a handler that writes nothing means 200 after
// it returned.
func (r *Recorder) Status() int { return r.status }

// Bytes is how many bytes of the body the server took.
func (r *Recorder) Bytes() int64 { return r.bytes }

// WriteHeader notes the status.
func (r *Recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *Recorder) begun() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
}

// Write counts.
func (r *Recorder) Write(p []byte) (int, error) {
	r.begun()
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// WriteString counts, and spares the server a copy of s.
func (r *Recorder) WriteString(s string) (int, error) {
	r.begun()
	n, err := io.WriteString(r.ResponseWriter, s)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom counts, and keeps the way open that the wrapped writer has.
func (r *Recorder) ReadFrom(src io.Reader) (int64, error) {
	r.begun()
	n, err := copyTo(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

// PassThrough declares that a body is sent as it was written.
func (r *Recorder) PassThrough() bool { return true }

// Unwrap returns the wrapped writer, for http.ResponseController.
func (r *Recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush sends what is buffered. It does nothing where the wrapped writer cannot.
func (r *Recorder) Flush() { _ = r.FlushError() }

// FlushError sends what is buffered. The error matches http.ErrNotSupported where the
// wrapped writer cannot.
func (r *Recorder) FlushError() error {
	r.begun()
	return http.NewResponseController(r.ResponseWriter).Flush()
}

// Hijack gives the connection to the caller. The error matches http.ErrNotSupported
// where the wrapped writer cannot, as that of HTTP/2.
func (r *Recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// Push is for HTTP/2, and http.ErrNotSupported elsewhere.
func (r *Recorder) Push(target string, o *http.PushOptions) error {
	w := r.ResponseWriter
	for range mostWrappers {
		if p, ok := w.(http.Pusher); ok {
			return p.Push(target, o)
		}
		u, ok := w.(unwrapper)
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	return http.ErrNotSupported
}
