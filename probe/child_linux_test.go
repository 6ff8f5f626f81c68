package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/internal/testenv"
	"golang.org/x/sys/unix"
)

// childEnv names the task that this test binary does for another run of it,
// with another user's rights or other limits.
const childEnv = "ZCPROBE_TEST_CHILD"

const nobody = 65534

// childTasks are what a child can be asked for. Each gets the argument and
// returns what is sent back as JSON.
var childTasks = map[string]func(t *testing.T, arg json.RawMessage) any{
	"taps":      childTaps,
	"memlock":   childMemlock,
	"limits":    childLimits,
	"pipes":     childPipes,
	"look":      childLook,
	"kernel":    childKernel,
	"features":  childFeatures,
	"network":   childNetwork,
	"dir":       childDir,
	"fuse":      childFUSE,
	"fuse-hang": childFUSEHang,
}

// TestChild is not a test: it is where a child begins.
func TestChild(t *testing.T) {
	task, ok := childTasks[os.Getenv(childEnv)]
	if !ok {
		return
	}
	var arg json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&arg); err != nil {
		t.Fatal(err)
	}
	result := task(t, arg)
	if t.Failed() {
		t.FailNow()
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		t.Fatal(err)
	}
	os.Exit(0) // before the test framework says anything
}

// runChild runs a task in a child and decodes its result. setup, which may be
// nil, changes the command; with a namespace the child starts in it.
func runChild(t *testing.T, ns *testenv.NetNS, task string, arg, result any, setup func(*exec.Cmd)) {
	t.Helper()
	in, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	// Not by its path: the test binary is in a directory that is closed to
	// other users.
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if setup != nil {
		setup(cmd)
	}
	run := func() { err = cmd.Run() }
	if ns != nil {
		ns.Do(run)
	} else {
		run()
	}
	if err != nil {
		t.Fatalf("child %s: %v\n%s%s", task, err, stdout.Bytes(), stderr.Bytes())
	}
	if err := json.Unmarshal(stdout.Bytes(), result); err != nil {
		t.Fatalf("child %s: %v in %q", task, err, stdout.Bytes())
	}
}

// asNobody makes the child an ordinary user without capabilities.
func asNobody(cmd *exec.Cmd) { asUser(nobody)(cmd) }

// asUser makes the child one of the given user's, without capabilities.
func asUser(uid uint32) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: nobody}
	}
}

// waitForCommand waits until a process has become the named command.
func waitForCommand(t *testing.T, pid int, comm string) {
	t.Helper()
	for range 500 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && string(b) == comm+"\n" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d has not become %s", pid, comm)
}

// setRlimit changes the limits of this process, a child.
func setRlimit(t *testing.T, resource int, bytes uint64) {
	t.Helper()
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
		t.Fatalf("setrlimit %d: %v", resource, err)
	}
}
