// Package testenv says what a test needs from the machine and skips it, with a
// precise reason, where the machine lacks it. Tests only.
//
// Every skip made here begins with "needs " so that continuous integration can
// compare the skips of a run with those it expects.
package testenv

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Root skips the test unless it runs with effective user id 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// NotRoot skips the test if it runs with effective user id 0.
func NotRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
}

// Tool returns the path of an independent tool that the test compares with,
// and skips the test where it is not installed.
func Tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		// Root's tools are often outside an ordinary user's PATH.
		if p, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("needs the tool %s", name)
		}
	}
	return p
}

// Device skips the test where the machine lacks a device file, "/dev/fuse".
func Device(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Stat(name); err != nil {
		t.Skipf("needs %s", name)
	}
}

// Kernel returns the release of the running kernel.
func Kernel(t testing.TB) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatalf("uname: %v", err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
