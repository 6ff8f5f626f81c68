package transmit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// A nest is readers inside each other, made from what the fuzzer says. Two of the
// same make the same, for each way to copy.
type nest struct {
	t      *testing.T
	plan   []byte
	bytes  []byte
	layers []io.Reader // the innermost first
	limits []*io.LimitedReader
	within bool // an io.MultiReader
	below  bool // a bufio.Reader is above, which may read ahead
}

func (n *nest) next() int {
	if len(n.plan) == 0 {
		return 0
	}
	b := n.plan[0]
	n.plan = n.plan[1:]
	return int(b)
}

// size is a length of up to 16 KiB, often around that of the content.
func (n *nest) size() int64 { return int64(n.next()<<6 | n.next()&63) }

func (n *nest) keep(r io.Reader) io.Reader {
	n.layers = append(n.layers, r)
	return r
}

// base makes a reader with nothing inside.
func (n *nest) base() io.Reader {
	c := n.bytes[:min(n.size(), int64(len(n.bytes)))]
	switch n.next() % 8 {
	case 0:
		return n.keep(strings.NewReader(string(c)))
	case 1:
		return n.keep(bytes.NewBuffer(bytes.Clone(c)))
	case 2:
		return n.keep(&greedy{bytes.NewReader(c)})
	case 3:
		return n.keep(io.MultiReader(bytes.NewReader(c), brokenReader{errOdd}))
	case 4:
		f := fileOf(n.t, c)
		return n.keep(io.NewSectionReader(f, n.size(), n.size()))
	case 5:
		from, peer := unixPair(n.t)
		feed(n.t, peer, c)
		return n.keep(from)
	}
	f := fileOf(n.t, c)
	_, _ = f.Seek(n.size()>>3, io.SeekStart)
	return n.keep(f)
}

var errOdd = errors.New("an odd error")

// greedy has a WriteTo that loses what the writer does not take.
type greedy struct{ r io.Reader }

func (g *greedy) Read(p []byte) (int, error) { return g.r.Read(p) }

func (g *greedy) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, struct{ io.Reader }{g.r})
}

// make makes readers up to so many deep.
func (n *nest) make(deep int) io.Reader {
	if deep == 0 {
		return n.base()
	}
	switch n.next() % 9 {
	case 0, 1:
		l := &io.LimitedReader{N: n.size() - 8}
		if !n.below {
			n.limits = append(n.limits, l)
		}
		l.R = n.make(deep - 1)
		return n.keep(l)
	case 2:
		return n.keep(io.NopCloser(n.make(deep - 1)))
	case 3:
		size, peek := 16+n.next(), n.next()%16
		above := n.below
		n.below = true
		b := bufio.NewReaderSize(n.make(deep-1), size)
		n.below = above
		_, _ = b.Peek(peek)
		return n.keep(b)
	case 4:
		var parts []io.Reader
		within := n.within
		n.within = true
		for range n.next() % 4 {
			parts = append(parts, n.make(deep-1))
		}
		n.within = within
		if m := io.MultiReader(parts...); within {
			return m // one that another has merged with must not be read any more
		} else {
			return n.keep(m)
		}
	case 5:
		return n.keep(struct{ io.Reader }{n.make(deep - 1)})
	case 6:
		in := n.make(deep - 1)
		f, ok := in.(*os.File)
		if !ok {
			return in
		}
		s := io.NewSectionReader(f, n.size()-5, n.size())
		_, _ = s.Seek(int64(n.next()), io.SeekStart)
		return n.keep(s)
	case 7:
		return n.keep(io.TeeReader(n.make(deep-1), io.Discard))
	}
	return n.base()
}

// left reads what every layer has left, from the outermost on.
func (n *nest) left() []string {
	var s []string
	for i := range n.layers {
		b, _ := io.ReadAll(n.layers[len(n.layers)-1-i])
		s = append(s, string(b))
	}
	return s
}

// FuzzUnwrap copies nests of readers to a Conn, and compares with a loop of Read and
// Write: what is copied, what is returned, and what is left in every layer.
func FuzzUnwrap(f *testing.F) {
	for _, s := range []string{"", "\x00\x80\x00\x07\x80\x00", "\x04\x02\x00\x30\x00\x03\x20\x05\x80\x00\x06", "\x00\x40\x00\x04\x03\x02\x03\x10\x08\x07\x60\x00\x06\x00\x00\x08\x70\x00\x07",
		"\x03\x03\x40\x04\x02\x80\x00\x06\x00\x00", "\x00\x20\x00\x05\x04\x02\x50\x10\x02\x50\x10\x06", "\x03\x00\x10\x00\x03\x80\x09\x80\x00\x05",
		"\x03\x06\x08\x20\x00\x06\x00\x00\x00\x05\x20\x00"} {
		f.Add([]byte(s), uint8(len(s)%5))
	}
	content := pattern(12 << 10)
	f.Fuzz(func(t *testing.T, plan []byte, deep uint8) {
		if len(plan) > 64 {
			t.Skip("needs a shorter plan")
		}
		theirs := &nest{t: t, plan: plan, bytes: content}
		ours := &nest{t: t, plan: plan, bytes: content}
		var want bytes.Buffer
		wantN, wantErr := io.Copy(struct{ io.Writer }{&want}, struct{ io.Reader }{theirs.make(int(deep % 5))})
		c, arrived := connTo(t, "unix", ConnOptions{OnCopy: func(r CopyReport) {
			if r.Way == "" && r.Bytes > 0 {
				t.Errorf("report %+v", r)
			}
		}})
		r := ours.make(int(deep % 5))
		n, err := io.Copy(c, r)
		if n != wantN || errors.Is(err, errOdd) != errors.Is(wantErr, errOdd) || (err == nil) != (wantErr == nil) {
			t.Errorf("copied %d bytes and %v, want %d and %v", n, err, wantN, wantErr)
		}
		sameContent(t, "copy", arrived(), want.Bytes())
		for i, l := range ours.limits {
			if w := theirs.limits[i].N; l.N != w {
				t.Errorf("limit %d is at %d, want %d", i, l.N, w)
			}
		}
		if err != nil || wantErr != nil {
			return
		}
		got, wantLeft := ours.left(), theirs.left()
		for i := range got {
			if got[i] != wantLeft[i] {
				t.Errorf("layer %d from outside, a %T, has %d bytes left, want %d", i, ours.layers[len(got)-1-i], len(got[i]), len(wantLeft[i]))
			}
		}
	})
}
