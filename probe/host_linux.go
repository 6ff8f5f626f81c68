package probe

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/internal/sys"
)

// readHost reads what there is to know about the kernel and this process. It
// runs on the probing thread, which has given up capabilities; those of the
// process are read from its first thread.
func readHost(s *sources) HostFacts {
	h := readProcess(s)
	h.readCiphers(s)
	h.readConfig(s)
	h.readModules(s)
	return h
}

// readProcess reads the part of the facts that costs no search through files:
// what a program needs to choose a way of sending.
func readProcess(s *sources) HostFacts {
	h := HostFacts{
		OS:           runtime.GOOS,
		Arch:         runtime.GOARCH,
		UID:          uint32(os.Geteuid()),
		Groups:       []int{os.Getegid()},
		Modules:      map[string]string{},
		ModuleParams: map[string]string{},
		Sysctls:      map[string]string{},
		SysctlErrors: map[string]string{},
		Errors:       []string{},
	}
	var built string
	var err error
	if h.Kernel, built, err = sys.KernelRelease(); err != nil {
		h.failed("the kernel release", err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		h.failed("the groups of this process", err)
	}
	h.Groups = append(h.Groups, groups...)
	slices.Sort(h.Groups)
	h.Groups = slices.Compact(h.Groups)
	h.readStatus(s)
	h.readUserNS(s)
	h.readSysctls(s)
	h.readNetworkFamilies(s)
	h.readParams(s)
	version, err := readHostFile(s.proc, "version")
	if err != nil {
		h.failed("/proc/version", err)
	}
	h.Sandbox = sandboxOf(h.Kernel+" "+built, version)
	return h
}

// failed notes what could not be read.
func (h *HostFacts) failed(what string, err error) {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the path is in what
	}
	h.Errors = append(h.Errors, fmt.Sprintf("%s could not be read: %v", what, err))
}

// readStatus reads capabilities of the process and the filter of the thread.
func (h *HostFacts) readStatus(s *sources) {
	status, err := readStatusFile(s, "self/status")
	if err == nil {
		h.CapEff = status.capEff
	} else {
		h.failed("/proc/self/status", err)
		// What the probing thread has left is less than the process has, and
		// better than nothing.
		if caps, err := sys.ThreadCaps(); err == nil {
			h.CapEff = caps.Effective
		}
	}
	if thread, err := readStatusFile(s, "thread-self/status"); err == nil {
		status = thread // filters belong to threads, and ours makes the tests
	}
	h.Seccomp = cmp.Or(status.seccomp, "unknown")
	if h.Seccomp == "unknown" {
		mode, err := sys.SeccompMode()
		if err == nil || errors.Is(err, syscall.EINVAL) { // EINVAL: a kernel without seccomp
			h.Seccomp = seccompName(mode)
		}
	}
}

func readStatusFile(s *sources, name string) (processStatus, error) {
	b, err := readHostFile(s.proc, name)
	if err != nil {
		return processStatus{}, err
	}
	status, err := parseStatus(b)
	if err == nil && !status.complete {
		err = errors.New("user id or capabilities missing")
	}
	if err != nil {
		return processStatus{}, err
	}
	return status, nil
}

// initialUserNS is what /proc/self/ns/user points to in the initial user
// namespace: PROC_USER_INIT_INO of linux/proc_ns.h, the same since Linux 3.8.
const initialUserNS = "user:[4026531837]"

// readUserNS finds out whether the process is in the initial user namespace. A
// map of all ids does not prove it: root can give a child namespace one, too.
func (h *HostFacts) readUserNS(s *sources) {
	link, err := fs.ReadLink(s.proc, "self/ns/user")
	if err == nil {
		h.InitUserNS = new(link == initialUserNS)
		return
	}
	if m, mapErr := readHostFile(s.proc, "self/uid_map"); mapErr == nil && !fullUIDMap(m) {
		h.InitUserNS = new(false)
		return
	}
	h.failed("/proc/self/ns/user", err)
}

func (h *HostFacts) readSysctls(s *sources) {
	for _, name := range hostSysctls {
		b, err := readHostFile(s.proc, "sys/"+strings.ReplaceAll(name, ".", "/"))
		if err != nil {
			h.SysctlErrors[name] = fileErrno(err)
			continue
		}
		h.Sysctls[name] = strings.TrimSpace(string(b))
	}
}

// readNetworkFamilies finds out what is loaded. /proc/net is that of the
// process's first thread; the probing thread may be in another namespace.
func (h *HostFacts) readNetworkFamilies(s *sources) {
	b, err := readHostFile(s.proc, "thread-self/net/protocols")
	if err != nil {
		b, err = readHostFile(s.proc, "net/protocols")
	}
	if err != nil {
		h.failed("/proc/net/protocols", err)
	}
	h.Protocols = parseProtocols(b)
	_, sysctl := h.Sysctls["net.ipv6.conf.all.disable_ipv6"]
	switch {
	case sysctl || slices.Contains(h.Protocols, "TCPv6"):
		h.IPv6 = new(true)
	case len(h.Protocols) > 0:
		h.IPv6 = new(false)
	}
}

