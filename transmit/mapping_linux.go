package transmit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// mappingOps are the calls that a region is mapped and watched with.
type mappingOps struct{ calls *calls }

func newMappingOps() mappingOps { return mappingOps{kernelCalls()} }

// identify finds out which file f is, and in what state. It allocates nothing, as
// os.File.SyscallConn is inlined: its result and the function stay on the stack.
func (o mappingOps) identify(f *os.File) (fileID, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return fileID{}, err // nil was given
	}
	var st sys.Stat
	var flags int
	if e := rc.Control(func(fd uintptr) {
		if st, err = o.calls.Fstat(int(fd)); err == nil {
			flags, err = o.calls.StatusFlags(int(fd))
		}
	}); e != nil {
		err = fs.ErrClosed // the only reason, and by a name of the runtime's own
	}
	if err == nil {
		err = mappable(st, flags)
	}
	if err != nil {
		return fileID{}, named(f, err)
	}
	return idOf(st), nil
}

func idOf(st sys.Stat) fileID {
	return fileID{st.Device, st.Inode, st.Size, st.Mtime, st.Ctime}
}

// named gives an error of a file its name.
func named(f *os.File, err error) error {
	if e, ok := errors.AsType[*SourceError](err); ok {
		e.Name = f.Name()
		return e
	}
	return fmt.Errorf("map %s: %w", f.Name(), err)
}

// mappable returns a SourceError without a name for what is no regular file, or
// not open for reading.
func mappable(st sys.Stat, flags int) error {
	kind, err := "", errors.ErrUnsupported
	switch st.Mode & sys.ModeType {
	case sys.ModeRegular:
		if flags&sys.OpenPathOnly == 0 && flags&sys.OpenAccess != sys.OpenWrite {
			return nil
		}
		kind, err = "a file that is not open for reading", syscall.EACCES
	case sys.ModeDir:
		kind, err = "a directory", syscall.EISDIR
	case sys.ModeFIFO:
		kind = "a pipe"
	case sys.ModeSocket:
		kind = "a socket"
	case sys.ModeBlock:
		kind = "a block device"
	case sys.ModeChar:
		kind = "a character device"
	default:
		kind = "no regular file"
	}
	return &SourceError{Kind: kind, Err: err}
}

// mapFile maps n bytes, or with n negative the rest, of a file.
func (o mappingOps) mapFile(f *os.File, off, n int64) (r *region, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := rc.Control(func(fd uintptr) { r, err = o.mapDescriptor(int(fd), off, n) }); e != nil {
		err = fs.ErrClosed
	}
	if err != nil {
		return nil, named(f, err)
	}
	return r, nil
}

func (o mappingOps) mapDescriptor(fd int, off, n int64) (*region, error) {
	k := o.calls
	flags, err := k.StatusFlags(fd)
	if err != nil {
		return nil, err
	}
	st, err := k.Fstat(fd)
	if err != nil {
		return nil, err
	}
	if err := mappable(st, flags); err != nil {
		return nil, err
	}
	if n < 0 {
		n = max(st.Size-off, 0)
	}
	if off > st.Size-n {
		return nil, fmt.Errorf("%d bytes at %d of a file of %d: %w", n, off, st.Size, &TruncatedError{Want: n})
	}
	page := os.Getpagesize()
	start := off / int64(page) * int64(page)
	length := off - start + n
	if length > int64(maxInt-page) {
		return nil, fmt.Errorf("%d bytes: %w", length, syscall.EFBIG)
	}
	r := &region{start: start, off: off, size: n, id: idOf(st), ops: o}
	if err := r.open(fd, int(length), page); err != nil {
		return nil, err
	}
	r.told = int(st.UID) == os.Geteuid() || k.MayWrite(fd) == nil
	r.forgetFaults()
	return r, nil
}

// open maps the region by an open file of its own: as long as it is mapped, the
// caller's would keep its flock(2) locks after it was closed, and if it is open for
// writing, count as a writer. Where it may not be opened again it is the caller's.
func (r *region) open(fd, length, page int) error {
	k := r.ops.calls
	if own, err := k.Reopen(fd, sys.OpenRead); err == nil {
		// What is mapped stays open.
		defer k.Close(own)
		fd = own
	}
	mem, err := k.Map(nil, fd, r.start, max(length, page), sys.ProtRead, sys.MapShared)
	switch {
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EIO) && length == 0:
		// procfs, sysfs: files without pages, many of which say that they are empty.
		return &SourceError{Kind: "a file whose content is made when it is read", Err: errors.Join(errors.ErrUnsupported, err)}
	case errors.Is(err, syscall.ENOMEM):
		a := arena{calls: k}
		return a.refused(err, length)
	case err != nil:
		return err
	case length == 0:
		return k.Unmap(mem)
	}
	r.mem = mem[:length:length]
	return nil
}

func (o mappingOps) unmap(mem []byte) error { return o.calls.Unmap(mem) }
