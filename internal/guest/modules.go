package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleIndex is what depmod says about a module tree.
type moduleIndex struct {
	deps    []byte              // as in modules.dep
	path    map[string]string   // file below the tree, by module name
	needs   map[string][]string // names of modules to load before, in order
	aliases map[string][]string // alias patterns, by module name
	builtin map[string]bool
}

// readIndex runs depmod on the kernel's modules, once for each kernel and
// machine: it takes 10 seconds where modules are compressed.
func readIndex(ctx context.Context, k *kernel) (*moduleIndex, error) {
	st, err := os.Stat(k.image)
	if err != nil {
		return nil, err
	}
	dir, err := cacheDir("depmod")
	if err != nil {
		return nil, err
	}
	// Two builds of one version differ in the size of their image.
	cached := filepath.Join(dir, fmt.Sprintf("%s-%d", k.version, st.Size()))
	out, err := os.ReadFile(cached)
	if errors.Is(err, fs.ErrNotExist) {
		out, err = exec.CommandContext(ctx, "/sbin/depmod", "-n", "-b", k.baseOf(), k.version).Output()
		if err != nil {
			return nil, fmt.Errorf("depmod: %w", err)
		}
		err = writeAtomically(cached, out)
	}
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(k.modules, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	return parseIndex(out, builtin), nil
}

func writeAtomically(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), name)
}

// parseIndex reads the output of `depmod -n`, which is modules.dep followed by
// modules.alias and others, and modules.builtin.
func parseIndex(out, builtin []byte) *moduleIndex {
	x := &moduleIndex{path: map[string]string{}, needs: map[string][]string{}, aliases: map[string][]string{}, builtin: map[string]bool{}}
	for line := range bytes.Lines(out) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "#") {
			continue
		}
		if file, rest, ok := strings.Cut(text, ".ko"); ok && strings.HasPrefix(text, "kernel/") {
			suffix, needs, _ := strings.Cut(rest, ":")
			name := moduleName(file)
			x.deps = append(x.deps, line...)
			x.path[name] = file + ".ko" + suffix
			for _, n := range strings.Fields(needs) {
				// depmod names the nearest dependency first.
				x.needs[name] = append([]string{moduleName(n)}, x.needs[name]...)
			}
			continue
		}
		if f := strings.Fields(text); len(f) == 3 && f[0] == "alias" && !strings.HasPrefix(f[1], "symbol:") {
			x.aliases[f[2]] = append(x.aliases[f[2]], f[1])
		}
	}
	for line := range bytes.Lines(builtin) {
		x.builtin[moduleName(string(bytes.TrimSpace(line)))] = true
	}
	return x
}

// moduleName is the name the kernel uses for a module file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// order returns the modules to load for names, dependencies first. What is
// built into the kernel needs no loading; what the kernel lacks is an error.
func (x *moduleIndex) order(names []string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			order = append(order, name)
		}
	}
	for _, n := range names {
		n = moduleName(n)
		switch {
		case x.path[n] != "":
			for _, dep := range x.needs[n] {
				add(dep)
			}
			add(n)
		case !x.builtin[n]:
			return nil, fmt.Errorf("the kernel has no module %s", n)
		}
	}
	return order, nil
}

// readModule returns a module without compression.
func readModule(file string) ([]byte, error) {
	var tool string
	switch filepath.Ext(file) {
	case ".xz":
		tool = "xz"
	case ".zst":
		tool = "zstd"
	default:
		return os.ReadFile(file)
	}
	out, err := exec.Command(tool, "-dc", file).Output()
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", tool, file, err)
	}
	return out, nil
}
