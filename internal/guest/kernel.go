package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A kernel is a distribution kernel unpacked on this machine.
type kernel struct {
	version string
	image   string // bzImage
	modules string // .../lib/modules/VERSION
	config  string // its configuration
	index   *moduleIndex
}

// kernelDir is where unpacked kernels are kept: DIR/SERIES holds the content
// of the packages, and DIR/SERIES-ARCH where they are not of amd64.
func kernelDir() (string, error) {
	if dir := os.Getenv("ZCPROBE_KERNELS"); dir != "" {
		return dir, nil
	}
	return cacheDir("kernels")
}

func cacheDir(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "zcprobe", name)
	return dir, os.MkdirAll(dir, 0o755)
}

// findKernel returns the kernel of a series for an architecture, and fetches it if
// this machine does not have it yet.
func findKernel(ctx context.Context, series, arch string) (*kernel, error) {
	dir, err := kernelDir()
	if err != nil {
		return nil, err
	}
	name := series
	if arch != amd64 {
		name += "-" + arch
	}
	tree := filepath.Join(dir, name)
	if _, err := os.Stat(tree); errors.Is(err, fs.ErrNotExist) {
		unlock, err := lock(filepath.Join(dir, ".lock"))
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := fetch(ctx, dir, name, series, arch); err != nil {
			return nil, err
		}
	}
	k, err := openKernel(tree)
	if err != nil {
		return nil, err
	}
	k.index, err = readIndex(ctx, k)
	return k, err
}

// lock waits for the lock that the file stands for.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// openKernel finds the parts of an unpacked kernel. Older packages put image
// and configuration into /boot, newer ones beside the modules; an image that is
// signed is the same kernel.
func openKernel(tree string) (*kernel, error) {
	dirs, err := filepath.Glob(filepath.Join(tree, "usr/lib/modules/*/kernel"))
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		if dirs, err = filepath.Glob(filepath.Join(tree, "lib/modules/*/kernel")); err != nil {
			return nil, err
		}
	}
	if len(dirs) != 1 {
		return nil, fmt.Errorf("%s holds %d module trees, not one", tree, len(dirs))
	}
	k := &kernel{modules: filepath.Dir(dirs[0])}
	k.version = filepath.Base(k.modules)
	boot := filepath.Join(tree, "boot")
	k.image = firstFile(filepath.Join(boot, "vmlinuz-"+k.version), filepath.Join(k.modules, "vmlinuz"), filepath.Join(k.modules, "vmlinuz.unsigned"))
	k.config = firstFile(filepath.Join(boot, "config-"+k.version), filepath.Join(k.modules, "config"))
	if k.image == "" || k.config == "" {
		return nil, fmt.Errorf("%s lacks a kernel image or its configuration", tree)
	}
	return k, nil
}

func firstFile(names ...string) string {
	for _, name := range names {
		if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
			return name
		}
	}
	return ""
}

// baseOf is the directory that depmod calls its base: what lib/modules is in.
func (k *kernel) baseOf() string {
	return strings.TrimSuffix(k.modules, filepath.Join("lib/modules", k.version))
}
