package transmit

import (
	"io"
	"os"
)

// A File is an open file together with how it is to be sent. Wherever a [Conn] meets
// it as a source, also inside an io.LimitedReader, Options hold instead of those of
// the connection, unless they are zero; other writers, those of package net among
// them, take it for the file that it is. Header and Trailer are left out.
type File struct {
	*os.File
	Options FileOptions

	passing bool // WriteTo has handed the file itself to who is to read it
}

// WriteTo writes what is left of the file from its position on. io.Copy prefers it to
// ReadFrom, which would lose the Options.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	if _, file := w.(*os.File); !file && !f.passing {
		if to, ok := w.(io.ReaderFrom); ok {
			// A ReadFrom that copies by io.Copy comes back here.
			f.passing = true
			defer func() { f.passing = false }()
			return to.ReadFrom(f)
		}
	}
	return f.File.WriteTo(w)
}

// fromOptions copies a file as its own options say.
func (x *copying) fromOptions(f *File, most int64) (int64, error) {
	if f.Options.applies(most) {
		x.file = &f.Options
		defer func() { x.file = nil }()
	}
	return x.fromFile(f.File, most)
}

// applies reports whether the options make a difference to the copy of up to most
// bytes.
func (o *FileOptions) applies(most int64) bool {
	return o.Backend != "" || o.Snapshot || o.Lease || o.Immutable ||
		most >= MappedThreshold && (o.Mappings != nil || o.Mapping.region != nil)
}

// options are those of the file, or of the connection.
func (x *copying) options(c *Conn) FileOptions {
	o := c.o.File
	if x.file != nil {
		o = *x.file
		o.Header, o.Trailer = nil, nil
	}
	return o
}
