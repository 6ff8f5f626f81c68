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
	MayWrite    func(fd int) error
	Mincore     func(mapping, pages []byte) error
	CachedRange func(fd int, off, n int64) (uint64, error)
	PreadNowait func(fd int, p []byte, off int64) (int, error)
	Touch       func(fd int, mem []byte, stride int) (int, error)
	SetLease    func(fd, lease int) error
	Lease       func(fd int) (int, error)
	SetSignal   func(fd, signal int) error
	SetOwner    func(fd, pid int) error
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
	MayWrite:    sys.MayWrite,
	Mincore:     sys.Mincore,
	CachedRange: sys.CachedRange,
	PreadNowait: sys.PreadNowait,
	Touch:       sys.WriteEach,
	SetLease:    sys.SetLease,
	Lease:       sys.Lease,
	SetSignal:   sys.SetSignal,
	SetOwner:    sys.SetOwner,
}
