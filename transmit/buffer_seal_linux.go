package transmit

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

func newImage(a arena, size int, fill func([]byte) error) (*SealedImage, error) {
	b, err := a.memfd(max(size, 1))
	if err != nil {
		return nil, fmt.Errorf("memory for an image of %d bytes: %w", size, err)
	}
	if err = fill(b.mem[:size:size]); err == nil {
		var i *SealedImage
		if i, err = a.image(b, size); err == nil {
			return i, nil
		}
	}
	return nil, errors.Join(err, a.unmap(b))
}

func (b Buffer) seal() (*SealedImage, error) {
	if !b.Writable() {
		return nil, fmt.Errorf("seal a buffer that the kernel reads: %w", syscall.EBUSY)
	}
	i, err := b.slot.pool.arena.image(b.slot.slab, b.slot.n)
	if err != nil {
		return nil, err
	}
	b.detach()
	return i, nil
}

const imageSeals = sys.SealWrite | sys.SealShrink | sys.SealGrow

// image seals the first size bytes of a memfd. The kernel refuses to seal what can
// be written by a mapping, or is read by someone (memfd_wait_for_pins), so the
// mapping becomes one for reading, at the same place: it is private, since kernels
// before 6.7 refuse a shared one of a file that may not be written.
func (a *arena) image(b *slab, size int) (*SealedImage, error) {
	rc, err := b.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := rc.Control(func(fd uintptr) { err = a.seal(b, int(fd), size) }); e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("seal a buffer: %w", err)
	}
	r := &region{mem: b.mem, size: int64(size), told: true, ops: mappingOps{a.calls}}
	r.forgetFaults()
	return &SealedImage{file: b.file, mapping: r.acquire(), bytes: b.mem[:size:size]}, nil
}

// seal shortens, maps and seals, or leaves all as it was.
func (a *arena) seal(b *slab, fd, size int) error {
	err := a.calls.Ftruncate(fd, int64(size))
	if err == nil {
		_, err = a.calls.Map(b.mem, fd, 0, len(b.mem), sys.ProtRead, sys.MapPrivate|sys.MapFixed)
	}
	if err == nil {
		err = a.calls.AddSeals(fd, imageSeals)
	}
	if err == nil {
		return nil
	}
	back := a.calls.Ftruncate(fd, int64(len(b.mem)))
	if _, e := a.calls.Map(b.mem, fd, 0, len(b.mem), sys.ProtRead|sys.ProtWrite, sys.MapShared|sys.MapFixed); e != nil {
		back = errors.Join(back, e)
	}
	return errors.Join(err, back)
}
