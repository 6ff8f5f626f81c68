package sys

import "golang.org/x/sys/unix"

// RenameNoReplace gives a file another name, which nothing may have: EEXIST.
// EINVAL: the file system cannot tell; renameat2(2), Linux 3.15.
func RenameNoReplace(from, to string) error {
	return Wrap("renameat2", unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE))
}
