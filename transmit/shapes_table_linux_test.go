package transmit_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zcprobe/zcprobe/transmit/zctest"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite SHAPES.md")

// shapesFile is the table that the shapes make.
const shapesFile = "SHAPES.md"

const shapesHead = `# What io.Copy and net/http call, before and after

Each row is a line of Go as programs have it. It was run twice, with a body of 1 MiB on loopback: with the
standard library alone, and with the change of the third column. The calls are those that package zctest
recorded; what arrived was compared byte by byte. The file is written by the tests:

    go test ./transmit -run TestShapes -update

*Zero-copy* is yes where all but a head of at most 4 KiB went by sendfile, splice or MSG_ZEROCOPY, and *in kernel*
where copy_file_range kept it out of the process. Sizes are those asked for by the calls that read.

`

// A column is what one library made of a shape.
type column struct{ calls, zeroCopy string }

// What a column says of zero-copy.
const (
	yes    = "yes"
	no     = "**no**"
	partly = "partly"
	within = "in kernel"
)

// summary has a stage's calls in a form that is the same in every run: each that
// moved bytes once, without counts.
func (s *stage) summary() column {
	var errors, kernel, memory []string
	var inKernel, copied, most int64
	ranges := false
	add := func(list *[]string, name string) {
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for _, c := range s.calls.List {
		if c.Source.Name == s.target { // the other direction, or the peer of a pipe
			continue
		}
		if !s.watched[c.Source.Name] && !s.watched[c.Target.Name] || c.Name == "setsockopt" {
			continue
		}
		toTarget := c.Target.Name == s.target
		switch {
		case c.Errno == syscall.EAGAIN || c.Errno == syscall.EINTR || c.Errno == 0 && c.Bytes == 0:
		case c.Errno != 0:
			add(&errors, c.Name+" "+unix.ErrnoName(c.Errno))
		case c.Name == "copy_file_range":
			ranges = true
			add(&kernel, c.Name)
		case c.Name == "sendfile" || c.Name == "splice" || c.ZeroCopy:
			add(&kernel, c.Name)
			if toTarget {
				inKernel += c.Bytes
			}
		default:
			add(&memory, c.Name)
			if toTarget {
				copied += c.Bytes
			} else {
				most = max(most, c.Asked)
			}
		}
	}
	c := describe(errors, kernel, memory, inKernel, copied, most, ranges)
	if s.inside && c.zeroCopy == yes {
		c.zeroCopy = "the call"
	}
	return c
}

func describe(errors, kernel, memory []string, inKernel, copied, most int64, ranges bool) column {
	for _, list := range [][]string{errors, kernel, memory} {
		slices.Sort(list) // goroutines that share the work make it another order
	}
	head := copied <= zctest.Head && len(kernel) > 0
	loop := strings.Join(memory, " + ")
	switch {
	case loop == "":
	case head:
		loop += " (head)"
	case most >= 1<<10:
		loop += fmt.Sprintf(" %d KiB", most>>10)
	}
	parts := slices.Concat(errors, []string{loop}, kernel)
	if !head {
		parts = slices.Concat(errors, kernel, []string{loop})
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	answer := no
	switch {
	case ranges && copied == 0:
		answer = within
	case inKernel > 0 && copied <= zctest.Head:
		answer = yes
	case inKernel > 0:
		answer = partly
	}
	return column{strings.Join(parts, ", "), answer}
}

// A row is a shape with what it came to.
type row struct {
	shape
	before, after column
}

func (r row) String() string {
	why := r.why
	if r.after.zeroCopy == yes && !r.inside {
		why = ""
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |\n",
		r.name, r.before.calls, r.before.zeroCopy, r.with, r.after.calls, r.after.zeroCopy, why)
}

// runShapes runs all shapes, checks what arrives, and compares the table.
func runShapes(t *testing.T) {
	zctest.Record(t, func() {}) // skips it all where calls cannot be recorded
	var table bytes.Buffer
	table.WriteString(shapesHead)
	table.WriteString("| dst ← src | standard library | zero-copy | with | then | zero-copy | why not better |\n|---|---|---|---|---|---|---|\n")
	made := 0
	for _, sh := range slices.Concat(shapes, webShapes) {
		t.Run(sh.name, func(t *testing.T) {
			r := row{shape: sh}
			r.before = runShape(t, sh, plainGo)
			r.after = runShape(t, sh, thisLibrary(sh))
			t.Log(r)
			made++
			lost := r.after.zeroCopy != yes && r.after.zeroCopy != within
			if lost && r.why == "" {
				t.Errorf("it is not zero-copy, and nobody says why: %s", r.after.calls)
			}
			if lost && r.before.zeroCopy != r.after.zeroCopy && !r.inside {
				t.Errorf("the change makes it worse: %s, then %s", r.before.calls, r.after.calls)
			}
			table.WriteString(r.String())
		})
	}
	if t.Failed() {
		return
	}
	if *update {
		if all := len(shapes) + len(webShapes); made < all {
			t.Fatalf("%d of %d shapes were run, see those that were skipped", made, all)
		}
		if err := os.WriteFile(shapesFile, table.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	compareTable(t, table.Bytes())
}

func runShape(t *testing.T, sh shape, l library) column {
	t.Helper()
	s := newStage(t, sh, l)
	s.run()
	return s.summary()
}

// compareTable wants every row that was made to be in the file, and no others but of
// shapes that were skipped.
func compareTable(t *testing.T, got []byte) {
	t.Helper()
	golden, err := os.ReadFile(shapesFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.SplitAfter(string(golden), "\n")
	for line := range strings.SplitAfterSeq(string(got), "\n") {
		if !slices.Contains(want, line) {
			t.Errorf("not in %s, run with -update if it is better:\n%s%s", shapesFile, line, alike(want, line))
		}
	}
}

// alike is the line of the same shape.
func alike(lines []string, line string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
	for _, l := range lines {
		if strings.HasPrefix(l, "| "+name+" |") {
			return "there it is\n" + l
		}
	}
	return ""
}
