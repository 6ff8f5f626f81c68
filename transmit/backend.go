package transmit

import (
	"fmt"
	"slices"
)

// A Backend is a way to move bytes out of the process. The names are those of
// reports and of the command line.
type Backend string

// The backends.
const (
	// Write is write(2) or send(2): the call copies.
	Write Backend = "write"
	// Writev is writev(2) or sendmsg(2) with several parts: the call copies.
	Writev Backend = "writev"
	// ReadWrite is the portable loop of two copies, which works from anything to
	// anything.
	ReadWrite Backend = "read_write"
	// MmapWrite is write from a mapped file: one copy, from the page cache.
	MmapWrite Backend = "mmap_write"
	// Sendfile is sendfile(2): references to the page cache.
	Sendfile Backend = "sendfile"
	// Splice is splice(2) through a pipe: references to the pages of a file, pipe
	// or socket.
	Splice Backend = "splice"
	// Vmsplice is vmsplice(2) into a pipe and splice(2) out of it: references to
	// the pages of the process, without a notification when they are let go.
	Vmsplice Backend = "vmsplice"
	// MsgZerocopy is MSG_ZEROCOPY: references to the pages of the process, with
	// a notification.
	MsgZerocopy Backend = "msg_zerocopy"
	// IoUringSend is send(2) by io_uring, many of them in one system call: each
	// copies. It takes a [Ring].
	IoUringSend Backend = "io_uring_send"
	// IoUringSendZC is SEND_ZC by io_uring: references to the pages of the process,
	// which buffers of a [Pool] need not pin for each send, with a notification. It
	// takes a [Ring], and Linux 6.0.
	IoUringSendZC Backend = "io_uring_send_zc"
	// MmapZerocopy is MSG_ZEROCOPY from a mapped file: references to the page
	// cache, with a notification.
	MmapZerocopy Backend = "mmap_zerocopy"
	// CopyFileRange is copy_file_range(2) from file to file: extents are shared
	// where the file system can, and copied in the kernel elsewhere.
	CopyFileRange Backend = "copy_file_range"
)

var backends = []Backend{Write, Writev, ReadWrite, MmapWrite, Sendfile, Splice, Vmsplice, MsgZerocopy, IoUringSend, IoUringSendZC, MmapZerocopy, CopyFileRange}

// Backends returns all backends.
func Backends() []Backend { return slices.Clone(backends) }

// ParseBackend returns the backend with the given name.
func ParseBackend(name string) (Backend, error) {
	if b := Backend(name); slices.Contains(backends, b) {
		return b, nil
	}
	return "", fmt.Errorf("no backend is called %q", name)
}

// Copies reports whether the backend is made of a copy by the CPU: its memory is
// free when the call returns.
func (b Backend) Copies() bool {
	switch b {
	case Write, Writev, ReadWrite, MmapWrite, IoUringSend, CopyFileRange:
		return true
	}
	return false
}

// Notifies reports whether the kernel says when it has let go of the memory, and
// whether it had to copy after all.
func (b Backend) Notifies() bool {
	return b == MsgZerocopy || b == MmapZerocopy || b == IoUringSendZC
}
