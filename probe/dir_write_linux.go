package probe

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// writeTestBytes is the size of temporary files: some pages, and a block of any
// file system that clones by blocks.
const writeTestBytes = 256 << 10

// writeTests tries what takes a file of our own. The files have no name, or
// lose it at once, and end with their descriptors.
func (r *dirReader) writeTests(write bool) []Outcome {
	tests := []struct {
		id  string
		run func(*Outcome) error
	}{{"reflink", r.reflink}, {"file.lease", r.lease}, {"dir.resend", r.resend}}
	var out []Outcome
	for _, t := range tests {
		o := Outcome{ID: t.id}
		if fsKindOf(&r.f) == fsPseudo {
			o.NotTried = fsName(&r.f) + " holds no files of ours"
		} else if !write {
			o.NotTried = "takes a temporary file in the directory, which was not allowed (--write-test)"
		} else if err := t.run(&o); err != nil {
			o.Seen = nil
		}
		out = append(out, o)
	}
	return out
}

// step notes a system call and returns its error.
func (o *Outcome) step(op string, err error) error {
	s := Step{Op: op, Errno: sys.ErrnoName(err)}
	if err != nil && s.Errno == "" {
		s.Errno, s.Value = "error", err.Error()
	}
	o.Steps = append(o.Steps, s)
	return err
}

// temporary makes a file of n bytes of one value.
func (r *dirReader) temporary(o *Outcome, value byte, n int) (fd int, err error) {
	fd, err = sys.OpenTmpfile(fmt.Sprintf("/proc/self/fd/%d", r.fd))
	if o.step("open O_TMPFILE", err) != nil {
		name := ".zcprobe-" + rand.Text()
		fd, err = sys.CreateFile(r.fd, name)
		if o.step("openat O_CREAT", err) != nil {
			return -1, err
		}
		err = sys.Unlink(r.fd, name)
		if o.step("unlinkat", err) != nil {
			r.errorf("left behind a temporary file %s: %v", name, err)
			return -1, errors.Join(err, sys.Close(fd))
		}
	}
	if n == 0 {
		return fd, nil
	}
	err = writeStart(fd, bytes.Repeat([]byte{value}, n))
	if o.step("write", err) != nil {
		return -1, errors.Join(err, sys.Close(fd))
	}
	return fd, nil
}

func writeStart(fd int, b []byte) error {
	for off := 0; off < len(b); {
		n, err := sys.Pwrite(fd, b[off:], int64(off))
		if err != nil {
			return err
		}
		if n == 0 {
			return errNoProgress
		}
		off += n
	}
	return nil
}

// reflink clones one file into another. Seen: "equal".
func (r *dirReader) reflink(o *Outcome) (err error) {
	from, err := r.temporary(o, 'A', writeTestBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(from)) }()
	to, err := r.temporary(o, 0, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(to)) }()
	if err := o.step("ioctl FICLONE", sys.Clone(to, from)); err != nil {
		return err
	}
	got, err := readStart(to, writeTestBytes)
	if o.step("read", err) != nil {
		return err
	}
	o.see("equal", bytes.Equal(got, bytes.Repeat([]byte{'A'}, writeTestBytes)))
	return nil
}

// lease takes a read lease and gives it back. Seen: "held".
func (r *dirReader) lease(o *Outcome) (err error) {
	w, err := r.temporary(o, 'A', 1)
	if err != nil {
		return err
	}
	fd, err := sys.Reopen(w, 0)
	err = errors.Join(o.step("open O_RDONLY", err), sys.Close(w)) // a writer would be in the way
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	if err := o.step("fcntl F_SETLEASE F_RDLCK", sys.SetLease(fd, sys.LeaseRead)); err != nil {
		return err
	}
	held, err := sys.Lease(fd)
	if o.step("fcntl F_GETLEASE", err) != nil {
		return err
	}
	o.see("held", held == sys.LeaseRead)
	return o.step("fcntl F_SETLEASE F_UNLCK", sys.SetLease(fd, sys.LeaseNone))
}

// resend sends a file, changes it in place through another descriptor, and
// sends it again. Seen: "equal", of the first time, and "stale", of the second.
func (r *dirReader) resend(o *Outcome) (err error) {
	fd, err := r.temporary(o, 'A', writeTestBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(fd)) }()
	other, err := sys.Reopen(fd, sys.OpenWrite)
	if o.step("open O_WRONLY", err) != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close(other)) }()
	first, err := throughSocket(fd, writeTestBytes)
	if o.step("sendfile", err) != nil {
		return err
	}
	o.see("equal", bytes.Equal(first, bytes.Repeat([]byte{'A'}, writeTestBytes)))
	b := bytes.Repeat([]byte{'B'}, writeTestBytes)
	if err := o.step("write", writeStart(other, b)); err != nil {
		return err
	}
	second, err := throughSocket(fd, writeTestBytes)
	if o.step("sendfile", err) != nil {
		return err
	}
	o.see("stale", !bytes.Equal(second, b))
	return nil
}

func (o *Outcome) see(name string, v bool) {
	if o.Seen == nil {
		o.Seen = map[string]int64{}
	}
	o.Seen[name] = int64(boolIndex(v))
}
