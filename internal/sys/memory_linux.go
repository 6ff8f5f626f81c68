package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of [Map] beyond those of [Mmap].
const (
	MapFixed     = unix.MAP_FIXED
	MapNoreserve = unix.MAP_NORESERVE
	MapHugetlb   = unix.MAP_HUGETLB
	MapHuge2MB   = unix.MAP_HUGE_2MB // with MapHugetlb; Linux 3.8
)

// ProtNone is the protection of memory that may not be touched.
const ProtNone = unix.PROT_NONE

// Advice of [Madvise]; madvise(2).
const (
	AdviseHugepage      = unix.MADV_HUGEPAGE       // EINVAL in kernels without transparent huge pages
	AdviseNoHugepage    = unix.MADV_NOHUGEPAGE     // EINVAL there, too
	AdviseWillneed      = unix.MADV_WILLNEED       // read ahead; does not wait
	AdviseDontfork      = unix.MADV_DONTFORK       // children do not get it
	AdvisePopulateRead  = unix.MADV_POPULATE_READ  // Linux 5.14; EFAULT where touching would be SIGBUS
	AdvisePopulateWrite = unix.MADV_POPULATE_WRITE // Linux 5.14
)

// Map maps memory like [Mmap], but keeps no book of it: the mapping may be
// replaced and unmapped in parts. With MapFixed it is mapped over at, which must
// be memory from Map; else at is nil.
func Map(at []byte, fd int, off int64, length, prot, flags int) ([]byte, error) {
	p, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(at)), uintptr(length), prot, flags)
	if err != nil {
		return nil, Wrap("mmap", err)
	}
	return unsafe.Slice((*byte)(p), length), nil
}

// Unmap unmaps memory from [Map], or whole pages of it. Nothing may refer to it
// any more: its addresses will be used for other things.
func Unmap(b []byte) error {
	return Wrap("munmap", unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b))))
}

// Madvise gives the kernel advice about whole pages of a mapping.
func Madvise(b []byte, advice int) error { return Wrap("madvise", unix.Madvise(b, advice)) }

// pagemapScan is PAGEMAP_SCAN of linux/fs.h: _IOWR('f', 16, struct pm_scan_arg).
const pagemapScan = 0xc0606610

// PageIsHuge is the category of [PagemapScan] for memory that one entry of the
// page table's second level maps.
const PageIsHuge = 1 << 6

// pmScanArg is struct pm_scan_arg of linux/fs.h.
type pmScanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, categoryMask, categoryAnyofMask, returnMask   uint64
}

// PageRegion is a run of pages; struct page_region of linux/fs.h.
type PageRegion struct{ Start, End, Categories uint64 }

// PagemapScan finds the pages of b that are of all the given categories, as runs in
// out, not empty, and returns how many runs there are. fd is /proc/self/pagemap; Linux 6.7,
// ENOTTY before. b must be from [Map].
func PagemapScan(fd int, b []byte, categories uint64, out []PageRegion) (int, error) {
	// The structure holds the address of out as a number.
	var pin runtime.Pinner
	pin.Pin(unsafe.SliceData(out))
	defer pin.Unpin()
	start := Address(b)
	arg := pmScanArg{start: start, end: start + uint64(len(b)), categoryMask: categories, returnMask: categories,
		vec: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(out)))), vecLen: uint64(len(out))}
	arg.size = uint64(unsafe.Sizeof(arg))
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pagemapScan, uintptr(unsafe.Pointer(&arg)))
	if e != 0 {
		return 0, Wrap("ioctl PAGEMAP_SCAN", e)
	}
	return int(n), nil
}

// WriteEach writes at most 1024 bytes to a descriptor in one call, each the first
// of a piece of mem of stride bytes, and returns how many; EFAULT where the first
// cannot be read. mem must be from [Map]: its pages are read by the kernel alone.
func WriteEach(fd int, mem []byte, stride int) (int, error) {
	const maxParts = 1024 // UIO_MAXIOV
	iov := make([]unix.Iovec, 0, min(maxParts, len(mem)/stride+1))
	for i := 0; i < len(mem) && len(iov) < maxParts; i += stride {
		v := unix.Iovec{Base: &mem[i]}
		v.SetLen(1)
		iov = append(iov, v)
	}
	if len(iov) == 0 {
		return 0, nil
	}
	n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	if e != 0 {
		return 0, wrapTransfer("writev", e)
	}
	return int(n), nil
}
