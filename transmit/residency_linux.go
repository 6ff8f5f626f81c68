package transmit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// faultIn reads pages in and maps them. EFAULT stands for SIGBUS.
func (o mappingOps) faultIn(mem []byte) error {
	var err error
	for range faultTries {
		err = o.calls.Madvise(mem, sys.AdvisePopulateRead)
		if !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.EAGAIN) {
			break
		}
	}
	if errors.Is(err, syscall.EINVAL) { // before Linux 5.14
		return o.touch(mem)
	}
	return err
}

// faultTries bounds how often a call is made again that was interrupted: a send
// faults the pages in itself if it has to.
const faultTries = 100

// touch makes the kernel read a byte of each page.
func (o mappingOps) touch(mem []byte) error {
	fd, err := o.calls.MemfdCreate("zcprobe-touch")
	if err != nil {
		return err
	}
	defer o.calls.Close(fd)
	for page := os.Getpagesize(); len(mem) > 0; {
		n, err := o.calls.Touch(fd, mem, page)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return fmt.Errorf("touch pages: %w", syscall.EFAULT)
		}
		mem = mem[min(n*page, len(mem)):]
	}
	return nil
}

// pageFlags hold what mincore says of 16 MiB of pages of 4 KiB.
var pageFlags = sync.Pool{New: func() any { return new([4096]byte) }}

// resident counts the bytes of a part of the mapping that are in memory, in pages
// that were read; mem is its pages. cachestat(2) costs half of mincore for 256 KiB
// (0.3 and 0.7 µs on 6.18), and counts the pages as well that a disk is still to
// fill: all of them right after Prefetch.
func (r *region) resident(mem []byte, off, n int64) (int64, error) {
	flags := pageFlags.Get().(*[4096]byte)
	defer pageFlags.Put(flags)
	page := int64(os.Getpagesize())
	at := off - (off-r.start)%page // position of mem in the file
	var sum int64
	for len(mem) > 0 {
		part := mem[:min(len(mem), len(flags)*int(page))]
		mem = mem[len(part):]
		if err := r.ops.calls.Mincore(part, flags[:]); err != nil {
			return 0, err
		}
		for i := range roundUp(len(part), int(page)) / int(page) {
			if flags[i]&1 != 0 {
				sum += min(at+page, off+n) - max(at, off)
			}
			at += page
		}
	}
	return sum, nil
}

// sampleEvery is how far apart the bytes are that are asked for where mincore does
// not tell: half of what the kernel reads ahead by default (read_ahead_kb 128), so
// that a part that was read is met.
const sampleEvery = 64 << 10

// sample reads single bytes without waiting.
func (o mappingOps) sample(f *os.File, off, n int64) (sum int64, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := rc.Control(func(fd uintptr) { sum, err = o.sampleDescriptor(int(fd), off, n) }); e != nil {
		err = fs.ErrClosed
	}
	return sum, err
}

func (o mappingOps) sampleDescriptor(fd int, off, n int64) (int64, error) {
	b := sampled.Get().(*[1]byte)
	defer sampled.Put(b)
	var asked, there int64
	for at := off; ; at = min(at+sampleEvery, off+n-1) {
		switch got, err := o.calls.PreadNowait(fd, b[:], at); {
		case err == nil && got == 1:
			there++
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN), err == nil: // not there, or past the end
		default:
			return 0, fmt.Errorf("ask which pages are in memory: %w", err)
		}
		if asked++; at == off+n-1 {
			break
		}
	}
	if there == asked {
		return n, nil
	}
	return int64(float64(n) * float64(there) / float64(asked)), nil
}

var sampled = sync.Pool{New: func() any { return new([1]byte) }}

func (o mappingOps) prefetch(mem []byte) error { return o.calls.Madvise(mem, sys.AdviseWillneed) }
