package transmit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

const haveMemfd = true

// arena makes the memory of a pool.
type arena struct {
	calls   *calls
	options PoolOptions
}

func newArena() arena { return arena{calls: kernelCalls()} }

// perSlab is how many buffers are made at a time.
func (a *arena) perSlab() int {
	if a.options.Memfd {
		return 1
	}
	return max(1, slabBytes/a.options.BufferBytes)
}

// hugeBytes is the size of the huge pages that are asked for: that of a second
// level entry with pages of 4 KiB, on amd64 and arm64.
const hugeBytes = 2 << 20

// slab makes memory for n buffers.
func (a *arena) slab(n int) (*slab, error) {
	size := n * a.options.BufferBytes
	if a.options.Memfd {
		return a.memfd(size)
	}
	b, err := a.memory(size)
	if b != nil {
		b.huge = a.options.Huge
	}
	return b, err
}

// memory maps anonymous memory.
func (a *arena) memory(size int) (*slab, error) {
	if !a.options.Huge {
		mem, err := a.anonymous(nil, size, sys.ProtRead|sys.ProtWrite, 0)
		if err == nil {
			// A kernel without huge pages refuses (EINVAL), and gives none.
			_ = a.calls.Madvise(mem, sys.AdviseNoHugepage)
		}
		return &slab{mem: mem}, err
	}
	b, err := a.hugetlb(roundUp(size, hugeBytes))
	if err == nil {
		return b, nil
	}
	mem, aligned := a.aligned(roundUp(size, hugeBytes))
	if aligned != nil {
		return nil, aligned
	}
	b = &slab{mem: mem}
	a.transparent(b, "enabled")
	if b.noHuge != "" {
		b.noHuge = fmt.Sprintf("none from the host's reserve: %v; %s", err, b.noHuge)
	}
	return b, nil
}

// anonymous maps memory without a file.
func (a *arena) anonymous(at []byte, size, prot, flags int) ([]byte, error) {
	mem, err := a.calls.Map(at, -1, 0, size, prot, sys.MapPrivate|sys.MapAnonymous|flags)
	return mem, a.refused(err, size)
}

// refused says what stands behind an error of mmap that has several reasons.
func (a *arena) refused(err error, size int) error {
	switch {
	case errors.Is(err, syscall.ENOMEM):
		if soft, _, e := a.calls.Prlimit(0, sys.LimitAS); e == nil && soft != ^uint64(0) {
			return fmt.Errorf("%w: %d bytes more, and this process may have %d bytes of address space (RLIMIT_AS)", err, size, soft)
		}
		return fmt.Errorf("%w: %d bytes more are over the host's memory (vm.overcommit_memory) or the number of mappings (vm.max_map_count)", err, size)
	case errors.Is(err, syscall.EAGAIN):
		soft, _, _ := a.calls.Prlimit(0, sys.LimitMemlock)
		return fmt.Errorf("%w: all memory of this process is locked (mlockall), and it may lock %d bytes (RLIMIT_MEMLOCK)", err, soft)
	}
	return err
}

// hugetlb maps huge pages of the host's reserve. They are faulted in, since where
// a control group or a memory policy then refuses a page, touching it is SIGBUS;
// kernels before 5.14 cannot say it.
func (a *arena) hugetlb(size int) (*slab, error) {
	mem, err := a.calls.Map(nil, -1, 0, size, sys.ProtRead|sys.ProtWrite,
		sys.MapPrivate|sys.MapAnonymous|sys.MapHugetlb|sys.MapHuge2MB)
	if err != nil {
		return nil, fmt.Errorf("MAP_HUGETLB: %w", err)
	}
	if err := a.calls.Madvise(mem, sys.AdvisePopulateWrite); err != nil && !errors.Is(err, syscall.EINVAL) {
		return nil, errors.Join(fmt.Errorf("MADV_POPULATE_WRITE: %w", err), a.calls.Unmap(mem))
	}
	return &slab{mem: mem, hugetlb: int64(size)}, nil
}

