package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// enterStep prepares what the step is to see and becomes its program. The step
// is the argument, as JSON.
func enterStep() {
	err := becomeStep()
	fmt.Fprintln(os.Stderr, "guest init: step:", err)
	os.Exit(127)
}

func becomeStep() error {
	runtime.LockOSThread() // the mount namespace is the thread's
	var step wire.Step
	if err := json.Unmarshal([]byte(os.Args[1]), &step); err != nil {
		return err
	}
	path, err := exec.LookPath(step.Args[0])
	if err != nil {
		return err
	}
	if step.Dir == "" {
		step.Dir = "/"
	}
	if err := os.Chdir(step.Dir); err != nil {
		return err
	}
	if len(step.Without) > 0 || step.ReadOnly {
		if err := hide(step); err != nil {
			return err
		}
	}
	if step.Memlock != nil {
		lim := unix.Rlimit{Cur: *step.Memlock, Max: *step.Memlock}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
			return fmt.Errorf("memlock limit: %w", err)
		}
	}
	if step.UID != 0 {
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("setgroups: %w", err)
		}
		if err := unix.Setresgid(step.UID, step.UID, step.UID); err != nil {
			return fmt.Errorf("setgid: %w", err)
		}
		if err := unix.Setresuid(step.UID, step.UID, step.UID); err != nil {
			return fmt.Errorf("setuid: %w", err)
		}
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, step.Args, os.Environ()))
}

// hide gives the thread a mount namespace of its own, without the file systems
// the step must not see and with the others read-only where it asks for that.
func hide(step wire.Step) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		target := strings.Fields(line)[4]
		if !step.ReadOnly || slices.Contains(step.Without, target) {
			continue
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", target, err)
		}
	}
	for _, target := range step.Without {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return nil
}
