package transmit

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// mappedBytes is the most that is sent from a mapping between two looks at the size
// of the file.
const mappedBytes = 1 << 20

// mappingPays reports whether the range should be lent from a mapping.
func (s *Sender) mappingPays() bool {
	fs := s.file
	if fs.o.Mapping.region == nil && fs.o.Mappings == nil || s.kind != kindTCP || fs.end == noEnd || fs.end-fs.pos < int64(max(MappedThreshold, s.o.Threshold)) {
		return false
	}
	if s.zc.refused {
		s.job.mapped = true
		s.noteCause(MsgZerocopy, Write, s.zc.cause, s.zc.reason, s.zc.err, s.zc.expected)
		s.job.mapped = false
		return false
	}
	return true
}

// openMapping finds the mapping to send from, and goes on by another way if there is
// none.
func (s *Sender) openMapping() {
	fs, j := s.file, &s.job
	fs.now = fs.way
	if z := &s.zc; z.refused && fs.way == MmapZerocopy {
		s.refuse(z.cause, z.reason, z.err)
		return
	}
	m, err := s.findMapping()
	if err != nil {
		s.refuse("", "the file is not mapped", err)
		return
	}
	// Until the kernel has let go of it, whoever releases the rest.
	lent, err := m.lend()
	if err != nil {
		m.Release()
		s.refuse("", "the file is not mapped", err)
		return
	}
	s.mu.Lock()
	s.led.charge(j.entry, lent)
	s.mu.Unlock()
	fs.mapping, fs.size = m, fs.end
	if fs.way == MmapZerocopy {
		j.mapped = true
		if fs.asked {
			j.least = int(min(max(fs.end-fs.start, 1), DefaultThreshold))
		}
	}
}

// findMapping returns a reference to a mapping that holds the range of the file.
func (s *Sender) findMapping() (Mapping, error) {
	fs := s.file
	switch {
	case fs.end == noEnd || fs.open:
		return Mapping{}, fmt.Errorf("its size is not known: %w", errors.ErrUnsupported)
	case fs.o.Mapping.region != nil:
		return fs.o.Mapping.holding(fs.stat, fs.start, fs.end-fs.start)
	case fs.o.Mappings == nil:
		return MapFileRange(fs.file, fs.start, fs.end-fs.start)
	}
	m, err := fs.o.Mappings.Lookup(fs.file)
	if err == nil && m.Size() < fs.end { // it was made shorter just now
		m.Release()
		return Mapping{}, fmt.Errorf("it was made shorter: %w", syscall.EAGAIN)
	}
	return m, err
}

// holding returns another reference if the mapping is one of the file as it is now,
// and holds n bytes at off of it. A stacked file system may have moved the content
// of a file that changed to where the mapping is not.
func (m Mapping) holding(st sys.Stat, off, n int64) (Mapping, error) {
	if id := m.region.id; id != (fileID{}) && id != idOf(st) { // a sealed image has none, and does not change
		if id.device != st.Device || id.inode != st.Inode {
			return Mapping{}, errors.New("the mapping is of another file")
		}
		return Mapping{}, errors.New("the file changed after it was mapped")
	}
	if _, err := m.Bytes(off, n); err != nil {
		return Mapping{}, err
	}
	return m.Acquire(), nil
}

// lends reports whether the next piece can be lent from the mapping; if not it is
// to go another way.
func (s *Sender) lends(fd int) bool {
	fs := s.file
	if fs.detour > fs.pos {
		return false
	}
	n := fs.left(mappedBytes)
	s.mu.Lock()
	may := s.lendable(fd, maxInt, n) > 0
	s.mu.Unlock()
	if !may {
		fs.bypass(mappedBytes)
		return false
	}
	// Cold pages would hold up this thread in the middle of a send, with the
	// connection's account locked.
	there, err := fs.mapping.Resident(fs.file, fs.pos, int64(n))
	if err == nil && there == int64(n) {
		return true
	}
	// What follows can be read from the disk meanwhile. It is a hint.
	_ = fs.mapping.Prefetch(fs.pos, int64(fs.left(pieceBytes)))
	s.noteCause(MsgZerocopy, Write, "cold-file", "the file is not in memory", err, true)
	fs.bypass(n)
	return false
}

// bypass makes the next n bytes go another way than mmap_zerocopy.
func (fs *fileSend) bypass(n int) { fs.detour = fs.pos + int64(n) }

// byMapping sends a piece from the mapping, lent or copied.
func (s *Sender) byMapping(fd int) verdict {
	fs, j := s.file, &s.job
	n := min(int64(fs.left(mappedBytes)), fs.size-fs.pos)
	if n <= 0 {
		return s.ended()
	}
	if err := fs.mapping.FaultIn(fs.pos, n); err != nil {
		return s.faulted(err)
	}
	window, err := fs.mapping.Bytes(fs.pos, n)
	if err != nil {
		j.err = err
		return finish
	}
	var v verdict
	var of int
	if fs.now == MmapWrite {
		v, of = s.copyParts(fd, window)
	} else {
		j.plain = 0
		if v, of = s.sendParts(fd, window); j.plain > 0 {
			// The kernel has no memory for it now.
			fs.bypass(j.plain)
			j.plain = 0
		}
	}
	if errors.Is(j.err, syscall.EFAULT) {
		err, j.err = j.err, nil
		return s.faulted(err)
	}
	if of > 0 && !fs.o.Immutable && j.err == nil {
		// Past a new end of the file a send fails, but the rest of its last page goes
		// out as zeros.
		if st, err := s.calls.Fstat(fs.src); err != nil || st.Size < fs.pos {
			if j.err = err; err == nil {
				return s.ended()
			}
			return finish
		}
	}
	return v
}

// faulted decides what to do where the kernel cannot read or pin the mapping.
func (s *Sender) faulted(err error) verdict {
	fs, j := s.file, &s.job
	st, serr := s.calls.Fstat(fs.src)
	switch {
	case serr != nil:
		j.err = serr
		return finish
	case st.Size <= fs.pos:
		return s.ended()
	case st.Size < fs.size:
		fs.size = st.Size
		return goOn
	}
	if _, rerr := s.peek(); rerr != nil {
		j.err = rerr // from the disk
		return finish
	}
	return s.refuse("gup-efault", "the pages of the mapping cannot be taken", err)
}