// aligned maps memory that begins at a multiple of the huge page size: kernels
// before 6.7 do not see to it.
func (a *arena) aligned(size int) ([]byte, error) {
	mem, err := a.anonymous(nil, size+hugeBytes, sys.ProtRead|sys.ProtWrite, 0)
	if err != nil {
		return nil, err
	}
	head := int(-sys.Address(mem) & (hugeBytes - 1))
	for _, extra := range [][]byte{mem[:head], mem[head+size:]} {
		if len(extra) > 0 {
			if err := a.calls.Unmap(extra); err != nil {
				return nil, err // the address space is in no state to go on with
			}
		}
	}
	return mem[head : head+size : head+size], nil
}

// transparent asks for transparent huge pages, faults the memory in and looks what
// became of it. setting is the name of the host's setting for this kind of memory.
func (a *arena) transparent(b *slab, setting string) {
	dir := "/sys/kernel/mm/transparent_hugepage/"
	if v, err := os.ReadFile(dir + setting); err == nil {
		for _, off := range []string{"[never]", "[deny]"} {
			if strings.Contains(string(v), off) {
				b.noHuge = "transparent ones are switched off: " + dir + setting + " is " + strings.Trim(off, "[]")
			}
		}
	}
	if err := a.calls.Madvise(b.mem, sys.AdviseHugepage); err != nil {
		b.noHuge = fmt.Sprintf("transparent ones are refused: MADV_HUGEPAGE: %v", err)
	}
	// Without MADV_POPULATE_WRITE (Linux 5.14) they come when they are touched.
	err := a.calls.Madvise(b.mem, sys.AdvisePopulateWrite)
	if b.noHuge != "" {
		return
	}
	if err == nil {
		b.transparent, err = a.hugeIn(b.mem)
	}
	switch {
	case err != nil:
		b.noHuge = fmt.Sprintf("transparent ones were asked for, and this kernel does not tell whether they came: %v", err)
	case b.transparent < int64(len(b.mem)):
		b.noHuge = fmt.Sprintf("%d of %d bytes came in transparent ones", b.transparent, len(b.mem))
	}
}

// hugeIn returns how many bytes of mem are mapped by huge pages.
func (a *arena) hugeIn(mem []byte) (int64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// Runs are apart by at least a page that is not huge: so many are enough.
	runs := make([]sys.PageRegion, len(mem)/hugeBytes+1)
	n, err := a.calls.PagemapScan(int(f.Fd()), mem, sys.PageIsHuge, runs)
	var sum int64
	for _, r := range runs[:n] {
		sum += int64(r.End - r.Start)
	}
	return sum, err
}

// memfd makes a file in memory and maps it.
func (a *arena) memfd(size int) (*slab, error) {
	fd, err := a.calls.MemfdCreate("zcprobe-buffer")
	if err != nil {
		return nil, err // EMFILE and ENFILE say it all
	}
	err = a.calls.Ftruncate(fd, int64(size))
	var mem []byte
	if err == nil {
		mem, err = a.calls.Map(nil, fd, 0, size, sys.ProtRead|sys.ProtWrite, sys.MapShared)
		err = a.refused(err, size)
	}
	if err != nil {
		return nil, errors.Join(err, a.calls.Close(fd))
	}
	b := &slab{mem: mem, file: os.NewFile(uintptr(fd), "memfd:zcprobe-buffer")}
	if a.options.Huge {
		a.transparent(b, "shmem_enabled")
	}
	return b, nil
}

// discard gives the pages of mem, a part of b, back to the kernel and keeps their
// addresses, unusable, until the slab goes. What the kernel still reads of the
// pages it keeps, unchanged.
func (a *arena) discard(mem []byte, b *slab) error {
	if b.hugetlb > 0 && len(mem)%hugeBytes != 0 {
		return nil // a huge page is given back whole: with the slab
	}
	_, err := a.anonymous(mem, len(mem), sys.ProtNone, sys.MapFixed|sys.MapNoreserve)
	return err
}

// unmap gives a slab back that nobody uses. The pages of a memfd that the kernel
// still reads stay as they are, though the file is gone.
func (a *arena) unmap(b *slab) error {
	err := a.calls.Unmap(b.mem)
	if b.file != nil {
		err = errors.Join(err, b.file.Close())
	}
	return err
}
