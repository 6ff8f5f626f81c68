package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// TestRecvGivesUpPrivileges looks at a recv that root started, as it is installed:
// without cgo, which keeps Go from what is asked of every thread.
func TestRecvGivesUpPrivileges(t *testing.T) {
	testenv.Root(t)
	program := filepath.Join(t.TempDir(), "zcprobe")
	build := exec.Command(testenv.Tool(t, "go"), "build", "-trimpath", "-buildvcs=false", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// A directory of another user, in which only a privilege makes files.
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	cmd := exec.Command(program, "recv", "-o", "json", "--listen", "127.0.0.1:0", "--out", out)
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var where transfer.Received
	lines := json.NewDecoder(said)
	if err := lines.Decode(&where); err != nil {
		t.Fatal(err)
	}
	var may uint64
	for _, c := range []int{sys.CapDACOverride, sys.CapDACReadSearch, sys.CapFowner, sys.CapSysResource} {
		may |= 1 << c
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil {
			continue // it ended
		}
		for _, set := range regexp.MustCompile(`(?m)^Cap(Inh|Prm|Eff):\s+([0-9a-f]+)$`).FindAllSubmatch(status, -1) {
			has, err := strconv.ParseUint(string(set[2]), 16, 64)
			if err != nil || has&^may != 0 {
				t.Errorf("%s: Cap%s is %#x, more than %#x, %v", task, set[1], has, may, err)
			}
		}
	}
	want := random(300_001)
	c, err := net.Dial("tcp", where.Local)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived of %d, %v", len(got), len(want), err)
	}
}
