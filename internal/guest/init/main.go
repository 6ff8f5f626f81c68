// Program init is the first process of a guest: it mounts what a host has,
// loads modules, carries out the plan and powers the guest off. The kernel also
// calls it as modprobe, and it runs itself to prepare a step's view of the
// file systems. Tests only.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// port is the serial port that frames go to. The console is another, which is a ttyS
// on amd64 alone.
func port() string {
	if runtime.GOARCH == "amd64" {
		return "/dev/ttyS1"
	}
	return "/dev/ttyS0"
}

// modprobeLog is where the program, called as modprobe, writes what was asked.
const modprobeLog = "/run/modprobe.log"

func main() {
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		modprobe(os.Args[1:])
	case os.Getpid() == 1:
		first()
	default:
		enterStep()
	}
}

// first is the life of process 1. Whatever happens, the guest ends.
func first() {
	defer powerOff()
	mountAll()
	tty, err := openPort()
	if err != nil {
		fmt.Println("guest init:", err)
		return
	}
	defer tty.Close()
	s := wire.NewSender(tty)
	defer func() {
		if p := recover(); p != nil {
			s.Send(wire.Log, 0, fmt.Appendf(nil, "panic: %v\n%s", p, debug.Stack()))
		}
		// Wait until the port has taken the last byte: TCSBRK with 1 is tcdrain(3).
		unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1)
	}()
	if err := carryOut(s); err != nil {
		s.Send(wire.Log, 0, []byte(err.Error()))
	} else {
		s.Send(wire.Done, 0, nil)
	}
}

func powerOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest init: power off:", err)
	}
}

func carryOut(s *wire.Sender) error {
	plan, err := readPlan()
	if err != nil {
		return err
	}
	for _, m := range plan.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	if err := configureNICs(plan.NICs); err != nil {
		return err
	}
	s.Send(wire.Begun, 0, nil)
	for i, step := range plan.Steps {
		if err := s.SendJSON(wire.Ended, i, runStep(s, i, plan.Env, step)); err != nil {
			return err
		}
	}
	for _, name := range plan.Collect {
		if err := sendTree(s, name); err != nil {
			return err
		}
	}
	return nil
}

func readPlan() (plan wire.Plan, err error) {
	data, err := os.ReadFile(wire.PlanFile)
	if err != nil {
		return plan, err
	}
	return plan, json.Unmarshal(data, &plan)
}

// mountAll mounts what distributions mount. A file system the kernel lacks is
// reported on the console and left out.
func mountAll() {
	for _, m := range []struct{ fstype, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
		{"devpts", "/dev/pts"}, {"tmpfs", "/dev/shm"}, {"cgroup2", "/sys/fs/cgroup"}, {"bpf", "/sys/fs/bpf"},
		{"securityfs", "/sys/kernel/security"}, {"debugfs", "/sys/kernel/debug"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		os.MkdirAll(m.target, 0o755) // below sysfs it exists or cannot be made
		if err := unix.Mount(m.fstype, m.target, m.fstype, unix.MS_NOSUID, ""); err != nil {
			fmt.Printf("guest init: mount %s: %v\n", m.target, err)
		}
	}
	os.Chmod("/tmp", 0o1777)
}

// openPort opens the serial port and keeps the kernel from changing its bytes.
func openPort() (*os.File, error) {
	f, err := os.OpenFile(port(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", port(), err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = t.Cflag&^unix.CSIZE | unix.CS8 | unix.CLOCAL
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", port(), err)
	}
	return f, nil
}

// runStep runs one program and reports how it ended.
func runStep(s *wire.Sender, i int, env []string, step wire.Step) (x wire.Exit) {
	before, err := loadedModules()
	if err != nil {
		return wire.Exit{Status: 127, Error: err.Error()}
	}
	asked, _ := os.ReadFile(modprobeLog)
	plan, err := json.Marshal(step)
	if err != nil {
		return wire.Exit{Status: 127, Error: err.Error()}
	}
	cmd := exec.Command("/proc/self/exe", string(plan))
	cmd.Env = slices.Concat(env, step.Env)
	cmd.Stdout, cmd.Stderr = s.Stream(wire.Stdout, i), s.Stream(wire.Stderr, i)
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signaled():
		x.Status = 128 + int(ended.Sys().(syscall.WaitStatus).Signal())
	case errors.As(err, &ended):
		x.Status = ended.ExitCode()
	case err != nil:
		x.Status, x.Error = 127, err.Error()
	}
	if x.Modules, err = loadedModules(); err != nil {
		x.Error = err.Error()
	}
	x.Unaltered = slices.Equal(before, x.Modules)
	now, _ := os.ReadFile(modprobeLog)
	x.Asked = strings.FieldsFunc(string(now[len(asked):]), func(r rune) bool { return r == '\n' })
	return x
}

// loadedModules returns the names in /proc/modules, sorted.
func loadedModules() ([]string, error) {
	data, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// sendTree sends a file, or the files below a directory.
func sendTree(s *wire.Sender, top string) error {
	return filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return s.Send(wire.File, 0, slices.Concat([]byte(name), []byte{0}, data))
	})
}
