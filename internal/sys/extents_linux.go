package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/fiemap.h and linux/fs.h.
const (
	fsIocFiemap = 0xc020660b // FS_IOC_FIEMAP

	// FiemapSync writes what is cached first, as FIEMAP_FLAG_SYNC.
	FiemapSync = 1
	// ExtentLast is the bit of the last extent of a file, FIEMAP_EXTENT_LAST.
	ExtentLast = 0x1
	// ExtentUnknown is the bit of an extent that lies nowhere yet, FIEMAP_EXTENT_UNKNOWN.
	ExtentUnknown = 0x2
	// ExtentShared is the bit of an extent that other files have too, FIEMAP_EXTENT_SHARED.
	ExtentShared = 0x2000
)

// An Extent is a part of a file that lies in one piece, as struct fiemap_extent.
type Extent struct {
	Logical, Physical, Length uint64 // bytes
	_                         [2]uint64
	Flags                     uint32
	_                         [3]uint32
}

// Extents returns the extents of a file, as many as there is room for in at. File
// systems without blocks, as tmpfs, answer EOPNOTSUPP.
func Extents(fd int, flags uint32, at []Extent) ([]Extent, error) {
	if len(at) == 0 {
		return nil, Wrap("ioctl FS_IOC_FIEMAP", unix.EINVAL)
	}
	type header struct { // struct fiemap
		start, length           uint64
		flags, mapped, count, _ uint32
	}
	const words = int(unsafe.Sizeof(header{}) / 8)
	each := int(unsafe.Sizeof(Extent{}) / 8)
	room := make([]uint64, words+len(at)*each)
	h := (*header)(unsafe.Pointer(&room[0]))
	h.length, h.flags, h.count = ^uint64(0), flags, uint32(len(at))
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(&room[0])))
	runtime.KeepAlive(room)
	if e != 0 {
		return nil, Wrap("ioctl FS_IOC_FIEMAP", e)
	}
	n := min(int(h.mapped), len(at))
	copy(at, unsafe.Slice((*Extent)(unsafe.Pointer(&room[words])), len(at)))
	return at[:n], nil
}
