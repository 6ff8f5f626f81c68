package transmit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
)

// A sink is where a copy goes. What it does not take by a call of the kernel's the
// copy reads and writes, from where it stopped.
type sink interface {
	io.Writer

	// takeFile takes up to most bytes of a file at its position, which moves, or at
	// an offset that is not negative. done says that the copy of it has ended.
	takeFile(x *copying, f *os.File, at, most int64) (n int64, done bool, err error)

	// takeStream takes up to most bytes of a *net.TCPConn, a stream *net.UnixConn or
	// an *os.File without positions.
	takeStream(x *copying, src io.Reader, most int64) (n int64, done bool, err error)

	target() string
}

// A copying is one copy. Its from methods copy up to most bytes of a reader and leave
// it as if Read had been called.
type copying struct {
	to     sink
	told   bool // somebody wants to know
	source string
	moved  []moved
	lost   int64 // bytes that were read and not written, after an error
	depth  int
	file   *FileOptions // of a File that is copied from

	fileCopy // on Linux
}

// moved is what went one way.
type moved struct {
	Result
	reason string
}

var copyings = sync.Pool{New: func() any {
	x := new(copying)
	x.bind()
	return x
}}

func newCopying(to sink, told bool) *copying {
	x := copyings.Get().(*copying)
	x.to, x.told = to, told
	return x
}

func (x *copying) free() {
	x.to, x.told, x.source, x.lost, x.depth = nil, false, "", 0, 0
	clear(x.moved)
	x.moved = x.moved[:0]
	copyings.Put(x)
}

// took notes that n bytes went one way, and why not a better one.
func (x *copying) took(n int64, way Backend, cause, reason string) {
	r := Result{Bytes: n, Backend: way, Cause: cause}
	if way.Copies() {
		r.PlainBytes = n
	}
	x.add(r, reason)
}

func (x *copying) add(r Result, reason string) {
	if !x.told || r.Bytes == 0 && reason == "" {
		return
	}
	for i := range x.moved {
		if m := &x.moved[i]; m.Backend == r.Backend {
			m.Bytes += r.Bytes
			m.PlainBytes += r.PlainBytes
			m.SharedBytes += r.SharedBytes
			m.HoleBytes += r.HoleBytes
			if m.reason == "" {
				m.reason, m.Cause = reason, r.Cause
			}
			return
		}
	}
	x.moved = append(x.moved, moved{r, reason})
}

// came notes where the bytes come from: the first answer counts, and "several" if
// there is another.
func (x *copying) came(from string) {
	switch {
	case !x.told || x.source == from:
	case x.source == "":
		x.source = from
	default:
		x.source = "several"
	}
}

// report says how the copy went.
func (x *copying) report(err error) CopyReport {
	r := CopyReport{Source: x.source, Target: x.to.target(), Err: err}
	var most int64 = -1
	for _, m := range x.moved {
		r.Bytes += m.Bytes
		r.PlainBytes += m.PlainBytes
		r.SharedBytes += m.SharedBytes
		r.HoleBytes += m.HoleBytes
		if m.Bytes > most {
			most = m.Bytes
			r.Way, r.Backend, r.Cause, r.Result.Cause, r.Reason = m.Backend, m.Backend, m.Cause, m.Cause, m.reason
		}
	}
	return r
}

// from copies up to most bytes of a reader.
func (x *copying) from(r io.Reader, most int64) (int64, error) {
	if x.depth++; x.depth > mostNested {
		return x.loop(r, most)
	}
	defer func() { x.depth-- }()
	for range mostNested {
		switch r := r.(type) {
		case *io.LimitedReader:
			n, err := x.from(r.R, min(most, r.N))
			r.N -= n
			if err != nil {
				r.N -= x.lost
			}
			return n, err
		case *os.File:
			return x.fromFile(r, most)
		case *net.TCPConn:
			return x.fromStream(r, "tcp", most)
		case *net.UnixConn:
			return x.fromStream(r, "unix", most)
		case *Conn:
			return x.fromStream(r.nc, r.kind, most)
		case *io.SectionReader:
			return x.fromSection(r, most)
		case *bufio.Reader:
			return x.fromBuffered(r, most)
		case *bytes.Reader:
			return x.fromMemory(r, most)
		case *bytes.Buffer:
			return x.fromMemory(r, most)
		case *strings.Reader:
			return x.fromMemory(r, most)
		case *File:
			return x.fromOptions(r, most)
		case *BodyReader:
			return x.fromBody(r, most)
		}
		if most <= 0 {
			return 0, nil
		}
		if reflect.TypeOf(r) == multiType {
			return x.fromParts(r, most)
		}
		inner, ok := peel(r, "Read")
		if !ok {
			break
		}
		if r, ok = inner.(io.Reader); !ok {
			break
		}
	}
	return x.loop(r, most)
}

func (x *copying) fromFile(f *os.File, most int64) (int64, error) {
	if most <= 0 || f == nil {
		return x.rest(f, 0, most)
	}
	n, done, err := x.to.takeFile(x, f, -1, most)
	if done || err != nil {
		return n, err
	}
	return x.rest(f, n, most)
}

func (x *copying) fromStream(src io.Reader, kind string, most int64) (int64, error) {
	if most <= 0 {
		return 0, nil
	}
	x.came(kind)
	n, done, err := x.to.takeStream(x, src, most)
	if done || err != nil {
		return n, err
	}
	return x.rest(src, n, most)
}

// rest reads and writes what is left after n bytes.
func (x *copying) rest(r io.Reader, n, most int64) (int64, error) {
	if n >= most {
		return n, nil
	}
	m, err := x.loop(r, most-n)
	return n + m, err
}

