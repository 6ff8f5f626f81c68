package sys

import "golang.org/x/sys/unix"

// Flags of splice(2), vmsplice(2) and tee(2).
const (
	SpliceMove     = unix.SPLICE_F_MOVE
	SpliceNonblock = unix.SPLICE_F_NONBLOCK
	SpliceMore     = unix.SPLICE_F_MORE // to a socket: more follows, as MSG_MORE
)

// Pipe makes a non-blocking, close-on-exec pipe: read end, write end.
func Pipe() ([2]int, error) {
	var p [2]int
	err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC)
	return p, Wrap("pipe2", err)
}

// PipeSize returns the capacity of a pipe in bytes; F_GETPIPE_SZ.
func PipeSize(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return n, Wrap("fcntl F_GETPIPE_SZ", err)
}

// SetPipeSize sets the capacity of a pipe and returns what it became. Above
// fs.pipe-max-size it needs CAP_SYS_RESOURCE; F_SETPIPE_SZ, Linux 2.6.35.
func SetPipeSize(fd, bytes int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, bytes)
	return n, Wrap("fcntl F_SETPIPE_SZ", err)
}

// Splice moves up to n bytes between two descriptors of which one is a pipe.
// off, if not nil, is the position in a file that is read, and advances.
func Splice(in int, off *int64, out, n, flags int) (int, error) {
	return SpliceAt(in, off, out, nil, n, flags)
}

// SpliceAt is [Splice] to a position in a file as well: *outOff, if not nil, which
// advances.
func SpliceAt(in int, inOff *int64, out int, outOff *int64, n, flags int) (int, error) {
	m, err := unix.Splice(in, inOff, out, outOff, n, flags)
	return max(int(m), 0), wrapTransfer("splice", err)
}

// Vmsplice puts references to the pages of each part into a pipe. The memory
// must not be Go's: nothing tells when the kernel is done with it.
func Vmsplice(fd int, parts [][]byte, flags int) (int, error) {
	iov := make([]unix.Iovec, 0, len(parts))
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		v := unix.Iovec{Base: &p[0]}
		v.SetLen(len(p))
		iov = append(iov, v)
	}
	n, err := unix.Vmsplice(fd, iov, flags)
	return n, Wrap("vmsplice", err)
}

// VmspliceIovec is [Vmsplice] of parts that are ready. What they point to must stay
// referenced until the last reader of the pages is known to be done.
func VmspliceIovec(fd int, v []Iovec, flags int) (int, error) {
	n, err := unix.Vmsplice(fd, v, flags)
	return max(n, 0), wrapTransfer("vmsplice", err)
}

// Tee duplicates up to n bytes from one pipe to another.
func Tee(in, out, n, flags int) (int, error) {
	m, err := unix.Tee(in, out, n, flags)
	return int(m), Wrap("tee", err)
}
