package transmit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/zcprobe/zcprobe/probe"
)

// ReadFrom copies r to the connection until r ends, in the best way that there is
// between the two; io.Copy calls it. The error is nil at the end of r.
//
// It finds files and connections inside *io.LimitedReader, *io.SectionReader,
// *bufio.Reader, io.MultiReader, io.NopCloser, structs without a name and the files of
// package net/http, nested as they come, and leaves each as if Read had been called.
// After a *bufio.Reader UnreadByte has nothing to go back to. What looks at the bytes,
// as io.TeeReader does, and every type with a name that is not known is read and
// written.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if c.closed.Load() {
		return 0, c.opError("readfrom", net.ErrClosed)
	}
	x := newCopying(c, c.o.OnCopy != nil)
	n, err := x.from(r, unbounded)
	err = c.copyError(err)
	if c.o.OnCopy != nil {
		c.o.OnCopy(x.report(err))
	}
	x.free()
	return n, err
}

// copyError names the connection of an error, as package net does.
func (c *Conn) copyError(err error) error {
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*TruncatedError](err); ok {
		err = t // what the connection was closed for
	} else if c.closed.Load() {
		err = net.ErrClosed
	} else if c.kind != "tcp" {
		return err // a unix connection has no ReadFrom that would wrap it
	}
	return c.opError("readfrom", err)
}

// WriteTo copies what is received to w until the peer sends no more; io.Copy calls
// it. It goes by splice(2) to connections, pipes and files, and leaves the rest to the
// ReadFrom of w if it has one.
//
// io.CopyN and an io.LimitReader around c hide it from a *net.TCPConn or *os.File that
// is written to: their own ReadFrom comes first, and reads. [Copy] finds it, and so
// does a Conn that is written to.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.closed.Load() {
		return 0, c.opError("writeto", net.ErrClosed)
	}
	x, rf := c.sinkFor(w)
	if x == nil {
		n, err := rf.ReadFrom(c.nc)
		if err != nil && c.closed.Load() {
			err = c.opError("writeto", net.ErrClosed)
		}
		if _, ours := rf.(*Conn); c.o.OnCopy != nil && !ours {
			c.o.OnCopy(foreignReport(c.kind, rf, n, err))
		}
		return n, err
	}
	n, err := x.from(c.nc, unbounded)
	if err != nil && c.closed.Load() {
		err = c.opError("writeto", net.ErrClosed)
	}
	if c.o.OnCopy != nil {
		c.o.OnCopy(x.report(err))
	}
	x.free()
	return n, err
}

// sinkFor returns a copy to w, or who makes it.
func (c *Conn) sinkFor(w io.Writer) (*copying, io.ReaderFrom) {
	told := c.o.OnCopy != nil
	to := open(w)
	switch to := to.(type) {
	case *Conn:
		return nil, to
	case *net.TCPConn, *net.UnixConn:
		if p, err := Wrap(to.(net.Conn), ConnOptions{Sender: c.o.Sender}); err == nil {
			return newCopying(p, told), nil
		}
	case *os.File:
		if to != nil {
			return newCopying(&fileSink{File: to, downs: &c.downs}, told), nil
		}
	case io.ReaderFrom:
		return nil, to
	}
	return newCopying(writerSink{to}, told), nil
}

// open returns what is inside a writer that adds nothing to it.
func open(w io.Writer) io.Writer {
	for range mostNested {
		inner, ok := peel(w, "Write")
		if !ok {
			break
		}
		v, ok := inner.(io.Writer)
		if !ok {
			break
		}
		w = v
	}
	return w
}

