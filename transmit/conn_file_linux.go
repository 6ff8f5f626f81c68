package transmit

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// sendBySender sends a file as the options say.
func (c *Conn) sendBySender(x *copying, f *os.File, at, most int64) (n int64, done bool, err error) {
	switch c.lookAt(f) {
	case sys.ModeRegular, sys.ModeBlock:
	case sys.ModeDir, badFile:
		return 0, false, nil
	default:
		if at >= 0 {
			return 0, false, nil
		}
		if x.told {
			x.came(fileName(f))
		}
		return c.takeStream(x, f, most)
	}
	off := at
	if at < 0 {
		if off, err = f.Seek(0, io.SeekCurrent); err != nil {
			return 0, false, nil
		}
	}
	s, err := c.Sender()
	if err != nil {
		return 0, true, err
	}
	x.came("file")
	for n < most {
		m, more, serr := c.sendRange(x, s, f, off+n, most-n)
		n += m
		if err = serr; err != nil || !more {
			break
		}
	}
	if at < 0 && n > 0 {
		if _, serr := f.Seek(off+n, io.SeekStart); err == nil {
			err = serr
		}
	}
	return n, true, err
}

// badFile is no type of a file.
const badFile = ^uint32(0)

// lookAt returns the type of a file.
func (c *Conn) lookAt(f *os.File) uint32 {
	kind := badFile
	raw, err := f.SyscallConn()
	if err != nil {
		return kind
	}
	_ = raw.Control(func(fd uintptr) { // a closed file stays bad
		if st, err := c.stream.calls.Fstat(int(fd)); err == nil {
			kind = st.Mode & sys.ModeType
		}
	})
	return kind
}

// sendRange sends what there is of a file from an offset on, up to most bytes; more
// says that there may be more.
func (c *Conn) sendRange(x *copying, s *Sender, f *os.File, off, most int64) (n int64, more bool, err error) {
	want := int64(-1)
	st, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	if size := st.Size(); size > 0 || most == unbounded {
		if size > 0 && off >= size {
			return 0, false, nil
		}
		if most < size-off {
			want = most
		}
	} else {
		want = most // of what has no size
	}
	o := x.options(c)
	if size := st.Size(); c.maps(s, &o) && size > off {
		want = tailApart(&o, min(most, size-off))
	}
	done, err := s.SendFile(context.Background(), f, off, want, o)
	n = done.Bytes()
	x.add(done.sent, c.downs.reason(done.sent.Cause))
	if t, ok := errors.AsType[*TruncatedError](err); ok {
		if t.ZeroBytes == 0 {
			return n, false, nil // to a copy that is its end
		}
		// Zeros that never were in the file may be the end of what the peer waits for,
		// and who copies may not look at errors, as net/http does not.
		c.reset()
	}
	if err != nil {
		return n, false, senderError(err)
	}
	return n, n > 0 && st.Size() > 0, nil
}

// maps reports whether the Sender may lend a mapping of the file.
func (c *Conn) maps(s *Sender, o *FileOptions) bool {
	way := o.Backend
	if way == "" {
		way = c.o.Sender.Backend
	}
	if way != MmapZerocopy && (way != "" || o.Mappings == nil && o.Mapping.region == nil) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.zc.refused
}

// tailApart returns how many of the bytes that are left of a range go first, and has
// the last be copied. If a file is made shorter by less than a page while it is lent,
// the page that has its end has zeros after it, all of the range is sent, and nothing
// tells the peer. Read at last, the end is what was there, or it is missing.
func tailApart(o *FileOptions, left int64) int64 {
	if left <= smallFile {
		o.Backend, o.Mappings, o.Mapping = ReadWrite, nil, Mapping{}
		return left
	}
	return left - smallFile
}

// senderError keeps errors of the library as they are, and gives those of calls the
// form that they have in package net.
func senderError(err error) error {
	if _, ok := errors.AsType[*SourceChangingError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*TruncatedError](err); ok {
		return err
	}
	return callError("sendfile", err)
}

// appendReason is why the kernel neither splices nor copies to a file.
const appendReason = "the target is open with O_APPEND"

func (f *fileSink) appends() bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var flags int
	cerr := raw.Control(func(fd uintptr) { flags, err = kernelCalls().StatusFlags(int(fd)) })
	return cerr == nil && err == nil && flags&sys.OpenAppend != 0
}

// takeFile copies from file to file in the kernel.
func (f *fileSink) takeFile(x *copying, src *os.File, at, most int64) (n int64, done bool, err error) {
	from, fromErr := src.Stat()
	to, toErr := f.Stat()
	if fromErr != nil || toErr != nil {
		return 0, false, nil // reading and writing say so
	}
	if !from.Mode().IsRegular() || !to.Mode().IsRegular() {
		if at >= 0 {
			return 0, false, nil
		}
		if x.told {
			x.came(fileName(src))
		}
		return f.takeStream(x, src, most)
	}
	x.came("file")
	off := at
	if at < 0 {
		if off, err = src.Seek(0, io.SeekCurrent); err != nil {
			return 0, false, nil
		}
	}
	out, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, false, nil
	}
	done = true
	for n < most {
		want := int64(-1)
		if most != unbounded {
			want = most - n
		}
		r, cerr := CopyFile(context.Background(), f.File, src, off+n, out+n, want, CopyOptions{OnDowngrade: f.downs.hear})
		n += r.Bytes
		x.add(r, f.downs.reason(r.Cause))
		if _, ok := errors.AsType[*TruncatedError](cerr); ok {
			break // to a copy that is its end
		}
		if cerr != nil {
			if done = n > 0; done {
				err = callError("copy_file_range", cerr)
			} else {
				reason := "the kernel does not copy between the two"
				if f.appends() {
					reason = appendReason
				}
				x.add(Result{Backend: ReadWrite, Cause: "fast-path-refused"}, reason)
			}
			break
		}
		if r.Bytes == 0 || most != unbounded {
			break
		}
	}
	if n > 0 {
		if at < 0 {
			_, serr := src.Seek(off+n, io.SeekStart)
			err = errors.Join(err, serr)
		}
		_, serr := f.Seek(out+n, io.SeekStart)
		err = errors.Join(err, serr)
	}
	return n, done, err
}
