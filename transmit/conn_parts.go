package transmit

import (
	"errors"
	"io"
)

// fromBodySection lends a part of a Body.
func (x *copying) fromBodySection(s *io.SectionReader, b *Body, pos, at, most int64) (int64, error) {
	c, ok := x.to.(*Conn)
	if !ok {
		return x.loop(s, most)
	}
	if most = min(most, b.Size()-at); most <= 0 {
		return x.loop(s, 1) // the end, or that it was released
	}
	x.came("memory")
	n, err := c.takeBody(x, b, at, most)
	if _, serr := s.Seek(pos+n, io.SeekStart); err == nil {
		err = serr
	}
	return n, err
}

// errEnough stops a WriteTo.
var errEnough = errors.New("enough was copied")

// A cutWriter is a writer that takes so many bytes and no more.
type cutWriter struct {
	x       *copying
	left, n int64
}

func (l *cutWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if l.left <= 0 {
		return 0, errEnough
	}
	q := p[:min(int64(len(p)), l.left)]
	n, err := l.x.write(q)
	l.took(int64(n))
	l.x.took(int64(n), Write, "api-copy", "memory that its owner may change is copied, a Body lends it")
	if err == nil && len(q) < len(p) {
		err = errEnough
	}
	return n, err
}

func (l *cutWriter) ReadFrom(r io.Reader) (int64, error) {
	if l.left <= 0 {
		return 0, errEnough
	}
	n, err := l.x.from(r, l.left)
	if l.took(n); err == nil && l.left <= 0 {
		err = errEnough
	}
	return n, err
}

func (l *cutWriter) took(n int64) {
	l.n += n
	if l.left != unbounded {
		l.left -= n
	}
}
