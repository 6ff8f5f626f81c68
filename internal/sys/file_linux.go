package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Protection and flags of mmap(2).
const (
	ProtRead     = unix.PROT_READ
	ProtWrite    = unix.PROT_WRITE
	MapShared    = unix.MAP_SHARED
	MapPrivate   = unix.MAP_PRIVATE
	MapAnonymous = unix.MAP_ANONYMOUS
	MapPopulate  = unix.MAP_POPULATE
)

// Read reads from the descriptor's position.
func Read(fd int, p []byte) (int, error) {
	n, err := unix.Read(fd, p)
	return max(n, 0), wrapTransfer("read", err)
}

// Write writes at the descriptor's position, or at the end of a file that is open
// with O_APPEND.
func Write(fd int, p []byte) (int, error) {
	n, err := unix.Write(fd, p)
	return max(n, 0), wrapTransfer("write", err)
}

// Pread reads at an offset.
func Pread(fd int, p []byte, off int64) (int, error) {
	n, err := unix.Pread(fd, p, off)
	return max(n, 0), wrapTransfer("pread", err)
}

// Pwrite writes at an offset.
func Pwrite(fd int, p []byte, off int64) (int, error) {
	n, err := unix.Pwrite(fd, p, off)
	return max(n, 0), wrapTransfer("pwrite", err)
}

// Ftruncate sets the length of a file.
func Ftruncate(fd int, size int64) error { return Wrap("ftruncate", unix.Ftruncate(fd, size)) }

// OpenTmpfile makes a file without a name in the file system of dir, which
// goes with its descriptor; O_TMPFILE, Linux 3.11. EOPNOTSUPP, or EISDIR on
// older kernels, where the file system cannot.
func OpenTmpfile(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC|unix.O_EXCL, 0o600)
	return fd, Wrap("open O_TMPFILE "+dir, err)
}

// Sendfile sends up to n bytes of in from *off, which advances, to out.
func Sendfile(out, in int, off *int64, n int) (int, error) {
	m, err := unix.Sendfile(out, in, off, n)
	return max(m, 0), wrapTransfer("sendfile", err)
}

// CopyFileRange copies up to n bytes between files, from *inOff to *outOff,
// which advance; Linux 4.5.
func CopyFileRange(in int, inOff *int64, out int, outOff *int64, n int) (int, error) {
	m, err := unix.CopyFileRange(in, inOff, out, outOff, n, 0)
	return max(m, 0), wrapTransfer("copy_file_range", err)
}

// Mmap maps memory; fd -1 with MapAnonymous. Unmap with [Munmap].
func Mmap(fd int, off int64, length, prot, flags int) ([]byte, error) {
	b, err := unix.Mmap(fd, off, length, prot, flags)
	return b, Wrap("mmap", err)
}

// Munmap unmaps what Mmap returned, whole.
func Munmap(b []byte) error { return Wrap("munmap", unix.Munmap(b)) }

// Address returns where b lies, for structures that hand the kernel an address.
// b must be from Mmap: Go memory may move and be freed under the kernel.
func Address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
