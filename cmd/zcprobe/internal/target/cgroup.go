package target

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrNone says that nothing has the name, ErrSeveral that more than one has.
var (
	ErrNone    = errors.New("there is none")
	ErrSeveral = errors.New("it is not unique")
)

// runtimes are what container runtimes put before the id in the name of a
// container's control group, "docker-ID.scope" or plainly "ID".
var runtimes = []string{"docker-", "cri-containerd-", "libpod-", "crio-", "nerdctl-", "podman-", "containerd-", "lxc.payload.", "lxc-", ""}

// shortestID is how many characters of a container's id are asked for at least.
const shortestID = 4

// Container returns the control group of a container, relative to cgroups, the
// file system of /sys/fs/cgroup. The id may be shortened while it is unique.
func Container(cgroups fs.FS, id string) (string, error) {
	if len(id) < shortestID || strings.ContainsAny(id, "/\x00") {
		return "", fmt.Errorf("container %q: an id has at least %d characters", id, shortestID)
	}
	var found []string
	var exact string
	err := fs.WalkDir(cgroups, ".", func(dir string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return nil // it ended, or is not for us to see
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		}
		switch name, ok := containerID(e.Name()); {
		case !ok || !strings.HasPrefix(name, id):
			return nil
		case name == id:
			exact = dir
			return fs.SkipAll
		}
		found = append(found, dir)
		return fs.SkipDir
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("container %s: %w", id, err)
	case exact != "":
		return exact, nil
	case len(found) == 0:
		return "", fmt.Errorf("container %s: no control group has this id: %w", id, ErrNone)
	case len(found) > 1:
		slices.Sort(found)
		return "", fmt.Errorf("container %s: %w: %s", id, ErrSeveral, strings.Join(found, ", "))
	}
	return found[0], nil
}

// containerID takes the id out of the name of a control group. Runtimes name
// other groups alike, for their monitors ("libpod-conmon-ID.scope"): an id is
// made of one word.
func containerID(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".scope")
	for _, runtime := range runtimes {
		id, ok := strings.CutPrefix(name, runtime)
		if !ok {
			continue
		}
		return id, !strings.ContainsAny(id, "-.:@") && len(id) >= shortestID
	}
	return "", false
}

// CgroupPath makes of what people write, the path of a directory or the path
// within the hierarchy as in /proc/PID/cgroup, a path relative to mount,
// "/sys/fs/cgroup".
func CgroupPath(mount, s string) (string, error) {
	s = strings.TrimPrefix(s, "0::")
	rest, ok := strings.CutPrefix(path.Clean("/"+s), mount)
	if !ok || rest != "" && rest[0] != '/' {
		rest = path.Clean("/" + s)
	}
	rest = strings.TrimPrefix(rest, "/")
	if rest == "" {
		rest = "."
	}
	if !fs.ValidPath(rest) {
		return "", fmt.Errorf("control group %q: no such path", s)
	}
	return rest, nil
}
