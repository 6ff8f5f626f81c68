package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// A victim is a command that is killed while it works.
type victim struct {
	w    *world
	cmd  *exec.Cmd
	dir  string // where it makes its files
	mark string // in its environment, and in that of what it starts
	said *bufio.Reader
}

func (w *world) victim(args ...string) *victim {
	w.Helper()
	v := &victim{w: w, dir: w.TempDir(), mark: "ZCPROBE_KILLED=" + strconv.FormatUint(rand.Uint64(), 36)}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "DIR", v.dir)
	}
	v.cmd = exec.Command(filepath.Join(w.bin, "zcprobe"), args...)
	v.cmd.Env = append(os.Environ(), "TMPDIR="+v.dir, "XDG_STATE_HOME="+v.dir, "LANG=C.UTF-8", v.mark)
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	v.said = bufio.NewReader(out)
	w.ns.Do(func() { err = v.cmd.Start() })
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { v.cmd.Process.Kill() })
	return v
}

// kill ends it, and returns what it had of the kernel shortly before: BPF objects, and
// network namespaces other than the test's.
func (v *victim) kill() (objects [][2]string, namespaces []string) {
	v.w.Helper()
	pid := v.cmd.Process.Pid
	// Stopped, it makes nothing between the look and its end.
	if err := v.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		v.w.Fatalf("it ended before: %v", err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		v.w.Fatalf("it was not stopped: status %#x, %v", status, err)
	}
	objects = objectsOf(v.w.T, pid)
	usual := []string{namespaceOf(v.w.T, "/proc/self/ns/net"), namespaceOf(v.w.T, v.w.ns.Path())}
	for _, ns := range namespacesOf(strconv.Itoa(pid)) {
		if !slices.Contains(usual, ns) && !slices.Contains(namespaces, ns) {
			namespaces = append(namespaces, ns)
		}
	}
	if err := v.cmd.Process.Kill(); err != nil {
		v.w.Fatal(err)
	}
	_ = v.cmd.Wait() // killed
	return objects, namespaces
}

func namespaceOf(t *testing.T, path string) string {
	t.Helper()
	to, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// namespacesOf lists the network namespaces that the threads of a process are in, and
// that its descriptors hold.
func namespacesOf(pid string) (found []string) {
	for _, pattern := range []string{"/proc/" + pid + "/task/*/ns/net", "/proc/" + pid + "/fd/*"} {
		names, _ := filepath.Glob(pattern) // the pattern is a good one
		for _, name := range names {
			if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "net:[") {
				found = append(found, to)
			}
		}
	}
	return found
}

// left says what there is of the victim, "" if nothing.
func (v *victim) left(objects [][2]string, namespaces []string) string {
	v.w.Helper()
	bpftool := testenv.Tool(v.w, "bpftool")
	for _, o := range objects {
		if exec.Command(bpftool, o[0], "show", "id", o[1]).Run() == nil {
			return "BPF " + o[0] + " " + o[1]
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		pid := filepath.Base(p)
		if env, err := os.ReadFile(p + "/environ"); err == nil && bytes.Contains(env, []byte(v.mark)) {
			return "process " + pid
		}
		for _, ns := range namespacesOf(pid) {
			if slices.Contains(namespaces, ns) {
				return "namespace " + ns + " of process " + pid
			}
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(v.dir)) {
		return "a mount in " + v.dir
	}
	var file string
	if err := filepath.WalkDir(v.dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			file = "file " + name
		}
		return err
	}); err != nil {
		return err.Error()
	}
	if file != "" {
		return file
	}
	var links []struct{ Ifname string }
	if err := json.Unmarshal([]byte(v.w.ns.Run("ip", "-j", "link")), &links); err != nil || len(links) != 1 || links[0].Ifname != "lo" {
		return "links " + v.w.ns.Run("ip", "-br", "link")
	}
	return strings.TrimSpace(v.w.ns.Run("ss", "-Hxtuanp", "state", "listening", "state", "established", "state", "fin-wait-1"))
}

// drain is a peer that takes everything, and what ends it.
func (w *world) drain() (to string, end func()) {
	w.Helper()
	var l net.Listener
	var err error
	w.ns.Do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		w.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c) // as long as the other side is there
				c.Close()
			}()
		}
	}()
	return l.Addr().String(), func() { l.Close() }
}

// feed sends to a recv, from when it listens until it is gone.
func (w *world) feed(v *victim) {
	go func() {
		line, err := v.said.ReadBytes('\n')
		var where transfer.Received
		if err != nil || json.Unmarshal(line, &where) != nil {
			return // killed before
		}
		var c net.Conn
		w.ns.Do(func() { c, err = net.Dial("tcp", where.Local) })
		if err != nil {
			return
		}
		defer c.Close()
		for b := make([]byte, 64<<10); err == nil; {
			_, err = c.Write(b)
		}
	}()
}

// TestKilledLeavesNothing kills each command that makes something, at points that
// differ from run to run.
func TestKilledLeavesNothing(t *testing.T) {
	testenv.Root(t)
	forever := []string{"send", "-q", "--memory", "1M", "--repeat", "100000000", "--no-checksum", "--to"}
	for _, c := range []struct {
		name string
		args []string
		span time.Duration // within which it is killed
	}{
		{"lab", []string{"lab", "run"}, 4 * time.Second},
		{"bench", []string{"bench", "--quick", "--no-save"}, 3 * time.Second},
		{"trace", []string{"trace", "--exact", "--interval", "100ms", "-o", "json"}, 3 * time.Second},
		{"send", forever, time.Second},
		{"recv", []string{"recv", "-o", "json", "--listen", "127.0.0.1:0", "--out", "DIR/received"}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range 3 {
				// The first one soon: much is made at the beginning.
				after := time.Duration(rand.Int64N(int64(c.span) * int64(i+1) / 3))
				killedAfter(newWorld(t), c.name, slices.Clone(c.args), forever, after)
			}
		})
	}
}

func killedAfter(w *world, name string, args, forever []string, after time.Duration) {
	w.Helper()
	to, end := w.drain()
	var sender *process
	switch name {
	case "send":
		args = append(args, to)
	case "trace":
		sender = w.start(nil, append(slices.Clone(forever), to)...)
	}
	v := w.victim(args...)
	if name == "recv" {
		w.feed(v)
	}
	time.Sleep(after)
	objects, namespaces := v.kill()
	w.Logf("killed after %v: %d BPF objects, %d namespaces", after, len(objects), len(namespaces))
	if sender != nil {
		sender.Process.Kill()
		<-sender.all
		_ = sender.Wait() // killed
	}
	end()
	var left string
	for range 500 { // the kernel takes it away a little later
		if left = v.left(objects, namespaces); left == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.Errorf("killed after %v: left behind: %s", after, left)
}
