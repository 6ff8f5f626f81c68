package sys

import "golang.org/x/sys/unix"

// Seals of a memfd; fcntl(2) F_ADD_SEALS.
const (
	SealShrink = unix.F_SEAL_SHRINK
	SealGrow   = unix.F_SEAL_GROW
	SealWrite  = unix.F_SEAL_WRITE
)

// MemfdCreate makes a file in memory that can be sealed; Linux 3.17.
func MemfdCreate(name string) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	return fd, Wrap("memfd_create", err)
}

// MemfdSecret makes a file in memory that the kernel itself cannot read; Linux
// 5.14. ENOSYS also where it is built but not switched on (secretmem.enable).
func MemfdSecret() (int, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	return fd, Wrap("memfd_secret", err)
}

// AddSeals forbids changes to a memfd. EBUSY: it is mapped writable, or pages
// are still in use, for SealWrite.
func AddSeals(fd, seals int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return Wrap("fcntl F_ADD_SEALS", err)
}

// Seals returns the seals of a memfd.
func Seals(fd int) (int, error) {
	s, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return s, Wrap("fcntl F_GET_SEALS", err)
}
