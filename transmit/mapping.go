package transmit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// A Mapping is a reference to a file, or a range of one, that is mapped for
// sending: read-only and shared, so that what is sent are the pages of the page
// cache. It is a value, which [Mapping.Release] ends; the file stays mapped until
// the last reference is released and the last send from it completed.
//
// The program must not touch the mapped bytes: reading them when the file was made
// shorter, or its disk fails, is SIGBUS, which ends the program. They are for
// system calls, which answer EFAULT. A file that is made shorter while it is sent
// sends zeros to the end of its last page (explain truncated-tail): whoever sends
// looks at its size afterwards.
//
// A mapping does not keep the *os.File that it was made from, nor what depends on
// it, such as its flock(2). It does keep the file: a file that was removed frees
// its disk, and a file system can be unmounted, once it is unmapped.
type Mapping struct {
	region *region
	ref    int
	gen    uint64
}

// region is a mapped part of a file.
type region struct {
	mem     []byte
	start   int64 // position in the file of mem's first byte: a multiple of the page size
	off     int64 // range of the file, in which start is rounded down
	size    int64
	id      fileID
	told    bool            // mincore tells the truth of this file
	faulted []atomic.Uint64 // a bit for each faultChunk of mem that was faulted in
	ops     mappingOps

	mu    sync.Mutex
	refs  []uint64 // generation of each reference, odd while it is held
	spare []int    // indexes of refs that are not held
	loans int
}

// fileID tells one state of a file from another. An inode cannot be another file's
// while it is mapped. The times catch a file of a stacked file system, whose
// content can move to another inode beneath (overlayfs, copy-up).
type fileID struct {
	device, inode uint64
	size          int64
	mtime, ctime  int64
}

// A SourceError says that a file is none that can be mapped, and what it is.
type SourceError struct {
	Name string
	Kind string // "a directory"
	// Err matches errors.ErrUnsupported, or fs.ErrPermission where the file was
	// not opened for reading, or is what the kernel answered.
	Err error
}

// Error says what the file is.
func (e *SourceError) Error() string { return fmt.Sprintf("map %s: %s: %v", e.Name, e.Kind, e.Err) }

// Unwrap returns why it cannot be mapped.
func (e *SourceError) Unwrap() error { return e.Err }

// MapFile maps a whole regular file of any size, which must be open for reading;
// an empty one as well. It reads nothing. Errors: [*SourceError]; what open(2) and
// mmap(2) answer; errors.ErrUnsupported outside of Linux.
func MapFile(f *os.File) (Mapping, error) {
	r, err := newMappingOps().mapFile(f, 0, -1)
	if err != nil {
		return Mapping{}, err
	}
	return r.acquire(), nil
}

// MapFileRange maps n bytes of a file from off on. A range that is not all within
// the file is an error that holds a [*TruncatedError].
func MapFileRange(f *os.File, off, n int64) (Mapping, error) {
	if off < 0 || n < 0 || off+n < 0 {
		return Mapping{}, fmt.Errorf("map %s: %d bytes at %d are no range", f.Name(), n, off)
	}
	r, err := newMappingOps().mapFile(f, off, n)
	if err != nil {
		return Mapping{}, err
	}
	return r.acquire(), nil
}

// errNoMapping is what a Mapping answers after Release.
var errNoMapping = errors.New("transmit: mapping used after its release")

// acquire makes a reference.
func (r *region) acquire() Mapping {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acquireLocked()
}

func (r *region) acquireLocked() Mapping {
	var i int
	if n := len(r.spare); n > 0 {
		i, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		i, r.refs = len(r.refs), append(r.refs, 0)
	}
	r.refs[i]++
	return Mapping{region: r, ref: i, gen: r.refs[i]}
}

// lock locks the region of a reference that is held, and panics on another.
func (m Mapping) lock() *region {
	r := m.region
	if r == nil {
		panic(errNoMapping)
	}
	r.mu.Lock()
	if r.refs[m.ref] != m.gen {
		r.mu.Unlock()
		panic(errNoMapping)
	}
	return r
}

// Acquire makes another reference, to be released on its own. Like all methods it
// panics after Release, and may be called by several goroutines at a time.
func (m Mapping) Acquire() Mapping {
	r := m.lock()
	defer r.mu.Unlock()
	return r.acquireLocked()
}

// Release ends the reference. The kernel may still be sending from it.
func (m Mapping) Release() {
	r := m.lock()
	r.refs[m.ref]++
	r.spare = append(r.spare, m.ref)
	r.unlockUnmap()
}

// unlockUnmap unlocks, and unmaps what nobody needs any more.
func (r *region) unlockUnmap() {
	idle := r.loans == 0 && len(r.spare) == len(r.refs)
	mem := r.mem
	if idle {
		r.mem = nil
	}
	r.mu.Unlock()
	if idle && len(mem) > 0 {
		// It fails only where the kernel has no memory to split a mapping, which
		// this does not do.
		_ = r.ops.unmap(mem)
	}
}

// lend gives the memory to the kernel, until the region's method returned is
// called, once.
func (m Mapping) lend() (*region, error) {
	r := m.region
	if r == nil {
		return nil, errNoMapping
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refs[m.ref] != m.gen {
		return nil, errNoMapping
	}
	r.loans++
	return r, nil
}

// returned says that the kernel has let go of the memory, once for each loan. What
// it still reads of an abandoned loan are pages of the file, which are no mapping's
// to take away.
func (r *region) returned(bool) {
	r.mu.Lock()
	if r.loans == 0 {
		r.mu.Unlock()
		panic("transmit: a mapping came back that was not lent")
	}
	r.loans--
	r.unlockUnmap()
}

// Offset is the position in the file of the first byte mapped.
func (m Mapping) Offset() int64 { r := m.lock(); defer r.mu.Unlock(); return r.off }

// Size is the number of bytes mapped: the file's when it was mapped.
func (m Mapping) Size() int64 { r := m.lock(); defer r.mu.Unlock(); return r.size }

// Bytes returns n bytes from the position off in the file, to be handed to system
// calls and not to be touched. They stay mapped until Release, and for sends that
// are not completed then, until they are.
func (m Mapping) Bytes(off, n int64) ([]byte, error) {
	r := m.lock()
	defer r.mu.Unlock()
	return r.bytes(off, n)
}

func (r *region) bytes(off, n int64) ([]byte, error) {
	if off < r.off || n < 0 || off-r.off > r.size-n {
		return nil, fmt.Errorf("%d bytes at %d are not among the %d bytes mapped at %d", n, off, r.size, r.off)
	}
	i := off - r.start
	return r.mem[i : i+n : i+n], nil
}

// pages widens a part of the mapping to whole pages.
func (r *region) pages(off, n int64, page int) ([]byte, error) {
	if _, err := r.bytes(off, n); err != nil || n == 0 {
		return nil, err
	}
	i := int(off - r.start)
	end := min(roundUp(i+int(n), page), len(r.mem))
	return r.mem[i/page*page : end], nil
}
