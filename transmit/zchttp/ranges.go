package zchttp

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path/filepath"
	"strconv"
	"strings"
)

// several is a request for several ranges of what is served. http.ServeContent
// decides about it and writes the head of the response. Then it copies the parts
// through an io.Pipe, where it is not seen any more that they are of a file; what
// comes of the same decision is sent here in its place.
type several struct {
	header  string // Range
	types   []string
	typed   bool          // the handler set types
	content io.ReadSeeker // what is served; nil while it is not known
	name    string        // of the content, for its type
}

// A span is a range of bytes.
type span struct{ start, length int64 }

// parts sends the ranges. With false it sent nothing, and src is to be sent.
func (w *response) parts(src *io.LimitedReader) (int64, bool, error) {
	m := w.several
	if _, pipe := src.R.(*io.PipeReader); m == nil || m.content == nil || !pipe {
		return 0, false, nil
	}
	boundary := boundaryOf(w.Header().Get("Content-Type"))
	size, err := m.content.Seek(0, io.SeekEnd)
	if err != nil || boundary == "" {
		return 0, false, nil
	}
	spans, ok := spansOf(m.header, size)
	if !ok {
		return 0, false, nil
	}
	kind, err := m.kind()
	if err != nil {
		return 0, false, nil
	}
	// The length was announced. If it is another the decision was another, too.
	var measure counter
	if err := writeParts(&measure, boundary, kind, size, spans, func(s span) error {
		measure += counter(s.length)
		return nil
	}); err != nil || int64(measure) != src.N {
		return 0, false, nil
	}
	out := &counting{w: w.ResponseWriter}
	err = writeParts(out, boundary, kind, size, spans, func(s span) error {
		return out.copyRange(m.content, s)
	})
	return out.n, true, err
}

// kind returns the content type of the parts, as http.ServeContent finds it.
func (m *several) kind() (string, error) {
	if m.typed {
		if len(m.types) > 0 {
			return m.types[0], nil
		}
		return "", nil
	}
	if t := mime.TypeByExtension(filepath.Ext(m.name)); t != "" {
		return t, nil
	}
	if _, err := m.content.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	var head [sniffBytes]byte
	n, err := io.ReadFull(m.content, head[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return http.DetectContentType(head[:n]), err
}

// writeParts writes the parts of a multipart/byteranges to w (RFC 9110, 14.6), and
// has body write the ranges.
func writeParts(w io.Writer, boundary, kind string, size int64, spans []span, body func(span) error) error {
	mw := multipart.NewWriter(w)
	if err := mw.SetBoundary(boundary); err != nil {
		return err
	}
	for _, s := range spans {
		if _, err := mw.CreatePart(textproto.MIMEHeader{
			"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", s.start, s.start+s.length-1, size)},
			"Content-Type":  {kind},
		}); err != nil {
			return err
		}
		if err := body(s); err != nil {
			return err
		}
	}
	return mw.Close()
}

// boundaryOf returns the boundary of a multipart/byteranges.
func boundaryOf(contentType string) string {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/byteranges" {
		return ""
	}
	return params["boundary"]
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// counting counts what is written to a response.
type counting struct {
	w http.ResponseWriter
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// copyRange sends a range of the content, or returns an error: nothing may follow a
// range that is short.
func (c *counting) copyRange(content io.ReadSeeker, s span) error {
	if _, err := content.Seek(s.start, io.SeekStart); err != nil {
		return err
	}
	src := io.LimitReader(content, s.length)
	var n int64
	var err error
	if s.length <= smallBytes {
		n, err = io.Copy(writerOnly{c.w}, src)
	} else {
		n, err = copyTo(c.w, src)
	}
	c.n += n
	if err == nil && n < s.length {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// spansOf returns the ranges of a Range header (RFC 9110, 14.1.2) that are within
// size bytes, in their order.
func spansOf(header string, size int64) ([]span, bool) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return nil, false
	}
	var spans []span
	for one := range strings.SplitSeq(list, ",") {
		if one = textproto.TrimString(one); one == "" {
			continue
		}
		first, last, ok := strings.Cut(one, "-")
		if !ok {
			return nil, false
		}
		s, ok := spanOf(textproto.TrimString(first), textproto.TrimString(last), size)
		if !ok {
			return nil, false
		}
		if s.length > 0 || s.start == size && first == "" {
			spans = append(spans, s) // http.ServeContent has "-0" as a part of nothing
		}
	}
	return spans, len(spans) > 0
}

// spanOf returns one range, of no length if none of it is there.
func spanOf(first, last string, size int64) (span, bool) {
	if first == "" { // the last so many bytes
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return span{}, false
		}
		n = min(n, size)
		return span{size - n, n}, true
	}
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return span{}, false
	}
	end := size - 1
	if last != "" {
		if end, err = strconv.ParseInt(last, 10, 64); err != nil || end < start {
			return span{}, false
		}
		end = min(end, size-1)
	}
	if start >= size {
		return span{}, true
	}
	return span{start, end - start + 1}, true
}
