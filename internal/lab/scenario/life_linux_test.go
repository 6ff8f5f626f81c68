package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/zcprobe/zcprobe/internal/testenv"
)

// held lists what this process has of the kernel: descriptors by what they stand for,
// and the network namespaces of its threads.
func held(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, n := range names {
			to, err := os.Readlink(n)
			if err != nil {
				continue // the descriptor of the list, or a thread that ended
			}
			kind, _, _ := strings.Cut(to, ":[")
			if kind != "net" {
				to = kind
			} else if seen[to] {
				continue
			}
			seen[to] = true
			if kind == "socket" || kind == "pipe" || kind == "net" || strings.Contains(to, "bpf") || strings.Contains(to, "io_uring") || strings.Contains(to, "tun") {
				out = append(out, to)
			}
		}
	}
	slices.Sort(out)
	return out
}

// left waits until as much is held as before: threads end, and the runtime closes
// descriptors, in their own time.
func left(t *testing.T, before []string) {
	t.Helper()
	var now []string
	for range 500 {
		now = held(t)
		more := slices.Clone(now)
		for _, one := range before { // some of it may be gone: threads end, and let go of namespaces
			if i := slices.Index(more, one); i >= 0 {
				more = slices.Delete(more, i, i+1)
			}
		}
		if len(more) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("left behind:\n%q\nbefore:\n%q", now, before)
}

// stop is a step that interrupts the set-up.
type stop struct{ cancel context.CancelCauseFunc }

func (stop) String() string { return "stop" }

var errStop = errors.New("stopped")

func (s stop) do(*place) error { s.cancel(errStop); return nil }

// TestStoppedAtEachStep interrupts every set-up of the catalogue behind each of its
// steps.
func TestStoppedAtEachStep(t *testing.T) {
	testenv.Root(t)
	warm, err := open(t.Context(), []Step{Veth{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := warm.close(); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups(Catalogue()) {
		id, _, _ := strings.Cut(g[0].ID, "/")
		t.Run(id, func(t *testing.T) {
			before := held(t)
			for at := 1; at <= len(g[0].SetUp); at++ {
				ctx, cancel := context.WithCancelCause(t.Context())
				steps := slices.Insert(slices.Clone(g[0].SetUp), at, Step(stop{cancel}))
				p, err := open(ctx, append(steps, Loopback{}))
				if p != nil || err == nil {
					t.Fatal("it went on")
				}
				if _, why := lacking(err); !errors.Is(err, errStop) && !strings.Contains(why, "lacks") {
					t.Errorf("behind step %d: %v", at, err)
				}
				cancel(nil)
			}
			left(t, before)
		})
	}
}

// TestStoppedRun interrupts runs at each scenario of some.
func TestStoppedRun(t *testing.T) {
	testenv.Root(t)
	all, err := Select(Catalogue(), []string{"plain", "veth", "xdp-native", "tun"})
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(s Scenario) bool { return s.Traffic.API != "msg_zerocopy" && s.Traffic.API != "write" })
	before := held(t)
	for at := range 2 {
		ctx, cancel := context.WithCancelCause(t.Context())
		told := 0
		_, err := Run(ctx, all, Options{Progress: func(int, int, string) {
			if told++; told > 3*at {
				cancel(errStop)
			}
		}})
		if !errors.Is(err, errStop) {
			t.Errorf("stopped behind %d: %v", told, err)
		}
		cancel(nil)
		left(t, before)
	}
}

// childEnv makes this binary run scenarios until it is killed.
const childEnv = "ZCPROBE_LAB_CHILD"

func TestChildOfKilled(t *testing.T) {
	if os.Getenv(childEnv) != "1" {
		return
	}
	fmt.Println("runs")
	for range 20 { // minutes: it is killed before
		if _, err := Run(t.Context(), Catalogue(), Options{Progress: func(_, _ int, id string) { fmt.Println(id) }}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilled kills a run at points that differ, and waits until the kernel has taken
// away every BPF program and map that it had. Those of devices live as long as the
// devices, and so the namespaces, do.
func TestKilled(t *testing.T) {
	testenv.Root(t)
	for range 2 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestChildOfKilled$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		after := 3 + rand.IntN(20) // lines
		for n := 0; n < after && lines.Scan(); n++ {
			if strings.Contains(lines.Text(), "FAIL") {
				t.Error(lines.Text())
			}
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		programs, maps := bpfOf(t, cmd.Process.Pid)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("it ended before: %v", err)
		}
		if len(programs) == 0 || len(maps) == 0 {
			t.Fatalf("had %d programs and %d maps", len(programs), len(maps))
		}
		for _, id := range programs {
			gone(t, fmt.Sprintf("program %d", id), func() error {
				p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
				if err == nil {
					p.Close()
				}
				return err
			})
		}
		for _, id := range maps {
			gone(t, fmt.Sprintf("map %d", id), func() error {
				m, err := ebpf.NewMapFromID(ebpf.MapID(id))
				if err == nil {
					m.Close()
				}
				return err
			})
		}
	}
}

// bpfOf returns the ids of the BPF objects that a process holds.
func bpfOf(t *testing.T, pid int) (programs, maps []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			id, err := strconv.Atoi(strings.TrimSpace(value))
			switch {
			case err != nil:
			case name == "prog_id":
				programs = append(programs, id)
			case name == "map_id":
				maps = append(maps, id)
			}
		}
	}
	return programs, maps
}

func gone(t *testing.T, what string, look func() error) {
	t.Helper()
	var err error
	for range 1000 {
		if err = look(); errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s is still there: %v", what, err)
}
