package guest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

func TestNewestABI(t *testing.T) {
	names := strings.Fields(`linux-image-6.1.0-9-amd64 linux-image-6.1.0-47-amd64 linux-image-6.1.0-50-rt-amd64
		linux-image-6.1.0-50-cloud-amd64 linux-image-6.12.94+deb13-amd64 linux-image-6.12.107+deb13-amd64
		linux-image-6.12.117+deb12-rt-amd64 linux-image-amd64 linux-image-6.1.0-48-arm64`)
	for series, want := range map[string]string{"6.1": "6.1.0-47-amd64", "6.12": "6.12.107+deb13-amd64", "6": "", "5.10": ""} {
		if got := newestABI(names, series, "amd64"); got != want {
			t.Errorf("%s: %q, want %q", series, got, want)
		}
	}
}

func TestModuleOrder(t *testing.T) {
	x := parseIndex([]byte(`kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz kernel/net/802/garp.ko.xz kernel/net/llc/llc.ko.xz
kernel/net/802/mrp.ko.xz:
kernel/net/802/garp.ko.xz: kernel/net/llc/llc.ko.xz
kernel/net/llc/llc.ko.xz:
kernel/drivers/net/ne2k-pci.ko: kernel/drivers/net/8390.ko
kernel/drivers/net/8390.ko:
# Aliases extracted from modules themselves.
alias rtnl-link-vlan 8021q
alias symbol:vlan_ioctl_set 8021q
softdep 8021q pre: x
`), []byte("kernel/net/key/af-key.ko\n"))
	order, err := x.order([]string{"ne2k-pci", "8021q", "af_key", "llc"})
	if want := []string{"8390", "ne2k_pci", "llc", "garp", "mrp", "8021q"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("got %q, %v, want %q", order, err, want)
	}
	if _, err := x.order([]string{"tls"}); err == nil {
		t.Error("a module the kernel lacks was accepted")
	}
	if got := x.aliases["8021q"]; !slices.Equal(got, []string{"rtnl-link-vlan"}) {
		t.Errorf("aliases %q", got)
	}
	if x.path["8021q"] != "kernel/net/8021q/8021q.ko.xz" || bytes.Count(x.deps, []byte("\n")) != 6 {
		t.Errorf("path %q, deps %q", x.path["8021q"], x.deps)
	}
}

// TestCPIO has cpio(1) read what we write.
func TestCPIO(t *testing.T) {
	tool := testenv.Tool(t, "cpio")
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, []byte("12345"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := newCPIO(&b)
	c.file("/a/b/one", 0o600, []byte("1"))
	c.copyFile("/a/five", source)
	c.link("/a/link", "b/one")
	c.file("/empty", 0o644, nil)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), tool, "-idm", "--quiet", "--no-preserve-owner")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	for name, want := range map[string]string{"a/b/one": "1", "a/five": "12345", "a/link": "1", "empty": ""} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "a/five")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("a/five: %v, %v", st, err)
	}
}
