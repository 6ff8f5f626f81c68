package probe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// hostFileMax bounds what is read of one file. The largest is modules.dep,
// under 1 MiB on the biggest distribution kernels.
const hostFileMax = 8 << 20

// readHostFile reads a file, but no more than hostFileMax of it.
func readHostFile(fsys fs.FS, name string) ([]byte, error) {
	return readBounded(fsys, name, hostFileMax)
}

// fileErrno names why a file could not be read.
func fileErrno(err error) string {
	if n := sys.ErrnoName(err); n != "" {
		return n
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "ENOENT"
	case errors.Is(err, fs.ErrPermission):
		return "EACCES"
	}
	return err.Error()
}

// seccompName names the modes of linux/seccomp.h.
func seccompName(mode int) string {
	switch mode {
	case 0:
		return "none"
	case 1:
		return "strict"
	case 2:
		return "filter"
	}
	return "unknown"
}

// parseLockdown reads securityfs' lockdown file, "none [integrity] confidentiality".
func parseLockdown(b []byte) string {
	_, rest, ok := strings.Cut(string(b), "[")
	mode, _, closed := strings.Cut(rest, "]")
	if ok && closed && slices.Contains([]string{"none", "integrity", "confidentiality"}, mode) {
		return mode
	}
	return "unknown"
}

// fullUIDMap reports whether a uid_map maps every id to itself.
func fullUIDMap(b []byte) bool {
	return slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// configEnd stands near the end of every kernel configuration since Linux 5.1.
// Without it the file may have been cut, and what is missing from it proves nothing.
const configEnd = "# end of Kernel hacking"

// parseConfig returns the wanted options of a kernel configuration: "y", "m",
// "n", or another value. An option that a complete file does not name is "n":
// what it depends on is off, or the kernel has never heard of it.
func parseConfig(r io.Reader, wanted []string) (map[string]string, error) {
	out := map[string]string{}
	complete := false
	in := bufio.NewScanner(io.LimitReader(r, hostFileMax))
	in.Buffer(make([]byte, 0, 4096), 64<<10)
	for in.Scan() {
		line := in.Bytes()
		if !bytes.HasPrefix(line, []byte("CONFIG_")) {
			complete = complete || string(line) == configEnd
			continue
		}
		name, value, ok := strings.Cut(string(line), "=")
		if ok && slices.Contains(wanted, name) {
			out[name] = strings.Trim(value, `"`)
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	if !complete {
		return out, nil
	}
	for _, name := range wanted {
		if _, ok := out[name]; !ok {
			out[name] = "n"
		}
	}
	return out, nil
}

// moduleList returns the module names in a list of module files, one to a
// line: modules.builtin, or modules.dep, where dependencies follow a colon.
func moduleList(b []byte) map[string]bool {
	out := map[string]bool{}
	for line := range bytes.Lines(b) {
		file, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		base, _, ok := strings.Cut(path.Base(string(file)), ".ko")
		if ok {
			out[moduleName(base)] = true
		}
	}
	return out
}

// loadedModules returns the names in /proc/modules.
func loadedModules(b []byte) map[string]bool {
	out := map[string]bool{}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 0 {
			out[f[0]] = true
		}
	}
	return out
}

// moduleName writes a module's name as the kernel does, whatever its file is called.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// parseProtocols returns the names of /proc/net/protocols, sorted, each once.
func parseProtocols(b []byte) []string {
	var out []string
	first := true
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if !first && len(f) > 0 {
			out = append(out, f[0])
		}
		first = false
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// parseCiphers returns those of wanted that /proc/crypto lists.
func parseCiphers(b []byte, wanted []string) []string {
	var out []string
	for line := range bytes.Lines(b) {
		k, v, ok := strings.Cut(string(line), ":")
		v = strings.TrimSpace(v)
		if ok && strings.TrimSpace(k) == "name" && slices.Contains(wanted, v) {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// gvisorBuild is the build date that gVisor has told in place of its own since
// it began, whatever release it claims.
const gvisorBuild = "#1 SMP Sun Jan 10 15:06:54 PST 2016"

// sandboxOf names the sandbox that answers system calls instead of Linux, from
// uname and /proc/version. Either hint is enough: no Linux kernel has them.
func sandboxOf(uname string, version []byte) string {
	text := uname + " " + string(version)
	if strings.Contains(strings.ToLower(text), "gvisor") || strings.Contains(text, gvisorBuild) {
		return "gvisor"
	}
	return ""
}
