package sys

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// OTmpfile opens a file without a name in the directory that is opened, which goes
// with its last descriptor: Linux 3.11, and file systems that have it. It takes write
// access; EOPNOTSUPP, EISDIR or ENOENT without.
const OTmpfile = unix.O_TMPFILE

// LinkDescriptor gives an open file a name, which nothing may have: EEXIST. The file
// may have none so far, see OTmpfile. It takes /proc: open(2).
func LinkDescriptor(fd int, name string) error {
	return Wrap("linkat", unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW))
}

// HasDescriptorNames says whether LinkDescriptor can work: /proc is there.
func HasDescriptorNames() bool {
	_, err := os.Stat("/proc/self/fd")
	return err == nil
}
