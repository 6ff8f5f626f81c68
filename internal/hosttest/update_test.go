package hosttest_test

import (
	"flag"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/guest"
	"github.com/zcprobe/zcprobe/internal/hosttest"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// Record the hosts of testdata/hosts anew, as root, and look at the difference:
//
//	ZCPROBE_GUESTS=1 go test ./internal/hosttest -run TestUpdateHosts -update-hosts -timeout 20m
//
// Part of them only: -run 'TestUpdateHosts/guest-5.10'.
var update = flag.Bool("update-hosts", false, "record testdata/hosts anew")

// guests are the kernels and network cards that are recorded: every card with
// its offloads once, and the oldest and newest kernel also without any.
var guests = []struct{ series, nic string }{
	{"5.10", "e1000e"},
	{"5.10", "ne2k_pci"},
	{"6.1", "e1000e"},
	{"6.1", "rtl8139"},
	{"6.12", "e1000e"},
	{"6.12", "vmxnet3"},
	{"6.18", "e1000e"},
	{"6.18", "virtio-net-pci"},
	{"7.3", "e1000e"},
	{"7.3", "ne2k_pci"},
}

func TestUpdateHosts(t *testing.T) {
	if !*update {
		t.Skip("needs -update-hosts")
	}
	testenv.Root(t)
	zcprobe := guest.Build(t, "./cmd/zcprobe")
	for _, g := range guests {
		name := "guest-" + g.series + "-" + g.nic
		t.Run(name, func(t *testing.T) {
			r := guest.Run(t, guest.Config{
				Series: g.series, NICs: []string{g.nic}, Files: map[string]string{"/bin/zcprobe": zcprobe},
				Steps:   []guest.Step{{Args: []string{"zcprobe", "record", "/tmp/record", "--to", "10.0.10.100:9"}}},
				Collect: []string{"/tmp/record"},
			})
			if s := r.Steps[0]; s.Status != 0 {
				t.Fatalf("record: status %d: %s", s.Status, s.Stderr)
			}
			replace(t, name, r.Files, "/tmp/record/")
		})
	}
	for _, name := range []string{"root", "nobody"} {
		t.Run("machine-"+name, func(t *testing.T) {
			u, err := user.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			uid, err := strconv.ParseUint(u.Uid, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			// The test's own directory is closed to others.
			dir, err := os.MkdirTemp("", "zcprobe-record-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			program := filepath.Join(dir, "zcprobe")
			b, err := os.ReadFile(zcprobe)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{os.WriteFile(program, b, 0o755), os.Chown(dir, int(uid), int(uid)), os.Chmod(dir, 0o755)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), program, "record", filepath.Join(dir, "record"), "--to", "localhost")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("record: %v\n%s", err, out)
			}
			files, err := filepath.Glob(filepath.Join(dir, "record", "*.json"))
			if err != nil {
				t.Fatal(err)
			}
			contents := map[string][]byte{}
			for _, f := range files {
				if contents[f], err = os.ReadFile(f); err != nil {
					t.Fatal(err)
				}
			}
			replace(t, "machine-"+name, contents, filepath.Join(dir, "record")+"/")
		})
	}
}

// replace makes files, whose names begin with prefix, the recorded host.
func replace(t *testing.T, name string, files map[string][]byte, prefix string) {
	t.Helper()
	dir := hosttest.Dir(t, name)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, b := range files {
		base, ok := strings.CutPrefix(path, prefix)
		if !ok {
			t.Fatalf("unexpected file %s", path)
		}
		if err := os.WriteFile(filepath.Join(dir, base), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hosttest.Load(t, name)
}