// fromSection sends the part of a file that a section is. Sections of sections are
// found, too.
func (x *copying) fromSection(s *io.SectionReader, most int64) (int64, error) {
	pos, err := s.Seek(0, io.SeekCurrent)
	left := min(most, s.Size()-pos)
	if err != nil || left <= 0 {
		return x.rest(s, 0, most)
	}
	in, base, _ := s.Outer()
	at := base + pos
	for range mostNested {
		o, ok := in.(*io.SectionReader)
		if !ok {
			break
		}
		outer, base, n := o.Outer()
		if at < 0 || base < 0 {
			break
		}
		left = min(left, n-at)
		in, at = outer, base+at
	}
	if b, ok := in.(*Body); ok && at >= 0 {
		return x.fromBodySection(s, b, pos, at, left)
	}
	f, ok := in.(*os.File)
	if !ok || f == nil || at < 0 || left <= 0 {
		return x.rest(s, 0, most)
	}
	n, done, err := x.to.takeFile(x, f, at, left)
	if _, serr := s.Seek(pos+n, io.SeekStart); err == nil {
		err = serr
	}
	if done || err != nil {
		return n, err
	}
	return x.rest(s, n, most)
}

// fromBuffered sends what is in the buffer, and then what is below it.
func (x *copying) fromBuffered(b *bufio.Reader, most int64) (n int64, err error) {
	if most <= 0 {
		return 0, nil
	}
	if k := b.Buffered(); k > 0 {
		p, _ := b.Peek(int(min(int64(k), most))) // is there
		m, err := x.write(p)
		x.took(int64(m), Write, "api-copy", "a bufio.Reader had it in its buffer")
		_, _ = b.Discard(m) // of what is there
		if n = int64(m); err != nil || n == most {
			return n, err
		}
	}
	r, ok := below(b)
	if !ok {
		return x.rest(b, n, most)
	}
	m, err := x.from(r, most-n)
	return n + m, err
}

// memoryReader is a reader of memory of which WriteTo moves on by what was written.
type memoryReader interface {
	io.Reader
	io.WriterTo
}

func (x *copying) fromMemory(r memoryReader, most int64) (int64, error) {
	if most <= 0 {
		return 0, nil
	}
	x.came("memory")
	l := cutWriter{x: x, left: most}
	_, err := r.WriteTo(&l)
	if err == errEnough {
		err = nil
	}
	return l.n, err
}

// fromParts copies an io.MultiReader.
func (x *copying) fromParts(r io.Reader, most int64) (int64, error) {
	if most != unbounded && !mayCut(reflect.ValueOf(r), mostNested) {
		return x.loop(r, most)
	}
	l := cutWriter{x: x, left: most}
	_, err := r.(io.WriterTo).WriteTo(&l)
	if err == errEnough {
		err = nil
	}
	return l.n, err
}

// fromBody lends the memory of a Body.
func (x *copying) fromBody(r *BodyReader, most int64) (int64, error) {
	c, ok := x.to.(*Conn)
	if !ok {
		return x.loop(r, most)
	}
	if _, err := r.copy(nil, r.off); err == io.EOF {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	x.came("memory")
	n, err := c.takeBody(x, r.b, r.off, min(most, int64(r.Len())))
	r.off += n
	return n, err
}

// writeBody writes a part of a Body.
func (x *copying) writeBody(b *Body, at, n int64) (int64, error) {
	p, err := b.borrow()
	if err != nil {
		return 0, err
	}
	defer b.drop(false)
	m, err := x.write(p[at : at+n])
	x.took(int64(m), Write, "small-send", "to lend so few bytes takes longer than to copy them")
	return int64(m), err
}

// loop reads and writes.
func (x *copying) loop(r io.Reader, most int64) (n int64, err error) {
	if most <= 0 {
		return 0, nil
	}
	buf := copyBuffers.Get().(*[]byte)
	n, err = x.loopWith(r, *buf, most)
	copyBuffers.Put(buf)
	if x.told {
		if x.source == "" {
			x.came(fmt.Sprintf("%T", r))
		}
		x.took(n, ReadWrite, "copy-loop", x.whyLoop(r))
	}
	return n, err
}

func (x *copying) loopWith(r io.Reader, buf []byte, most int64) (n int64, err error) {
	for n < most {
		size := min(most-n, int64(len(buf)))
		p := buf[:size:size] // a reader that claims more must not be believed
		nr, rerr := r.Read(p)
		if nr > 0 {
			nw, werr := x.to.Write(p[:nr])
			if nw < 0 || nw > nr {
				nw = 0
				if werr == nil {
					werr = errInvalidWrite
				}
			}
			n += int64(nw)
			if werr == nil && nw < nr {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				x.lost += int64(nr - nw)
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
	return n, nil
}

var errInvalidWrite = errors.New("invalid write result")

// whyLoop says why a reader is read from.
func (x *copying) whyLoop(r io.Reader) string {
	for i := range x.moved {
		if m := &x.moved[i]; m.Backend == ReadWrite && m.reason != "" {
			return m.reason
		}
	}
	if w, ok := x.to.(writerSink); ok {
		return fmt.Sprintf("a %T may look at the bytes that are written to it", w.Writer)
	}
	switch r.(type) {
	case *os.File, *net.TCPConn, *net.UnixConn:
		return "the kernel does not do this between the two"
	case *io.SectionReader:
		return "the section is not one of a file"
	}
	return fmt.Sprintf("a %T may look at the bytes that it reads", r)
}

// write writes what is in memory.
func (x *copying) write(p []byte) (int, error) { return x.to.Write(p) }
