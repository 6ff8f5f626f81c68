package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// GuestEnv is set to the kernel series, "5.10" say, for programs that
// internal/guest runs in a virtual machine.
const GuestEnv = "ZCPROBE_GUEST"

// Guest skips the test unless it runs in a virtual machine made by package
// guest, and returns the kernel series of that machine. There the test is root,
// alone, and free to change anything. Such tests are named TestGuest*, so that
// the harness finds them.
func Guest(t testing.TB) string {
	t.Helper()
	series := os.Getenv(GuestEnv)
	if series == "" {
		t.Skip("needs a guest made by internal/guest")
	}
	return series
}

// GuestNIC returns the name of the guest's network device with the given
// driver, "e1000e" or "ne2k-pci" say, and skips the test where the guest was
// made without one.
func GuestNIC(t testing.TB, driver string) string {
	t.Helper()
	Guest(t)
	links, err := filepath.Glob("/sys/class/net/*/device/driver")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && filepath.Base(target) == driver
	})
	if i < 0 {
		t.Skipf("needs a guest with a NIC of driver %s", driver)
	}
	return filepath.Base(filepath.Dir(filepath.Dir(links[i])))
}
