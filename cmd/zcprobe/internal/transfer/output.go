package transfer

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/wholefile"
)

// An Output is where received bytes go.
type Output struct {
	info Out
	file *os.File // nil: they are discarded
	name string   // of the file, links resolved
	keep fs.FileMode
	over bool // replaces what has the name

	whole *wholefile.File // file, if it gets its name at the end; nil: in place
}

// OutputOptions say how a file is written.
type OutputOptions struct {
	Force  bool // replace a file
	Resume bool // go on at its end
}

// Discard is an output that keeps nothing.
func Discard() *Output { return &Output{info: Out{Kind: "discard"}} }

// Stdout is an output to an open stream.
func Stdout(f *os.File) *Output {
	return &Output{info: Out{Kind: "stream", Name: Stdio}, file: f}
}

// Info describes the output.
func (o *Output) Info() Out { return o.info }

// NewOutput opens a file to be written. A new one gets its name only when it is
// complete, so that whoever finds it finds all of it; one that is resumed is
// written in place, and keeps what arrived whatever happens. Pipes and character
// devices are written to as they are.
func NewOutput(name string, o OutputOptions) (*Output, error) {
	out, err := newOutput(name, o)
	if err != nil {
		return nil, fileError(name, err)
	}
	return out, nil
}

// LookAtOutput says what [NewOutput] would do, and opens nothing.
func LookAtOutput(name string, o OutputOptions) (Out, error) {
	out, err := lookAt(name, o)
	if err != nil {
		return Out{}, fileError(name, err)
	}
	return out.info, nil
}

func newOutput(name string, o OutputOptions) (*Output, error) {
	out, err := lookAt(name, o)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Resume:
		return out, out.resume()
	case out.info.Kind == "file":
		return out, out.create()
	}
	out.file, err = os.OpenFile(out.name, os.O_WRONLY, 0)
	return out, err
}

// lookAt decides what is to be done about a file.
func lookAt(name string, o OutputOptions) (*Output, error) {
	out := &Output{info: Out{Kind: "file", Name: name, Resume: o.Resume}, name: name, keep: 0o666}
	st, err := os.Lstat(name)
	if err == nil && st.Mode()&fs.ModeSymlink != 0 {
		// What replaces a file must not replace the link to it.
		if out.name, err = wholefile.Follow(name); err == nil {
			st, err = os.Stat(out.name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("is a link to nothing")
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return out, nil
	case err != nil:
		return nil, err
	case st.Mode().IsRegular() && o.Resume:
		out.info.OffsetBytes = st.Size()
		return out, nil
	case st.Mode().IsRegular() && !o.Force:
		return nil, errors.New("exists; --force replaces it, --resume goes on at its end")
	case st.Mode().IsRegular():
		out.over, out.keep = true, st.Mode().Perm()
		return out, nil
	case o.Resume:
		return nil, errors.New("is no regular file, and cannot be resumed")
	case st.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0:
		out.info.Kind = "stream"
		return out, nil
	case st.IsDir():
		return nil, errors.New("is a directory")
	}
	return nil, errors.New("is no file that can be written to")
}

// resume opens the file at its end.
func (o *Output) resume() error {
	// O_APPEND would keep splice(2) from it.
	f, err := os.OpenFile(o.name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	if o.info.OffsetBytes, err = f.Seek(0, io.SeekEnd); err != nil {
		f.Close()
		return err
	}
	o.file = f
	return nil
}

// create makes the file, which gets its name when it is complete.
func (o *Output) create() error {
	f, err := wholefile.Create(o.name, o.keep, o.over)
	if err != nil {
		return err
	}
	o.file, o.whole = f.File, f
	return nil
}

// Commit ends a transfer that is complete: the file gets its name.
func (o *Output) Commit() error { return fileError(o.info.Name, o.commit()) }

func (o *Output) commit() error {
	switch {
	case o.file == nil || o.info.Kind == "stream" && o.info.Name == Stdio:
		return nil
	case o.whole != nil:
		return o.whole.Commit()
	}
	return o.file.Close()
}

// Abort ends a transfer that is not complete: nothing is left but what was resumed.
func (o *Output) Abort() {
	switch {
	case o.file == nil || o.info.Name == Stdio:
	case o.whole != nil:
		o.whole.Abort()
	default:
		_ = o.file.Close()
	}
}

// before reads what a resumed file had before into a checksum.
func (o *Output) before(ctx context.Context, h hash.Hash) error {
	return fileError(o.info.Name, hashFile(ctx, h, o.file, 0, o.info.OffsetBytes))
}
