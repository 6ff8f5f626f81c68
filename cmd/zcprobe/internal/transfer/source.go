package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// A Source is what is sent.
type Source struct {
	Kind transmit.SourceKind
	// Device says that the bytes come from a device or a terminal, which are read
	// like a pipe.
	Device bool

	Name   string
	File   *os.File // nil: memory
	Offset int64
	Length int64 // -1: until it ends

	BufferBytes int64 // of memory: what each send hands over
	Repeat      int64 // how many sends
}

// The bounds of generated memory: what a run may ask of the host.
const (
	MostBufferBytes = 1 << 30
	memoryAhead     = 64 << 20 // buffers in flight, at most, beside the first two
)

// MemorySource generates repeat buffers of so many bytes.
func MemorySource(bytes, repeat int64) Source {
	return Source{Kind: transmit.SourceMemory, Name: "memory", Length: bytes * repeat, BufferBytes: bytes, Repeat: repeat}
}

// A FileError says what is wrong with a file that is sent or written.
type FileError struct {
	Name string
	Err  error
}

// Error names the file.
func (e *FileError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

func fileError(name string, err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return &FileError{Name: name, Err: err}
}

// OpenSource opens a file of which length bytes from offset on are to be sent; -1
// is all there are.
func OpenSource(ctx context.Context, name string, offset, length int64) (Source, error) {
	f, err := open(ctx, name)
	if err != nil {
		return Source{}, fileError(name, err)
	}
	s, err := FileSource(f, name, offset, length)
	if err != nil {
		f.Close()
	}
	return s, err
}

// open opens a file for reading. Opening a FIFO waits for a writer, and ctx ends
// that wait.
func open(ctx context.Context, name string) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.Open(name)
		done <- opened{f, err}
	}()
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// FileSource makes a source of an open file, which may be standard input. The
// range of a regular file is checked here, before anything is sent.
func FileSource(f *os.File, name string, offset, length int64) (Source, error) {
	st, err := f.Stat()
	if err != nil {
		return Source{}, fileError(name, err)
	}
	s := Source{File: f, Name: name, Offset: offset, Length: length}
	switch mode := st.Mode(); {
	case mode.IsDir():
		return Source{}, fileError(name, errors.New("is a directory"))
	case mode.IsRegular():
		s.Kind = transmit.SourceFile
		return s, s.setRange(st.Size(), name)
	case mode&fs.ModeNamedPipe != 0:
		s.Kind = transmit.SourcePipe
	case mode&fs.ModeSocket != 0:
		s.Kind = transmit.SourceSocket
	default:
		s.Kind, s.Device = transmit.SourcePipe, true
	}
	if offset != 0 {
		return Source{}, fileError(name, errors.New("only a regular file can be sent from an offset on"))
	}
	return s, nil
}

// setRange checks the range of a regular file. Standard input goes on where it
// stands. Files that the kernel makes up as they are read have no size.
func (s *Source) setRange(size int64, name string) error {
	if name == Stdio {
		at, err := s.File.Seek(0, io.SeekCurrent)
		if err != nil {
			return fileError(name, err)
		}
		s.Offset += at
	}
	switch {
	case size == 0 && s.Length < 0 && s.Offset == 0:
		return nil
	case s.Offset > size:
		return fileError(name, fmt.Errorf("offset %d is beyond its end at %d", s.Offset, size))
	case s.Length < 0:
		s.Length = size - s.Offset
	case s.Length > size-s.Offset:
		return fileError(name, fmt.Errorf("%d bytes from offset %d on are asked for, and it ends after %d", s.Length, s.Offset, size-s.Offset))
	}
	return nil
}

// Stdio names standard input and output.
const Stdio = "-"

// Info describes the source.
func (s *Source) Info() SourceInfo {
	i := SourceInfo{Kind: string(s.Kind), Name: s.Name, OffsetBytes: s.Offset}
	if s.Device {
		i.Kind = "device"
	}
	if s.Length >= 0 {
		i.LengthBytes = &s.Length
	}
	if s.Kind == transmit.SourceMemory {
		i.SendBytes = &s.BufferBytes
	}
	return i
}

// Close closes the file.
func (s *Source) Close() error {
	if s.File == nil || s.Name == Stdio {
		return nil
	}
	return s.File.Close()
}

// pollSlice is how long the end of a context goes unseen while a file is waited for.
const pollSlice = 100 * time.Millisecond

// awaitInput waits until a read of f would not block.
func awaitInput(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var got int16
		var perr error
		if err := raw.Control(func(fd uintptr) {
			got, perr = sys.Poll(int(fd), sys.PollIn, int(pollSlice/time.Millisecond))
		}); err != nil {
			return err
		}
		if got != 0 || perr != nil && !interrupted(perr) {
			return nil // the read says what is wrong
		}
	}
}
