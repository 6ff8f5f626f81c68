// Package guest runs programs of the project in virtual machines with
// distribution kernels, so that claims about kernels and network devices other
// than this machine's can be tested. It needs QEMU, which emulates the
// processor (no KVM), and takes 10 to 20 seconds for a guest. Tests only.
//
// A guest has no distribution in it: its first process, our own, carries out
// [Config.Steps] and powers it off. Its network devices reach nothing outside
// the QEMU process.
package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/guest/wire"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// Step is one program run in a guest.
type Step = wire.Step

// Config describes a guest and what runs in it.
type Config struct {
	Series string // kernel series: "5.10", "6.1", "6.12", "6.18" or "7.3"
	Arch   string // amd64 if "", or arm64, for which this machine has no Tools

	// NICs are QEMU device models, options after a comma. Number i is in a
	// network of its own, 10.0.(10+i).0/24: the guest is .15, a gateway that
	// forwards nothing .2, and port 9 of .100 swallows what it is sent.
	NICs []string

	// Taps are more models, with a network each like NICs and numbered after them, on
	// taps of this machine: to these alone a virtio device can leave checksums and
	// segmentation. They need root.
	Taps []string

	// Wire are more models, numbered after Taps, that are all on one wire: they are up
	// and have no addresses.
	Wire []string

	KeepSunk bool // keep what the ports 9 swallow, for Result.Sunk

	Modules  []string // loaded before the steps, after those the NICs need
	Loadable []string // loaded when the kernel asks modprobe for them

	Tools []string          // programs of this machine that come along, with their libraries
	Files map[string]string // more files of this machine, by name in the guest
	Env   []string          // environment of every step

	Steps   []Step
	Collect []string // files and directories of the guest to bring back

	CommandLine string        // added to the kernel's
	CPUs        int           // two if 0; with one the kernel patches its code without QEMU's race
	Timeout     time.Duration // of the whole run; four minutes if 0
}

// Result is what a guest did.
type Result struct {
	Steps   []StepResult      // one for each step
	Files   map[string][]byte // collected, by name in the guest
	Sunk    [][]byte          // what port 9 was sent in the network of each of NICs and Taps
	Console string            // what the kernel said

	begun bool // it came as far as the first step
}

// StepResult is how one step went.
type StepResult struct {
	Stdout, Stderr string
	wire.Exit
}

// The architectures of guests, as Go and Debian call them.
const (
	amd64 = "amd64"
	arm64 = "arm64"
)

// full in ZCPROBE_GUESTS asks for what takes too long for every change, too.
const full = "full"

// Full says whether that is asked for.
func Full() bool { return os.Getenv("ZCPROBE_GUESTS") == full }

// Require skips the test unless guests are asked for and can run here.
func Require(t testing.TB) {
	t.Helper()
	if !slices.Contains([]string{"1", full}, os.Getenv("ZCPROBE_GUESTS")) {
		t.Skip("needs ZCPROBE_GUESTS=1")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("needs an amd64 machine")
	}
	for _, tool := range []string{"qemu-system-x86_64", "depmod", "xz", "zstd"} {
		testenv.Tool(t, tool)
	}
}

// starts is how often a guest is started that the emulator fails. Before the first
// step nothing of ours has run, so what goes wrong there says nothing about what is
// tested; from the first step on only a crash that is QEMU's own does not count.
const starts = 3

// emulatorCrash is how kernels die of QEMU's emulation: where one CPU patches code
// that another runs (text_poke_bp), translated code of the other can meet the int3
// that stands there meanwhile after its handler has been taken out. It was seen in
// one start of 6.12 out of 25, on a busy machine; a real CPU does not do that.
const emulatorCrash = "int3: 0000 [#1]"

// Run boots the guest, carries out its steps and returns what they did. The
// test fails unless the guest did all of it; how the steps ended is the test's
// to judge.
func Run(t testing.TB, c Config) Result {
	t.Helper()
	Require(t)
	if c.Arch == arm64 {
		testenv.Tool(t, "qemu-system-aarch64")
	}
	first := BuildFor(t, cmp.Or(c.Arch, amd64), "./internal/guest/init")
	for n := 1; ; n++ {
		r, err := boot(t.Context(), t.TempDir(), first, c, openTaps(t, &c)...)
		if err == nil {
			return r
		}
		what := fmt.Sprintf("guest %s: %v\n%s\nlast of its console:\n%s", c.Series, err, r.transcript(), tail(r.Console, 20))
		again := errors.Is(err, errNotBegun) || strings.Contains(r.Console, emulatorCrash)
		if !again || n == starts {
			t.Fatal(what)
		}
		t.Logf("start %d of %d came to nothing: %s", n, starts, what)
	}
}

// errNotBegun says that a guest ended, or was ended, before its first step.
var errNotBegun = errors.New("it did not come to its first step")

// boot runs a guest with its files in dir and first as its first process.
func boot(ctx context.Context, dir, first string, c Config, taps ...*tap) (Result, error) {
	k, err := findKernel(ctx, c.Series, cmp.Or(c.Arch, amd64))
	if err != nil {
		return Result{}, err
	}
	m := machine{
		arch: cmp.Or(c.Arch, amd64), dir: dir, kernel: k.image, initramfs: filepath.Join(dir, "initramfs"),
		devices: netdevs(&c, dir), taps: taps, commandLine: c.CommandLine, cpus: cmp.Or(c.CPUs, 2), timeout: cmp.Or(c.Timeout, 4*time.Minute),
	}
	if err := buildImage(m.initramfs, k, c, first); err != nil {
		return Result{}, err
	}
	runErr := m.run(ctx)
	r, err := m.result(len(c.Steps))
	if runErr != nil {
		err = runErr // says more than what is missing for it
	}
	if err != nil && !r.begun && !errors.Is(err, errFirst) {
		err = fmt.Errorf("%w: %w", errNotBegun, err)
	}
	if err == nil && c.KeepSunk {
		r.Sunk, err = c.sunk(dir, taps)
	}
	return r, err
}
