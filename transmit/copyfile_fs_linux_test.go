package transmit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// copyFSEnv names the file system, and its image, that the test is to mount in the
// mount namespace that it was started in.
const copyFSEnv = "ZCPROBE_TEST_COPY_FS"

func TestCopyFileSystems(t *testing.T) {
	if fs, image, ok := strings.Cut(os.Getenv(copyFSEnv), " "); ok {
		copyOnMount(t, fs, image)
		return
	}
	testenv.Root(t)
	mount := testenv.Tool(t, "mount")
	for _, fs := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(fs, func(t *testing.T) {
			image := "none"
			if fs != "tmpfs" {
				mkfs := testenv.Tool(t, "mkfs."+fs)
				image = filepath.Join(t.TempDir(), "image")
				if err := os.WriteFile(image, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(image, 400<<20); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(mkfs, "-q", image).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", mkfs, err, out)
				}
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestCopyFileSystems$", "-test.v")
			cmd.Env = append(os.Environ(), copyFSEnv+"="+fs+" "+image, "ZCPROBE_TEST_MOUNT="+mount)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestCopyFileSystems") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// copyOnMount mounts the image on a directory of its own, in this process's mount
// namespace, which ends with it.
func copyOnMount(t *testing.T, fs, image string) {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	options := "rw"
	if image != "none" {
		options = "loop"
	}
	if out, err := exec.Command(os.Getenv("ZCPROBE_TEST_MOUNT"), "-t", fs, "-o", options, image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Run("copy", func(t *testing.T) { copyCases(t, dir, dir) })
	t.Run("sparse", func(t *testing.T) { sparseCases(t, dir) })
	t.Run("share", func(t *testing.T) { shareCases(t, dir, fs == "xfs" || fs == "btrfs") })
}

// shareCases looks at when extents are shared, where they can be.
func shareCases(t *testing.T, dir string, can bool) {
	const size = 3<<20 + 100
	src := fileIn(t, dir, pattern(size))
	for _, c := range []struct {
		name              string
		srcOff, dstOff, n int64
		have              int
		opts              CopyOptions
		shared            int64
	}{
		{name: "whole", n: -1, shared: size},
		{name: "whole, by length", n: size, shared: size},
		{name: "blocks", srcOff: 4096, dstOff: 8192, n: 1 << 20, shared: 1 << 20},
		{name: "blocks and more", srcOff: 4096, dstOff: 8192, n: 1<<20 + 5, shared: 1 << 20},
		{name: "to the end", srcOff: 4096, dstOff: 0, n: -1, shared: size - 4096},
		{name: "within another", srcOff: 0, dstOff: 4096, n: 256 << 10, have: 400_000, shared: 256 << 10},
		{name: "little", n: cloneMin - 1},
		{name: "between blocks", srcOff: 1, dstOff: 4096, n: -1},
		{name: "less than a block", n: 4095},
		{name: "own blocks", n: -1, opts: CopyOptions{OwnBlocks: true}},
		{name: "by name", n: -1, opts: CopyOptions{Backend: CopyFileRange}},
	} {
		dst := fileIn(t, dir, make([]byte, c.have))
		res, err := CopyFile(t.Context(), dst, src, c.srcOff, c.dstOff, c.n, c.opts)
		want := c.shared
		if !can {
			want = 0
		}
		if err != nil || res.SharedBytes != want || res.SharedBytes+res.PlainBytes != res.Bytes {
			t.Errorf("%s: %+v, %v; want %d shared", c.name, res, err, want)
		}
		sameFile(t, c.name, dst, src, c.dstOff, c.srcOff, res.Bytes)
		if st, err := dst.Stat(); err != nil || st.Size() != max(int64(c.have), c.dstOff+res.Bytes) {
			t.Errorf("%s: size %d, %v", c.name, st.Size(), err)
		}
	}
	// What is shared is shared until it is written, and no longer.
	dst := fileIn(t, dir, nil)
	if _, err := CopyFile(t.Context(), dst, src, 0, 0, -1, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := src.WriteAt([]byte("changed"), 10_000); err != nil {
		t.Fatal(err)
	}
	sameContent(t, fmt.Sprintf("after the source changed (shared: %v)", can), contentOf(t, dst), pattern(size))
}
