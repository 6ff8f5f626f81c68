package sys

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File types in [FileInfo].Mode, under ModeType; linux/stat.h.
const (
	ModeType    = unix.S_IFMT
	ModeRegular = unix.S_IFREG
	ModeDir     = unix.S_IFDIR
	ModeFIFO    = unix.S_IFIFO
	ModeSocket  = unix.S_IFSOCK
	ModeBlock   = unix.S_IFBLK
	ModeChar    = unix.S_IFCHR
)

// Attributes in [FileInfo].Attributes; linux/stat.h.
const (
	AttrImmutable = unix.STATX_ATTR_IMMUTABLE
	AttrVerity    = unix.STATX_ATTR_VERITY
	AttrDAX       = unix.STATX_ATTR_DAX
)

// FileInfo is what statx(2) says of an open file.
type FileInfo struct {
	Mode       uint32
	UID        uint32
	Size       uint64 // bytes
	Inode      uint64
	Device     uint64
	MtimeSec   int64
	MtimeNsec  uint32
	Attributes uint64 // Attr*; those that the file system knows are in Mask
	Mask       uint64
}

// Fstatx describes an open file, also one that was opened by [OpenPath]; Linux
// 4.11.
func Fstatx(fd int) (FileInfo, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return FileInfo{}, Wrap("statx", err)
	}
	return FileInfo{Mode: uint32(st.Mode), UID: st.Uid, Size: st.Size, Inode: st.Ino,
		Device: unix.Mkdev(st.Dev_major, st.Dev_minor), MtimeSec: st.Mtime.Sec, MtimeNsec: st.Mtime.Nsec,
		Attributes: st.Attributes, Mask: st.Attributes_mask}, nil
}

// Stat is what fstat(2) says of an open file: less than statx, and allowed where
// a filter does not know statx.
type Stat struct {
	Mode          uint32 // type under ModeType, and permissions
	Device, Inode uint64
	Size          int64 // bytes
	Allocated     int64 // bytes on the medium, by whole blocks
	UID           uint32
	Mtime, Ctime  int64 // of the last change of content, and of anything, in ns since 1970
}

// Fstat describes an open file.
func Fstat(fd int) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Stat{}, Wrap("fstat", err)
	}
	return Stat{Mode: st.Mode, Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Allocated: st.Blocks * statBlock,
		UID: st.Uid, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}, nil
}

// statBlock is the unit of st_blocks, whatever the file system's blocks are; stat(2).
const statBlock = 512

// Flags of [StatusFlags].
const (
	OpenAppend   = unix.O_APPEND
	OpenDirect   = unix.O_DIRECT
	OpenNonblock = unix.O_NONBLOCK
	OpenPathOnly = unix.O_PATH
	OpenAccess   = unix.O_ACCMODE // mask of OpenRead, OpenWrite and O_RDWR
	OpenRead     = unix.O_RDONLY
)

// StatusFlags returns how a descriptor is open; F_GETFL.
func StatusFlags(fd int) (int, error) {
	f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return f, Wrap("fcntl F_GETFL", err)
}

// Seek sets the descriptor's position, and returns it.
func Seek(fd int, off int64) (int64, error) {
	n, err := unix.Seek(fd, off, unix.SEEK_SET)
	return n, Wrap("lseek", err)
}

// SeekData moves the descriptor's position to the first byte at or after off that
// is not in a hole, and returns it; ENXIO if only a hole or nothing follows.
// Linux 3.1.
func SeekData(fd int, off int64) (int64, error) {
	n, err := unix.Seek(fd, off, unix.SEEK_DATA)
	return n, Wrap("lseek SEEK_DATA", err)
}

// SeekHole moves the descriptor's position to the first hole at or after off, the
// end of the file if there is none, and returns it. Linux 3.1.
func SeekHole(fd int, off int64) (int64, error) {
	n, err := unix.Seek(fd, off, unix.SEEK_HOLE)
	return n, Wrap("lseek SEEK_HOLE", err)
}

// FSMagic returns the f_type of the file system that an open file is on;
// linux/magic.h.
func FSMagic(fd int) (int64, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	return int64(st.Type), Wrap("fstatfs", err)
}

