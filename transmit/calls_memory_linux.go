package transmit

import "github.com/zcprobe/zcprobe/internal/sys"

// memoryCalls are the calls that make memory, map files and watch them.
type memoryCalls struct {
	Map         func(at []byte, fd int, off int64, length, prot, flags int) ([]byte, error)
	Unmap       func(b []byte) error
	Madvise     func(b []byte, advice int) error
	PagemapScan func(fd int, b []byte, categories uint64, out []sys.PageRegion) (int, error)
	Prlimit     func(pid, resource int) (soft, hard uint64, err error)
	MemfdCreate func(name string) (int, error)
	Ftruncate   func(fd int, size int64) error
	AddSeals    func(fd, seals int) error
}

// kernelMemory is never written to.
var kernelMemory = memoryCalls{
	Map:         sys.Map,
	Unmap:       sys.Unmap,
	Madvise:     sys.Madvise,
	PagemapScan: sys.PagemapScan,
	Prlimit:     sys.Prlimit,
	MemfdCreate: sys.MemfdCreate,
	Ftruncate:   sys.Ftruncate,
	AddSeals:    sys.AddSeals,
}
