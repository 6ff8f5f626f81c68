package sys

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of SIOCETHTOOL that only read; linux/ethtool.h. The kernel answers
// them without any capability (the list in dev_ethtool).
const (
	EthtoolGDrvInfo  = unix.ETHTOOL_GDRVINFO
	EthtoolGTxCsum   = unix.ETHTOOL_GTXCSUM
	EthtoolGSG       = unix.ETHTOOL_GSG
	EthtoolGStrings  = unix.ETHTOOL_GSTRINGS
	EthtoolGTSO      = unix.ETHTOOL_GTSO
	EthtoolGGSO      = unix.ETHTOOL_GGSO
	EthtoolGSSetInfo = unix.ETHTOOL_GSSET_INFO
	EthtoolGFeatures = unix.ETHTOOL_GFEATURES

	// EthtoolSFeatures switches features, and needs CAP_NET_ADMIN.
	EthtoolSFeatures = unix.ETHTOOL_SFEATURES

	EthtoolStringLen   = 32 // ETH_GSTRING_LEN: bytes of a name, the NUL included
	EthtoolFeatureSet  = 4  // ETH_SS_FEATURES: the string set of feature names
	EthtoolDrvInfoSize = int(unsafe.Sizeof(unix.EthtoolDrvinfo{}))
)

// Ethtool is a socket for device ioctls. It belongs to the network namespace
// its thread was in when it was opened.
type Ethtool struct{ fd int }

// OpenEthtool opens the socket. Any family serves; AF_UNIX is there where a
// kernel or a filter has no internet sockets.
func OpenEthtool() (*Ethtool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return nil, Wrap("socket for ethtool", err)
	}
	return &Ethtool{fd: fd}, nil
}

// Close closes the socket.
func (e *Ethtool) Close() error { return Wrap("close ethtool socket", unix.Close(e.fd)) }

// ifreqData is struct ifreq with ifr_data in its union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte // the union is as long as struct ifmap
}

// Do makes one SIOCETHTOOL call on the device of that name. buf starts with the
// command in host byte order and must have room for all that the kernel writes
// for it. Where the thread has CAP_NET_ADMIN or CAP_SYS_MODULE, a name that does
// not exist makes the kernel look for a module of that name: callers see to it
// that it has neither.
func (e *Ethtool) Do(name string, buf []byte) error {
	if len(buf) < 8 || len(name) >= unix.IFNAMSIZ || name == "" {
		return Wrap(fmt.Sprintf("ethtool ioctl %q", name), unix.EINVAL)
	}
	req := ifreqData{data: unsafe.Pointer(&buf[0])}
	copy(req.name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return Wrap(fmt.Sprintf("ethtool ioctl %#x %s", binary.NativeEndian.Uint32(buf), name), errno)
	}
	return nil
}

// NameOf returns the present name of the device with that index; SIOCGIFNAME.
// Unlike ioctls that take a name it never loads a module.
func (e *Ethtool) NameOf(index int) (string, error) {
	req := struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}{index: int32(index)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return "", Wrap(fmt.Sprintf("ioctl SIOCGIFNAME %d", index), errno)
	}
	return unix.ByteSliceToString(req.name[:]), nil
}
