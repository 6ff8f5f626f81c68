package guest

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// accounts lets programs look up the two users that steps run as.
const accounts = "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"

// buildImage writes the initramfs of a guest.
func buildImage(name string, k *kernel, c Config, first string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	plan, modules, err := makePlan(k, c)
	if err != nil {
		return err
	}
	a := newCPIO(f)
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/mnt", wire.ModuleDir} {
		a.dir(dir)
	}
	a.copyFile("/init", first)
	a.link("/sbin/modprobe", "/init")
	a.file("/etc/passwd", 0o644, []byte(accounts))
	a.file("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	a.file(wire.PlanFile, 0o644, plan)
	for _, m := range modules {
		data, err := readModule(filepath.Join(k.modules, k.index.path[m]))
		if err != nil {
			return err
		}
		a.file(filepath.Join(wire.ModuleDir, m+".ko"), 0o644, data)
	}
	// What an installed kernel has beside its modules; programs look there.
	tree := filepath.Join("/lib/modules", k.version)
	a.file(filepath.Join(tree, "modules.dep"), 0o644, k.index.deps)
	for _, n := range []string{"modules.builtin", "modules.order"} {
		a.copyFile(filepath.Join(tree, n), filepath.Join(k.modules, n))
	}
	a.copyFile("/boot/config-"+k.version, k.config)
	if err := addPrograms(a, c); err != nil {
		return err
	}
	return errors.Join(a.close(), f.Close())
}

// makePlan returns the plan as JSON and the modules it speaks of.
func makePlan(k *kernel, c Config) (plan []byte, modules []string, err error) {
	p := wire.Plan{
		Env: append([]string{
			"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TMPDIR=/tmp", testenv.GuestEnv + "=" + c.Series,
		}, c.Env...),
		Steps: c.Steps, Collect: c.Collect, Loadable: map[string][]string{},
	}
	var first []string
	if p.NICs, first, err = c.plan(); err != nil {
		return nil, nil, err
	}
	if p.Modules, err = k.index.order(append(first, c.Modules...)); err != nil {
		return nil, nil, err
	}
	modules = slices.Clone(p.Modules)
	for _, name := range c.Loadable {
		order, err := k.index.order([]string{name})
		if err != nil {
			return nil, nil, err
		}
		for _, alias := range append(k.index.aliases[moduleName(name)], moduleName(name)) {
			p.Loadable[alias] = append(p.Loadable[alias], order...)
		}
		modules = append(modules, order...)
	}
	slices.Sort(modules)
	plan, err = json.Marshal(p)
	return plan, slices.Compact(modules), err
}

// addPrograms adds the configured tools and files, and the libraries of both.
func addPrograms(a *cpioWriter, c Config) error {
	files := map[string]string{}
	for _, tool := range c.Tools {
		from, err := exec.LookPath(tool)
		if err != nil {
			if from, err = exec.LookPath("/usr/sbin/" + tool); err != nil {
				return fmt.Errorf("needs the tool %s: %w", tool, err)
			}
		}
		files["/bin/"+tool] = from
	}
	for name, from := range c.Files {
		files[name] = from
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := addLibraries(files, files[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		a.copyFile(name, files[name])
	}
	return nil
}

// libraryDirs is where the loader of this machine looks.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib"}

// addLibraries adds to files what a dynamic program needs, at the places where
// its loader looks.
func addLibraries(files map[string]string, program string) error {
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil // data
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
			loader := strings.TrimRight(string(b), "\x00")
			files[loader] = loader
		}
	}
	libs, err := e.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	for _, lib := range libs {
		i := slices.IndexFunc(libraryDirs, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, lib))
			return err == nil
		})
		if i < 0 {
			return fmt.Errorf("%s needs %s: %w", program, lib, fs.ErrNotExist)
		}
		name := filepath.Join(libraryDirs[i], lib)
		if files[name] != "" {
			continue
		}
		files[name] = name
		if err := addLibraries(files, name); err != nil {
			return err
		}
	}
	return nil
}
