package bench

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/transmit"
)

// A source is the file that is sent: without a name, and in the page cache.
type source struct {
	cold    int64
	dir     string
	f       *os.File
	mapping transmit.Mapping
	faulted bool
	at      int64
	where   string // for the report
}

// nameless makes a file that goes with its descriptor, however the process ends
// once it is made. Where none can be made, in a directory that is full or read
// only, it is in memory; where says which.
func nameless(dir string, size int64) (f *os.File, where string, err error) {
	f, err = os.CreateTemp(dir, ".zcprobe-bench-*")
	if err == nil {
		err = errors.Join(os.Remove(f.Name()), fill(f, size))
		if err == nil {
			return f, "a file in " + dir, nil
		}
		f.Close()
	}
	m, merr := sys.MemfdCreate("zcprobe-bench")
	if merr != nil {
		return nil, "", errors.Join(err, merr)
	}
	f = os.NewFile(uintptr(m), "zcprobe-bench")
	if merr := fill(f, size); merr != nil {
		return nil, "", errors.Join(err, merr, f.Close())
	}
	return f, fmt.Sprintf("a file in memory (memfd), as %v", err), nil
}

// fill writes bytes that are not all the same.
func fill(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7 >> 3)
	}
	for left := size; left > 0; left -= int64(len(block)) {
		if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) open(size int64) error {
	if s.f != nil {
		if st, err := s.f.Stat(); err != nil || st.Size() >= size {
			return err
		}
		if err := s.close(); err != nil {
			return err
		}
	}
	var err error
	s.f, s.where, err = nameless(s.dir, max(s.cold, 2*size))
	return err
}

// mapped returns the mapping of the whole file, kept and faulted in.
func (s *source) mapped() (transmit.Mapping, error) {
	if s.faulted {
		return s.mapping, nil
	}
	m, err := transmit.MapFile(s.f)
	if err != nil {
		return m, err
	}
	if err := m.FaultIn(0, m.Size()); err != nil {
		m.Release()
		return m, err
	}
	s.mapping, s.faulted = m, true
	return m, nil
}

// next returns the place of the piece whose turn it is.
func (s *source) next(heat transmit.CacheState, size int64) int64 {
	if heat == transmit.CacheHot {
		return 0
	}
	page := int64(os.Getpagesize())
	s.at += (size + page - 1) / page * page
	if s.at+size > s.cold {
		s.at = 0
	}
	return s.at
}

func (s *source) close() error {
	if s.faulted {
		s.mapping.Release()
	}
	var err error
	if s.f != nil {
		err = s.f.Close()
	}
	*s = source{cold: s.cold, dir: s.dir, where: s.where}
	return err
}

// copies are the files that are copied from and to. The target's pages are in the
// cache and its blocks are there from the second time round, as they are for whoever
// replaces a file.
type copies struct {
	dir      string
	from, to *os.File
	size     int64
	at       int64
}

func (c *copies) next(heat transmit.CacheState, size int64, b transmit.Backend) (func(context.Context) error, error) {
	all := max(copyBytes, 2*size)
	if c.size < all {
		if err := c.close(); err != nil {
			return nil, err
		}
		var err error
		if c.from, _, err = nameless(c.dir, all); err != nil {
			return nil, err
		}
		if c.to, _, err = nameless(c.dir, all); err != nil {
			return nil, err
		}
		c.size = all
	}
	return func(ctx context.Context) error {
		at := int64(0)
		if heat == transmit.CacheCold {
			page := int64(os.Getpagesize())
			if c.at += (size + page - 1) / page * page; c.at+size > c.size {
				c.at = 0
			}
			at = c.at
		}
		// OwnBlocks would forbid copy_file_range; cp does not ask for it either.
		r, err := transmit.CopyFile(ctx, c.to, c.from, at, at, size, transmit.CopyOptions{Backend: b, FillHoles: true})
		if err == nil && r.Backend != b {
			return fmt.Errorf("it went by %s", r.Backend)
		}
		return err
	}, nil
}

func (c *copies) close() error {
	var errs []error
	for _, f := range []*os.File{c.from, c.to} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	*c = copies{dir: c.dir}
	return errors.Join(errs...)
}