// readCiphers looks for algorithms that are loaded. The file is absent without
// CONFIG_CRYPTO; then there is no cipher either.
func (h *HostFacts) readCiphers(s *sources) {
	if b, err := readHostFile(s.proc, "crypto"); err == nil {
		h.Ciphers = parseCiphers(b, hostCiphers)
	} else if !errors.Is(err, fs.ErrNotExist) {
		h.failed("/proc/crypto", err)
	}
}

// readParams reads module parameters. One that may not be read is there with
// no text: the module is built in, or loaded.
func (h *HostFacts) readParams(s *sources) {
	for _, p := range hostParams {
		module, name, _ := strings.Cut(p, ".")
		b, err := readHostFile(s.sys, path.Join("module", module, "parameters", name))
		if err == nil || errors.Is(err, fs.ErrPermission) {
			h.ModuleParams[p] = strings.TrimSpace(string(b))
		}
	}
}

// readConfig looks for the configuration of the running kernel, and of no
// other: /boot often holds several. It also reads the lockdown mode, which a
// kernel built without that module does not have.
func (h *HostFacts) readConfig(s *sources) {
	wanted := make([]string, 0, len(hostConfig))
	for _, c := range hostConfig {
		wanted = append(wanted, c.option)
	}
	for _, c := range h.configFiles(s) {
		cfg, err := openConfig(c.fsys, c.name, wanted)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			h.failed(c.path, err)
			continue
		}
		h.Config, h.ConfigSource = cfg, c.path
		break
	}
	h.Lockdown = "unknown"
	if b, err := readHostFile(s.sys, "kernel/security/lockdown"); err == nil {
		h.Lockdown = parseLockdown(b)
	} else if h.Config["CONFIG_SECURITY_LOCKDOWN_LSM"] == "n" {
		h.Lockdown = "none"
	}
}

type configFile struct {
	fsys       fs.FS
	name, path string
}

func (h *HostFacts) configFiles(s *sources) []configFile {
	files := []configFile{{s.proc, "config.gz", "/proc/config.gz"}}
	if !validRelease(h.Kernel) {
		return files
	}
	for _, name := range []string{
		"boot/config-" + h.Kernel,
		"lib/modules/" + h.Kernel + "/config",
		"usr/lib/modules/" + h.Kernel + "/config",
	} {
		files = append(files, configFile{s.root, name, "/" + name})
	}
	return files
}

// validRelease reports whether a release can be part of a file name.
func validRelease(r string) bool {
	return r != "" && r != "." && r != ".." && !strings.Contains(r, "/")
}

func openConfig(fsys fs.FS, name string, wanted []string) (map[string]string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		r = z
	}
	return parseConfig(r, wanted)
}

// readModules finds out where each module that decides something is.
func (h *HostFacts) readModules(s *sources) {
	var loaded map[string]bool
	tree, builtin := map[string]bool{}, map[string]bool{}
	b, err := readHostFile(s.proc, "modules")
	switch {
	case err == nil:
		loaded = loadedModules(b)
	case !errors.Is(err, fs.ErrNotExist): // a kernel without modules has no such file
		h.failed("/proc/modules", err)
	}
	complete := false
	if validRelease(h.Kernel) {
		for _, dir := range []string{"lib/modules/", "usr/lib/modules/"} {
			dep, depErr := readHostFile(s.root, dir+h.Kernel+"/modules.dep")
			in, inErr := readHostFile(s.root, dir+h.Kernel+"/modules.builtin")
			maps.Copy(tree, moduleList(dep))
			maps.Copy(builtin, moduleList(in))
			if complete = depErr == nil && inErr == nil && len(dep) > 0; complete {
				break
			}
		}
	}
	for _, c := range hostConfig {
		if c.module == "" {
			continue
		}
		_, sysErr := fs.Stat(s.sys, "module/"+c.module)
		_, stateErr := fs.Stat(s.sys, "module/"+c.module+"/initstate")
		state := "unknown"
		switch {
		case h.Config[c.option] == "y", builtin[c.module]:
			state = "builtin"
		case loaded[c.module], stateErr == nil:
			state = "loaded"
		case sysErr == nil:
			state = "builtin" // only what can be unloaded has an initstate
		case tree[c.module]:
			state = "available"
		case complete, h.Config["CONFIG_MODULES"] == "n" && h.Config[c.option] == "n":
			state = "absent"
		}
		h.Modules[c.module] = state
	}
}