// OpenDir opens a directory to be listed.
func OpenDir(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	return fd, Wrap("open "+name, err)
}

// OpenPath opens name in the directory dir without opening what it stands for:
// no driver, no writer at the other end of a FIFO, no lease notices. A symbolic
// link is not followed.
func OpenPath(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return fd, Wrap("openat O_PATH", err)
}

// Flags of [Reopen].
const (
	OpenNoAtime   = unix.O_NOATIME // EPERM unless the file is ours
	OpenDirectory = unix.O_DIRECTORY
	OpenWrite     = unix.O_WRONLY
)

// Reopen opens anew, for reading unless flags say otherwise, what an open
// descriptor stands for: that file and no other that has taken its name. It
// needs /proc.
func Reopen(fd, flags int) (int, error) {
	n, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	return n, Wrap("open", err)
}

// CreateFile makes a file in the directory dir, for reading and writing; EEXIST
// if there is one of that name.
func CreateFile(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	return fd, Wrap("openat O_CREAT", err)
}

// Unlink removes a file from the directory dir.
func Unlink(dir int, name string) error { return Wrap("unlinkat", unix.Unlinkat(dir, name, 0)) }

// CachedPages returns how many pages of a file are in the page cache, dirty and
// under writeback included; cachestat(2), Linux 6.5. On newer kernels EPERM
// unless the file is ours or may be written.
func CachedPages(fd int) (uint64, error) {
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &unix.CachestatRange{}, &st, 0)
	return st.Cache, Wrap("cachestat", err)
}

// CachedRange is [CachedPages] of a range of bytes; not with n 0, which means to
// the end.
func CachedRange(fd int, off, n int64) (uint64, error) {
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0)
	return st.Cache, Wrap("cachestat", err)
}

// PreadNowait reads at an offset what is in memory, and answers EAGAIN where a disk
// would have to be read; preadv2(2) with RWF_NOWAIT, Linux 4.14. EOPNOTSUPP where
// the file system cannot tell.
func PreadNowait(fd int, p []byte, off int64) (int, error) {
	iov := unix.Iovec{Base: unsafe.SliceData(p)}
	iov.SetLen(len(p))
	// The offset goes in two halves for systems of 32 bits; where a register holds
	// all of it the second is not looked at (pos_from_hilo).
	n, _, e := unix.Syscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&iov)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	if e != 0 {
		return 0, wrapTransfer("preadv2", e)
	}
	return int(n), nil
}

// MayWrite reports, by its error, whether the process may write a file by its
// permissions, however it is open. It needs /proc; faccessat(2).
func MayWrite(fd int) error {
	return Wrap("faccessat", unix.Faccessat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.W_OK, unix.AT_EACCESS))
}

// Mincore says of each page of a mapping, made by [Mmap], whether it is in
// memory: bit 0 of one byte each. Since Linux 5.2 all pages seem to be, unless
// the mapped file is ours or may be written.
func Mincore(mapping, pages []byte) error {
	if len(mapping) == 0 || len(pages) == 0 {
		return nil
	}
	_, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(mapping))), uintptr(len(mapping)),
		uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if e != 0 {
		return Wrap("mincore", e)
	}
	return nil
}

// Clone makes the file to share the extents of the file from; FICLONE, Linux
// 4.5. EOPNOTSUPP where the file system cannot.
func Clone(to, from int) error { return Wrap("ioctl FICLONE", unix.IoctlFileClone(to, from)) }

// CloneRange makes n bytes of the file to, at toOff, share the extents of the file
// from at fromOff; FICLONERANGE, Linux 4.5. The range is a multiple of the file
// system's blocks, or ends where from ends; n 0 means to the end of from.
func CloneRange(to int, toOff int64, from int, fromOff, n int64) error {
	return Wrap("ioctl FICLONERANGE", unix.IoctlFileCloneRange(to, &unix.FileCloneRange{
		Src_fd: int64(from), Src_offset: uint64(fromOff), Src_length: uint64(n), Dest_offset: uint64(toOff)}))
}
