package transmit

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// A BodyReader reads a [Body] from a position of its own. Close it: [Body.Release]
// waits for that. What was sent before stays with the kernel for as long as it needs
// it, Close or not.
//
// One goroutine at a time uses it; Close may come from any.
type BodyReader struct {
	b   *Body
	p   []byte // the body's
	off int64

	// passing says that WriteTo has handed the reader itself to who is to read it.
	passing bool

	mu  sync.Mutex // held while it copies
	err error      // why it cannot read
}

// errReaderClosed is what a BodyReader answers after Close.
var errReaderClosed = errors.New("the reader of the body is closed")

// NewReader makes a reader at the start of the body. Of a Body that was released it
// makes one that answers with an error.
func (b *Body) NewReader() *BodyReader {
	r := &BodyReader{b: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		r.err = fmt.Errorf("transmit: %w", errBodyReleased)
		return r
	}
	b.holds++
	r.p = b.p
	return r
}

// Close ends the reader's hold on the body. It is never an error.
func (r *BodyReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf("transmit: %w", errReaderClosed)
		r.b.drop(false)
	}
	return nil
}

// Body returns what it reads.
func (r *BodyReader) Body() *Body { return r.b }

// Size is the number of bytes of the body, wherever the reader is.
func (r *BodyReader) Size() int64 { return int64(len(r.p)) }

// Len is the number of bytes that are left to read.
func (r *BodyReader) Len() int { return int(max(r.Size()-r.off, 0)) }

// Read copies.
func (r *BodyReader) Read(p []byte) (int, error) {
	n, err := r.copy(p, r.off)
	r.off += int64(n)
	if n > 0 || len(p) == 0 && err == io.EOF {
		return n, nil
	}
	return n, err
}

// ReadAt copies from a position in the body, and leaves the reader where it is.
func (r *BodyReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("transmit: read a body at %d: it is before its start", off)
	}
	n, err := r.copy(p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// copy copies what there is at a position, which may be beyond the end.
func (r *BodyReader) copy(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return 0, r.err
	case off >= int64(len(r.p)):
		return 0, io.EOF
	}
	return copy(p, r.p[off:]), nil
}

// Seek moves the reader, as io.Seeker has it.
func (r *BodyReader) Seek(offset int64, whence int) (int64, error) {
	if _, err := r.copy(nil, 0); err != nil && err != io.EOF {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += int64(len(r.p))
	default:
		return 0, fmt.Errorf("transmit: seek in a body: there is no way %d", whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("transmit: seek in a body to %d: it is before its start", offset)
	}
	r.off = offset
	return offset, nil
}

// WriteTo writes all that is left. To a writer that is an io.ReaderFrom, as a
// [Conn] and the http.ResponseWriter of a server are, it gives the reader itself:
// io.Copy prefers WriteTo, and a Write could not lend. Others have it in one Write.
func (r *BodyReader) WriteTo(w io.Writer) (int64, error) {
	if to, ok := w.(io.ReaderFrom); ok && !r.passing {
		// A ReadFrom that copies by io.Copy comes back here, and then is written to.
		r.passing = true
		defer func() { r.passing = false }()
		return to.ReadFrom(r)
	}
	p, err := r.hold()
	if err != nil {
		return 0, err
	}
	defer r.b.drop(false)
	if p = p[min(r.off, int64(len(p))):]; len(p) == 0 {
		return 0, nil
	}
	n, err := w.Write(p)
	if n < 0 || n > len(p) {
		return 0, fmt.Errorf("transmit: a writer took %d of %d bytes", n, len(p))
	}
	r.off += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

// hold makes a hold on the body, whose method drop ends it, as Close ends that of
// the reader.
func (r *BodyReader) hold() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return r.b.borrow()
}
