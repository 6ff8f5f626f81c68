// Package child runs the program that is traced: found as a shell finds it,
// with our standard input and nothing else of ours, as somebody else if wanted.
package child

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Plan is a program that could be started.
type Plan struct {
	Path   string
	Args   []string // the name it is called by, and its arguments
	Env    []string
	Dir    string
	Stdout *os.File

	credential *syscall.Credential // nil: as we are
}

// An Error is about a program that cannot be started.
type Error struct {
	Name string
	Err  error
}

func (e *Error) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// New looks for the program of args[0], and for the user if one is named. Its
// environment is ours, with the user's HOME, USER and LOGNAME.
func New(args []string, as string, stdout *os.File) (*Plan, error) {
	p := &Plan{Args: args, Env: os.Environ(), Stdout: stdout}
	var err error
	if p.Path, err = find(args[0], os.Getenv("PATH")); err != nil {
		return nil, &Error{args[0], err}
	}
	if as == "" {
		return p, nil
	}
	if err := p.become(as); err != nil {
		return nil, &Error{"user " + as, err}
	}
	return p, nil
}

// find looks for an executable file as execvp(3) does.
func find(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	if name == "" {
		return "", fs.ErrNotExist
	}
	refused := fs.ErrNotExist
	for _, dir := range filepath.SplitList(cmp.Or(path, "/usr/bin:/bin")) {
		file := filepath.Join(cmp.Or(dir, "."), name)
		switch err := executable(file); {
		case err == nil:
			if !filepath.IsAbs(file) {
				file = "./" + file
			}
			return file, nil
		case errors.Is(err, fs.ErrPermission):
			refused = fs.ErrPermission
		}
	}
	return "", fmt.Errorf("no such program in PATH: %w", refused)
}

func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil:
		var p *fs.PathError
		if errors.As(err, &p) {
			return p.Err
		}
		return err
	case st.IsDir():
		return syscall.EISDIR
	case st.Mode()&0o111 == 0:
		return syscall.EACCES
	}
	return nil
}

// become makes the program run as a user, by name or number, with the groups of
// that user and no other.
func (p *Plan) become(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		if _, number := strconv.ParseUint(name, 10, 32); number != nil {
			return err
		}
		if u, err = user.LookupId(name); err != nil {
			return err
		}
	}
	ids, err := u.GroupIds()
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return err
		}
		p.credential.Groups = append(p.credential.Groups, uint32(n))
	}
	if int(uid) == os.Geteuid() && os.Geteuid() != 0 {
		p.credential = nil // it is us
	}
	for _, v := range [][2]string{{"HOME", u.HomeDir}, {"USER", u.Username}, {"LOGNAME", u.Username}} {
		p.Env = append(p.Env, v[0]+"="+v[1])
	}
	p.Env = latest(p.Env)
	return nil
}

// latest keeps the last value of each variable.
func latest(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if i, ok := at[name]; ok {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

// A Program runs.
type Program struct {
	process *os.Process
	done    chan struct{}
	state   *os.ProcessState // when done
	err     error
}

// Start starts it. It stays in our process group, so that a terminal treats it
// as if it ran alone.
func (p *Plan) Start() (*Program, error) {
	attr := &os.ProcAttr{Dir: p.Dir, Env: p.Env, Files: []*os.File{os.Stdin, p.Stdout, os.Stderr}}
	if p.credential != nil {
		attr.Sys = &syscall.SysProcAttr{Credential: p.credential}
	}
	process, err := os.StartProcess(p.Path, p.Args, attr)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, &Error{p.Args[0], err}
	}
	r := &Program{process: process, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.state, r.err = process.Wait()
	}()
	return r, nil
}

// PID returns its process id.
func (r *Program) PID() int { return r.process.Pid }

// Done is closed when it has ended.
func (r *Program) Done() <-chan struct{} { return r.done }

// Signal sends it a signal. One that has ended takes any.
func (r *Program) Signal(s os.Signal) error {
	if err := r.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", r.process.Pid, err)
	}
	return nil
}

// Status returns its exit status, 128 and the number of the signal if one ended
// it, as shells have it; false while it runs.
func (r *Program) Status() (int, bool) {
	select {
	case <-r.done:
	default:
		return 0, false
	}
	if r.err != nil {
		return 0, false
	}
	if w, ok := r.state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal()), true
	}
	return r.state.ExitCode(), true
}