// Copy is io.Copy for what is no [Conn], with everything that a Conn knows of both
// ends: it copies src to dst until src ends, between files, pipes, TCP connections and
// unix streams by the calls of the kernel, and says which way it went.
func Copy(dst io.Writer, src io.Reader) (CopyReport, error) {
	var x *copying
	var c *Conn
	quiet := Options{OnDowngrade: func(*Downgrade) {}} // the report tells it
	downs := downgrades{o: quiet}
	switch to := open(dst).(type) {
	case *Conn:
		c, x = to, newCopying(to, true)
	case *net.TCPConn, *net.UnixConn:
		p, err := Wrap(to.(net.Conn), ConnOptions{Sender: quiet})
		if err == nil {
			c, x = p, newCopying(p, true)
		}
	case *os.File:
		if to != nil {
			x = newCopying(&fileSink{File: to, downs: &downs}, true)
		}
	}
	if x == nil {
		n, err := io.Copy(dst, src)
		return foreignReport(sourceName(src), dst, n, err), err
	}
	_, err := x.from(src, unbounded)
	if c != nil {
		err = c.copyError(err)
	}
	r := x.report(err)
	x.free()
	return r, err
}

// foreignReport is that of a copy that somebody else made.
func foreignReport(source string, w any, n int64, err error) CopyReport {
	r := CopyReport{Source: source, Target: fmt.Sprintf("%T", w), Err: err}
	r.Bytes = n
	r.Reason = fmt.Sprintf("a %T makes its copies itself", w)
	return r
}

func sourceName(r io.Reader) string {
	if c, ok := r.(*Conn); ok {
		return c.kind
	}
	return fmt.Sprintf("%T", r)
}

func (c *Conn) target() string { return c.kind }

// A writerSink is a writer of which nothing is known.
type writerSink struct{ io.Writer }

func (writerSink) takeFile(*copying, *os.File, int64, int64) (int64, bool, error) {
	return 0, false, nil
}

func (writerSink) takeStream(*copying, io.Reader, int64) (int64, bool, error) { return 0, false, nil }

func (w writerSink) target() string { return fmt.Sprintf("%T", w.Writer) }

// A fileSink is a file or pipe that is written to.
type fileSink struct {
	*os.File
	downs *downgrades
}

func (f *fileSink) target() string { return fileName(f.File) }

// fileName says what a file is.
func fileName(f *os.File) string {
	st, err := f.Stat()
	if err != nil {
		return "file"
	}
	switch m := st.Mode(); {
	case m&os.ModeNamedPipe != 0:
		return "pipe"
	case m&os.ModeSocket != 0:
		return "socket"
	case m&os.ModeDevice != 0:
		return "device"
	}
	return "file"
}

// downgrades keeps why something did not go the way it might, by cause, and tells it
// the first time.
type downgrades struct {
	mu      sync.Mutex
	reasons map[string]string
	o       Options
}

func (d *downgrades) hear(n *Downgrade) {
	d.mu.Lock()
	known := d.reasons[n.Cause] == n.Reason
	if d.reasons == nil {
		d.reasons = map[string]string{}
	}
	d.reasons[n.Cause] = n.Reason
	d.mu.Unlock()
	if !known {
		cause, _ := probe.LookupCause(n.Cause)
		tellDowngrade(d.o.OnDowngrade, d.o.Logger, n, cause.Expected)
	}
}

// reason returns what was heard of a cause last.
func (d *downgrades) reason(cause string) string {
	if cause == "" {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.reasons[cause]; r != "" {
		return r
	}
	c, _ := probe.LookupCause(cause)
	return c.Summary
}

// relayed returns how far a relay got, how many bytes it lost, and its error as it is
// without Relay. done is false if it was no relay at all.
func relayed(res Result, err error) (lost int64, done bool, _ error) {
	if err == nil {
		return 0, true, nil
	}
	re, ok := errors.AsType[*RelayError](err)
	if !ok {
		return 0, false, nil
	}
	if lost = re.Read - re.Written; lost == 0 && errors.Is(re.Err, io.ErrUnexpectedEOF) {
		return 0, true, nil // the source ended, which is the end of a copy
	}
	return lost, true, re.Err
}
