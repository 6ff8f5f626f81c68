package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zcprobe/zcprobe/internal/hosttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"zcprobe": main})
}

// Scripts run the real program on this host and on recorded ones.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: hosttest.Testdata(t, "scripts"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOSTS", hosttest.Testdata(t, "hosts"))
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("ESC", "\x1b")
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("no condition %s", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"appears": appears,
			"valid": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: valid SCHEMA FILE")
				}
				// Validate stops at the first error of a schema; ts.Fatalf names the script's line.
				r := &failures{TB: t}
				hosttest.Validate(r, args[0], []byte(ts.ReadFile(args[1])))
				if r.text != "" {
					ts.Fatalf("%s is no %s: %s", args[1], args[0], r.text)
				}
			},
		},
	})
}

// exits runs a command and compares its exit code: "!" of testscript only tells
// zero from others.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS..")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// appears waits for a file that a command in the background makes.
func appears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: appears FILE")
	}
	for range 1000 {
		if _, err := os.Lstat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s does not appear", args[0])
}

// failures collects what a test helper reports.
type failures struct {
	testing.TB
	text string
}

func (f *failures) Helper()           {}
func (f *failures) Error(args ...any) { f.text += fmt.Sprintln(args...) }

// Standard output that is full, or that nobody reads, is an error, and no panic.
func TestBadStdout(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdout *os.File, args ...string) (int, string) {
		var stderr strings.Builder
		cmd := exec.Command(self, args...)
		cmd.Args[0] = "zcprobe" // testscript.Main goes by the name
		cmd.Stdout, cmd.Stderr = stdout, &stderr
		if _, ok := errors.AsType[*exec.ExitError](cmd.Run()); !ok {
			t.Errorf("%v did not fail", args)
		}
		return cmd.ProcessState.ExitCode(), stderr.String()
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"explain"}, {"explain", "-o", "json"}, {"help"}, {"version"}, {"completion", "bash"}} {
		code, stderr := run(full, args...)
		if code != exitError || stderr != "zcprobe: write standard output: no space left on device\n" {
			t.Errorf("%v to a full disk: exit %d, %q", args, code, stderr)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		code, stderr = run(w, args...)
		w.Close()
		if code != exitError || stderr != "" {
			t.Errorf("%v to a pipe that nobody reads: exit %d, %q", args, code, stderr)
		}
	}
}
