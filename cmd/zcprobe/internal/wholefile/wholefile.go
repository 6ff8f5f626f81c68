// Package wholefile writes files that others find whole or not at all.
//
// Where the file system can, a file has no name until it is complete, and goes with
// the process that writes it, however that ends. Elsewhere it has a hidden name beside
// its own meanwhile.
package wholefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// ErrTaken says that the name was given to another file meanwhile.
var ErrTaken = errors.New("was made by somebody else meanwhile, and is not replaced")

// A File is written to, and then has its name or is gone.
type File struct {
	*os.File
	name    string
	temp    string // its name so far; "": none
	replace bool
}

// Create makes a file that is to be called name. With replace, what has the name then
// loses it; without, that is an error matching [ErrTaken]. mode is not subject to the
// umask with replace, where it is that of an earlier file or a decision, and is so
// without.
func Create(name string, mode fs.FileMode, replace bool) (*File, error) {
	f := &File{name: name, replace: replace}
	if err := f.open(mode.Perm()); err != nil {
		return nil, err
	}
	if replace {
		if err := f.Chmod(mode.Perm()); err != nil {
			f.Abort()
			return nil, err
		}
	}
	return f, nil
}

// open makes the file without a name, or with a hidden one.
func (f *File) open(mode fs.FileMode) (err error) {
	dir := filepath.Dir(f.name)
	if f.File, err = os.OpenFile(dir, os.O_RDWR|sys.OTmpfile, mode); err == nil {
		if sys.HasDescriptorNames() {
			return nil
		}
		f.File.Close()
	}
	f.temp = f.hidden()
	f.File, err = os.OpenFile(f.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	return err
}

// hidden is a name beside the file's own. A name has 255 bytes at most, on all file
// systems of note.
func (f *File) hidden() string {
	dir, base := filepath.Split(f.name)
	return filepath.Join(dir, fmt.Sprintf(".%.200s.%s.part", base, rand.Text()[:8]))
}

// Commit closes the file and gives it its name.
func (f *File) Commit() error {
	if f.temp == "" {
		if !f.replace {
			return f.commitNew()
		}
		// A name can be taken from another file by rename(2) alone.
		temp := f.hidden()
		if err := sys.LinkDescriptor(int(f.Fd()), temp); err != nil {
			f.Abort()
			return err
		}
		f.temp = temp
	}
	err := f.Close()
	switch {
	case err != nil:
	case f.replace:
		err = os.Rename(f.temp, f.name)
	default:
		err = renameNew(f.temp, f.name)
	}
	if err != nil {
		f.remove()
		return err
	}
	f.temp = ""
	return nil
}

// commitNew names what has no name.
func (f *File) commitNew() error {
	err := sys.LinkDescriptor(int(f.Fd()), f.name)
	if errors.Is(err, fs.ErrExist) {
		err = ErrTaken
	}
	if closeErr := f.Close(); err == nil && closeErr != nil {
		return errors.Join(closeErr, os.Remove(f.name))
	}
	return err
}

// Abort closes the file and leaves nothing of it.
func (f *File) Abort() {
	_ = f.Close()
	f.remove()
}

func (f *File) remove() {
	if f.temp != "" {
		_ = os.Remove(f.temp) // nobody asked for it
		f.temp = ""
	}
}

// renameNew gives a file a name that nothing may have.
func renameNew(from, to string) error {
	err := sys.RenameNoReplace(from, to)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		// A file system that cannot do that can often link, which replaces nothing either.
		if err = os.Link(from, to); err == nil {
			return os.Remove(from)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrTaken
	}
	return err
}

// Write makes a file of data, in place of one that there is only with replace. What a
// link leads to is replaced, and not the link, see [Follow]; a device or a pipe is written to.
func Write(name string, data []byte, mode fs.FileMode, replace bool) (err error) {
	if st, err := os.Lstat(name); err == nil && replace {
		if st.Mode()&fs.ModeSymlink != 0 {
			if name, err = Follow(name); err == nil {
				st, err = os.Stat(name)
			}
			if err != nil {
				return err
			}
		}
		if !st.Mode().IsRegular() {
			return writeTo(name, data)
		}
	}
	f, err := Create(name, mode, replace)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Abort()
		return err
	}
	return f.Commit()
}

// Follow returns what a symbolic link leads to. It follows none of another user but
// root, as the kernel does in directories that all write to where fs.protected_symlinks
// is set: else a name that a privileged caller is about to write to could be laid on
// any file.
func Follow(link string) (string, error) {
	st, err := os.Lstat(link)
	if err != nil {
		return "", err
	}
	if s, ok := st.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return "", fmt.Errorf("%s is a link of another user: %w", link, fs.ErrPermission)
	}
	return filepath.EvalSymlinks(link)
}

func writeTo(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
