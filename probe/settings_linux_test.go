package probe

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// setSysctl changes a setting for one test. Guests only.
func setSysctl(t *testing.T, name, value string) {
	t.Helper()
	testenv.Guest(t)
	file := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(v string) {
		if err := os.WriteFile(file, []byte(v), 0); err != nil {
			t.Errorf("set %s to %s: %v", name, v, err)
		}
	}
	write(value)
	t.Cleanup(func() { write(strings.TrimSpace(string(old))) })
}

// inGroup makes the child an ordinary user in one more group.
func inGroup(gid uint32) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{gid}}
	}
}

// TestGuestUringPolicy sets kernel.io_uring_disabled to each of its values and
// asks as root, as an ordinary user, and as one of the group that may.
func TestGuestUringPolicy(t *testing.T) {
	testenv.Guest(t)
	if _, err := os.Stat("/proc/sys/kernel/io_uring_disabled"); err != nil {
		f := hereFacts(t)
		if s := judgedStatus(f)["io_uring"]; s != Supported || f.Host.SysctlErrors["kernel.io_uring_disabled"] != "ENOENT" {
			t.Errorf("a kernel without the setting: io_uring is %s", s)
		}
		return
	}
	const group = 4711
	for _, c := range []struct {
		policy, group string
		as            func(*exec.Cmd)
		want          FeatureStatus
		remedy        string
	}{
		{"0", "-1", nil, Supported, ""},
		{"0", "-1", asNobody, Supported, ""},
		{"1", "-1", nil, Supported, ""},
		{"1", "-1", asNobody, Denied, "kernel.io_uring_group"},
		{"1", "4711", asNobody, Denied, "kernel.io_uring_group"},
		{"1", "4711", inGroup(group), Supported, ""},
		{"2", "-1", nil, Disabled, "kernel.io_uring_disabled=0"},
		{"2", "4711", inGroup(group), Disabled, "kernel.io_uring_disabled=0"},
	} {
		setSysctl(t, "kernel.io_uring_disabled", c.policy)
		setSysctl(t, "kernel.io_uring_group", c.group)
		_, got := probeChild(t, nil, childOrder{}, c.as)
		for _, id := range []string{"io_uring", "io_uring.send_zc", "io_uring.sendmsg_zc", "io_uring.fixed_buffers"} {
			if x := got[id]; x.Status != c.want || !strings.Contains(x.Remedy, c.remedy) {
				t.Errorf("policy %s, group %s: %s is %s, want %s: %s (%s)", c.policy, c.group, id, x.Status, c.want, x.Detail, x.Remedy)
			}
		}
	}
}

// TestGuestSettingsOfFeatures sets limits that make a feature useless, and
// follows the remedy.
func TestGuestSettingsOfFeatures(t *testing.T) {
	testenv.Guest(t)
	for _, c := range []struct {
		sysctl, value string
		as            func(*exec.Cmd)
		id            string
		want          FeatureStatus
		remedy        string
	}{
		{"fs.pipe-max-size", "65536", asNobody, "pipe.resize", Disabled, "fs.pipe-max-size"},
		{"fs.pipe-max-size", "65536", nil, "pipe.resize", Supported, ""}, // CAP_SYS_RESOURCE
		{"fs.pipe-max-size", "262144", asNobody, "pipe.resize", Supported, "fs.pipe-max-size"},
		{"fs.pipe-user-pages-soft", "1", asNobody, "pipe.resize", Disabled, "fs.pipe-user-pages-soft"},
		{"net.core.optmem_max", "0", nil, "msg_zerocopy.tcp4", Disabled, "net.core.optmem_max"},
	} {
		t.Run(c.sysctl+"="+c.value, func(t *testing.T) {
			setSysctl(t, c.sysctl, c.value)
			_, got := probeChild(t, nil, childOrder{}, c.as)
			if x := got[c.id]; x.Status != c.want || !strings.Contains(x.Remedy, c.remedy) || (c.remedy == "") != (x.Remedy == "") {
				t.Errorf("%s=%s: %s is %s, want %s: %s (%s)", c.sysctl, c.value, c.id, x.Status, c.want, x.Detail, x.Remedy)
			}
			for _, id := range []string{"sendfile.tcp", "splice.file-tcp", "splice.tcp-tcp", "vmsplice", "tee"} {
				if x := got[id]; x.Status != Supported {
					t.Errorf("%s=%s: %s is %s: %s", c.sysctl, c.value, id, x.Status, x.Detail)
				}
			}
		})
	}
}
