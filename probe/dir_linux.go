package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const (
	dirPatience    = 20 * time.Second // a dead file server blocks whoever looks
	dirEntriesMost = 1024             // of one directory
	dirsMost       = 32               // directories, the one that was given included
	dirDepth       = 2
	dirLookMost    = 256     // files whose size, cache and attributes are read
	dirTryMost     = 8       // files that are sent and compared
	dirTryBytes    = 1 << 20 // of each, from its beginning
)

// readDir looks at a directory that files are served from. Existing files are
// read only; with write, temporary files without a name are made and go with
// their descriptors.
func readDir(ctx context.Context, s *sources, dir string, write bool) DirFacts {
	return readDirWithin(ctx, s, dir, write, dirPatience)
}

func readDirWithin(ctx context.Context, s *sources, dir string, write bool, patience time.Duration) DirFacts {
	done := make(chan DirFacts, 1)
	go func() {
		// Not on the probing thread: it has no use for a network namespace, and
		// may hang in a file system whose server does not answer. Then it stays
		// behind; a process cannot end before such a call does.
		r := dirReader{ctx: ctx, s: s, f: DirFacts{Path: dir, Options: []string{}, SuperOptions: []string{},
			Outcomes: []Outcome{}, Errors: []string{}}}
		r.run(dir, write)
		done <- r.f
	}()
	select {
	case f := <-done:
		return f
	case <-ctx.Done():
	case <-time.After(patience):
	}
	return DirFacts{Path: dir, Options: []string{}, SuperOptions: []string{}, Outcomes: []Outcome{}, Errors: []string{},
		Error: fmt.Sprintf("the file system did not answer within %v", patience)}
}

type dirReader struct {
	ctx    context.Context
	s      *sources
	f      DirFacts
	fd     int
	device uint64
	dirs   int // opened so far

	sendfile, splice sendTally
}

func (r *dirReader) errorf(format string, args ...any) {
	r.f.Errors = append(r.f.Errors, oneLine(fmt.Sprintf(format, args...)))
}

func (r *dirReader) run(dir string, write bool) {
	fd, err := sys.OpenDir(dir)
	if err != nil {
		r.f.Error, r.f.Errno = err.Error(), sys.ErrnoName(err)
		return
	}
	defer sys.Close(fd)
	r.fd = fd
	info, err := sys.Fstatx(fd)
	if err != nil {
		r.f.Error, r.f.Errno = err.Error(), sys.ErrnoName(err)
		return
	}
	r.device = info.Device
	r.mount()
	if fsKindOf(&r.f) != fsPseudo { // to read a file there may do something
		r.list(fd, 0)
	}
	r.f.Outcomes = append(r.f.Outcomes, r.sendfile.outcome("dir.sendfile"), r.splice.outcome("dir.splice"))
	r.f.Outcomes = append(r.f.Outcomes, r.writeTests(write)...)
}

// mount names the file system.
func (r *dirReader) mount() {
	var err error
	if r.f.FSMagic, err = sys.FSMagic(r.fd); err != nil {
		r.errorf("%v", err)
	}
	b, err := readBounded(r.s.proc, fmt.Sprintf("self/fdinfo/%d", r.fd), 4096)
	var id int
	if err == nil {
		id, err = parseMountID(b)
	}
	if err == nil {
		b, err = readBounded(r.s.proc, "self/mountinfo", mountFileMost)
	}
	if err != nil {
		r.errorf("mount: %v", err)
		return
	}
	m, ok := findMount(b, id)
	if !ok {
		r.errorf("mount: no mount %d in mountinfo", id)
		return
	}
	r.f.FSType, r.f.Mount, r.f.Options, r.f.SuperOptions = m.fsType, m.point, m.options, m.superOptions
}

// list goes through the regular files of a directory, those below it when
// there are not enough to try. Symbolic links and other file systems are left
// out.
func (r *dirReader) list(fd, depth int) {
	entries := r.entries(fd)
	var below []string
	for _, e := range entries {
		if r.ctx.Err() != nil {
			return
		}
		switch {
		case e.IsDir():
			below = append(below, e.Name())
		case e.Type().IsRegular():
			r.file(fd, e.Name())
		}
	}
	for _, name := range below {
		r.dirs++
		if depth == dirDepth || r.dirs >= dirsMost || r.f.FilesTried >= dirTryMost || r.ctx.Err() != nil {
			r.f.More = true
			return
		}
		r.below(fd, name, depth+1)
	}
}

