package guest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// cpioWriter writes an archive in the "newc" format that the kernel unpacks
// into its first file system (Documentation/driver-api/early-userspace/buffer-format.rst).
// Directories are added as they are needed; everything belongs to root.
type cpioWriter struct {
	w    *bufio.Writer
	dirs map[string]bool
	ino  int
	err  error // the first one; later calls do nothing
}

// The types of file in a mode, as in inode(7).
const (
	cpioRegular = 0o100000
	cpioDir     = 0o040000
	cpioLink    = 0o120000
)

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriter(w), dirs: map[string]bool{"/": true, ".": true}}
}

func (c *cpioWriter) header(name string, mode int, size int64) {
	c.ino++
	links := 1
	fields := []int64{int64(c.ino), int64(mode), 0, 0, int64(links), 0, size, 0, 0, 0, 0, int64(len(name) + 1), 0}
	c.printf("070701")
	for _, f := range fields {
		c.printf("%08x", f)
	}
	c.printf("%s\x00", name)
	c.pad(int64(110 + len(name) + 1))
}

func (c *cpioWriter) printf(format string, args ...any) {
	if c.err == nil {
		_, c.err = fmt.Fprintf(c.w, format, args...)
	}
}

// pad fills up to a multiple of four bytes after n.
func (c *cpioWriter) pad(n int64) {
	c.printf("%s", strings.Repeat("\x00", int(-n&3)))
}

// dir adds a directory and those above it.
func (c *cpioWriter) dir(name string) {
	if name = path.Clean(name); c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.dir(path.Dir(name))
	c.header(strings.TrimPrefix(name, "/"), cpioDir|0o755, 0)
}

func (c *cpioWriter) file(name string, perm int, data []byte) {
	c.dir(path.Dir(name))
	c.header(strings.TrimPrefix(name, "/"), cpioRegular|perm, int64(len(data)))
	c.printf("%s", data)
	c.pad(int64(len(data)))
}

// copyFile adds a file of this machine, links followed.
func (c *cpioWriter) copyFile(name, from string) {
	if c.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		c.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		c.err = err
		return
	}
	c.dir(path.Dir(name))
	c.header(strings.TrimPrefix(name, "/"), cpioRegular|int(st.Mode().Perm()), st.Size())
	if c.err == nil {
		_, c.err = io.CopyN(c.w, f, st.Size())
	}
	c.pad(st.Size())
}

func (c *cpioWriter) link(name, target string) {
	c.dir(path.Dir(name))
	c.header(strings.TrimPrefix(name, "/"), cpioLink|0o777, int64(len(target)))
	c.printf("%s", target)
	c.pad(int64(len(target)))
}

// close ends the archive and returns the first error of all calls.
func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
