package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
)

// A machine is one run of QEMU.
type machine struct {
	arch        string
	dir         string // for its files
	kernel      string
	initramfs   string
	devices     []string // arguments that make the network devices
	taps        []*tap
	commandLine string
	cpus        int
	timeout     time.Duration
}

func (m *machine) console() string { return filepath.Join(m.dir, "console") }
func (m *machine) frames() string  { return filepath.Join(m.dir, "frames") }

// kernelOptions make a kernel boot fast under emulation and end the run when it
// panics; device names are the kernel's own.
const kernelOptions = "quiet loglevel=4 panic=-1 random.trust_cpu=on cryptomgr.notests nokaslr mitigations=off net.ifnames=0"

// A platform is how QEMU makes a machine of an architecture. Its first serial port is
// the console, its second takes frames.
type platform struct {
	qemu   string
	args   []string
	kernel string   // options
	frames []string // arguments for the second port
}

func platformOf(arch string) platform {
	if arch == arm64 {
		// The second port is on PCI, as this machine has one.
		return platform{"qemu-system-aarch64", []string{"-cpu", "cortex-a72", "-machine", "virt,gic-version=3"}, "console=ttyAMA0",
			[]string{"-device", "pci-serial,chardev=frames"}}
	}
	return platform{"qemu-system-x86_64", []string{"-cpu", "max", "-machine", "pc"},
		"console=ttyS0 edd=off tsc=reliable no_timer_check", []string{"-serial", "chardev:frames"}}
}

func (m *machine) args() []string {
	p := platformOf(m.arch)
	return slices.Concat([]string{"-accel", "tcg,thread=multi", "-m", "1G", "-smp", strconv.Itoa(m.cpus)}, p.args, []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.kernel, "-initrd", m.initramfs, "-append", strings.TrimSpace(p.kernel + " " + kernelOptions + " " + m.commandLine),
		"-chardev", "file,id=console,path=" + m.console(), "-serial", "chardev:console",
		"-chardev", "file,id=frames,path=" + m.frames(),
	}, p.frames, m.devices)
}

// bootTimeout is how long a guest may take to begin: they take 5 to 14 seconds,
// and three times that beside other work.
const bootTimeout = time.Minute

// run runs QEMU to its end, or kills it when the time is up or the guest does not
// begin.
func (m *machine) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, fmt.Errorf("not done after %v", m.timeout))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer time.AfterFunc(bootTimeout, func() {
		if st, err := os.Stat(m.frames()); err != nil || st.Size() == 0 {
			stop(fmt.Errorf("silent %v after its start", bootTimeout))
		}
	}).Stop()
	cmd := exec.CommandContext(ctx, platformOf(m.arch).qemu, m.args()...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	for _, t := range m.taps {
		cmd.ExtraFiles = append(cmd.ExtraFiles, t.file)
	}
	// QEMU does not outlive us. The signal comes when the thread that started
	// it ends, so that must be one that waits.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	}()
	err := <-ended
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("qemu: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// result reads what the guest sent. The error says what is missing.
func (m *machine) result(steps int) (Result, error) {
	r := Result{Steps: make([]StepResult, steps), Files: map[string][]byte{}}
	console, err := os.ReadFile(m.console())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	r.Console = string(console)
	f, err := os.Open(m.frames())
	if err != nil {
		return r, err
	}
	defer f.Close()
	for {
		frame, err := wire.Read(f)
		if errors.Is(err, io.EOF) {
			return r, errors.New("it ended before it was done")
		} else if err != nil {
			return r, err
		}
		if done, err := r.take(frame); done || err != nil {
			return r, err
		}
	}
}

// errFirst is trouble that the first process of a guest met and told.
var errFirst = errors.New("its first process")

// take adds one frame to the result, and says whether it is the last.
func (r *Result) take(f wire.Frame) (done bool, err error) {
	if f.Step >= len(r.Steps) && f.Kind != wire.Begun && f.Kind != wire.Done && f.Kind != wire.Log && f.Kind != wire.File {
		return false, fmt.Errorf("it speaks of step %d of %d", f.Step, len(r.Steps))
	}
	switch f.Kind {
	case wire.Begun:
		r.begun = true
	case wire.Stdout:
		r.Steps[f.Step].Stdout += string(f.Data)
	case wire.Stderr:
		r.Steps[f.Step].Stderr += string(f.Data)
	case wire.Ended:
		return false, json.Unmarshal(f.Data, &r.Steps[f.Step].Exit)
	case wire.File:
		name, data, ok := bytes.Cut(f.Data, []byte{0})
		if !ok {
			return false, errors.New("it sent a file without a name")
		}
		r.Files[string(name)] = data
	case wire.Log:
		return false, fmt.Errorf("%w: %s", errFirst, f.Data)
	case wire.Done:
		return true, nil
	default:
		return false, fmt.Errorf("it sent a frame of unknown kind %q", f.Kind)
	}
	return false, nil
}

// transcript is what the steps wrote, for a failed run.
func (r *Result) transcript() string {
	var b strings.Builder
	for i, s := range r.Steps {
		if s.Stdout+s.Stderr+s.Error != "" {
			fmt.Fprintf(&b, "step %d: status %d %s\n%s%s", i, s.Status, s.Error, tail(s.Stdout, 30), tail(s.Stderr, 30))
		}
	}
	return b.String()
}

// tail returns the last n lines.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n") + "\n"
}