// entries reads the first entries of a directory, by name.
func (r *dirReader) entries(fd int) []fs.DirEntry {
	dup, err := sys.Reopen(fd, sys.OpenDirectory|sys.OpenNoAtime) // its position is its own
	if err != nil {
		dup, err = sys.Reopen(fd, sys.OpenDirectory) // not ours
	}
	if err != nil {
		r.errorf("list: %v", err)
		return nil
	}
	// By this name, ReadDir finds the types that a file system does not tell.
	f := os.NewFile(uintptr(dup), fmt.Sprintf("/proc/self/fd/%d", dup))
	defer f.Close()
	entries, err := f.ReadDir(dirEntriesMost)
	if err != nil && len(entries) == 0 && !errors.Is(err, io.EOF) {
		r.errorf("list: %v", err)
	}
	r.f.More = r.f.More || len(entries) == dirEntriesMost
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries
}

func (r *dirReader) below(dir int, name string, depth int) {
	path, err := sys.OpenPath(dir, name)
	if err != nil {
		return // gone, or not for us
	}
	defer sys.Close(path)
	if info, err := sys.Fstatx(path); err != nil || info.Mode&sys.ModeType != sys.ModeDir || info.Device != r.device {
		return
	}
	fd, err := sys.Reopen(path, sys.OpenDirectory)
	if err != nil {
		return
	}
	defer sys.Close(fd)
	r.list(fd, depth)
}

// file looks at one file of a directory, if it is a regular one.
func (r *dirReader) file(dir int, name string) {
	path, err := sys.OpenPath(dir, name)
	if err != nil {
		return // gone
	}
	defer sys.Close(path)
	info, err := sys.Fstatx(path)
	if err != nil || info.Mode&sys.ModeType != sys.ModeRegular || info.Device != r.device {
		return
	}
	r.f.FilesSeen++
	if r.f.FilesLooked >= dirLookMost {
		return
	}
	fd, err := sys.Reopen(path, sys.OpenNoAtime)
	if err != nil {
		fd, err = sys.Reopen(path, 0) // not ours
	}
	if err != nil {
		r.f.FilesDenied++
		return
	}
	defer sys.Close(fd)
	r.look(fd, info)
	if info.Size > 0 && r.f.FilesTried < dirTryMost {
		r.f.FilesTried++
		r.compare(fd, info)
	}
}

// look reads what can be told without reading the file.
func (r *dirReader) look(fd int, info sys.FileInfo) {
	r.f.FilesLooked++
	r.f.FileBytes += info.Size
	if info.Attributes&(sys.AttrImmutable|sys.AttrVerity) != 0 {
		r.f.Immutable++
	}
	if info.Attributes&sys.AttrDAX != 0 {
		r.f.DAX++
	}
	cached, source, err := cachedBytes(fd, info)
	if err != nil {
		if len(r.f.Errors) == 0 {
			r.errorf("page cache: %v", err)
		}
		return
	}
	r.f.CacheKnownBytes += info.Size
	r.f.CacheBytes += min(cached, info.Size)
	switch r.f.CacheSource {
	case "", source:
		r.f.CacheSource = source
	default:
		r.f.CacheSource = "cachestat, mincore"
	}
}

// mincoreMost bounds the mapping that mincore is asked about.
const mincoreMost = 1 << 30

// cachedBytes returns how much of a file is in the page cache.
func cachedBytes(fd int, info sys.FileInfo) (n uint64, source string, err error) {
	if info.Size == 0 {
		return 0, "cachestat", nil
	}
	pages, err := sys.CachedPages(fd)
	if err == nil {
		return pages * uint64(os.Getpagesize()), "cachestat", nil
	}
	// Where mincore may not tell, it says that everything is there.
	if uid := os.Geteuid(); uid != 0 && uint32(uid) != info.UID || info.Size > mincoreMost {
		return 0, "", err
	}
	n, mErr := mincoreBytes(fd, info.Size)
	if mErr != nil {
		return 0, "", errors.Join(err, mErr)
	}
	return n, "mincore", nil
}

// mincoreBytes is cachedBytes for kernels before 6.5.
func mincoreBytes(fd int, size uint64) (n uint64, err error) {
	page := uint64(os.Getpagesize())
	m, err := sys.Mmap(fd, 0, int(size), sys.ProtRead, sys.MapShared)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sys.Munmap(m)) }()
	there := make([]byte, (size+page-1)/page)
	if err := sys.Mincore(m, there); err != nil {
		return 0, err
	}
	for _, b := range there {
		n += uint64(b&1) * page
	}
	return n, nil
}
