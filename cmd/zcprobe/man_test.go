package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/manual"
	"github.com/zcprobe/zcprobe/internal/testenv"
)

// Every command has a page that names all of its flags, and man has nothing to say
// against it.
func TestManPages(t *testing.T) {
	mandoc := testenv.Tool(t, "mandoc")
	dir := t.TempDir()
	about := newBench(t).about()
	about.Version, about.Date = "v1.2.3", "2026-11-22"
	pages := manual.Commands(newRootCmd(newBench(t).app))
	if len(pages) < 20 {
		t.Fatalf("only %d pages", len(pages))
	}
	for _, c := range pages {
		page := manual.Page(c, about)
		name := filepath.Join(dir, manual.Name(c)+".1")
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mandoc, "-T", "lint", "-W", "warning", name).CombinedOutput(); err != nil {
			t.Errorf("mandoc: %v\n%s", err, out)
		}
		shown, err := exec.Command(mandoc, "-T", "utf8", "-O", "width=200", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		text := plainText(shown)
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s: no --%s", name, f.Name)
			}
		})
		for _, word := range strings.Fields(c.Example) {
			if !strings.Contains(text, word) {
				t.Errorf("%s: the example's %q is lost", name, word)
			}
		}
		for _, word := range strings.Fields(c.Long) {
			if !strings.Contains(text, word) {
				t.Errorf("%s: the description's %q is lost", name, word)
			}
		}
	}
}

// plainText takes bold (x, backspace, x) and underlined (_, backspace, x) back, and
// typographic hyphens.
func plainText(b []byte) string {
	r := bytes.Runes(b)
	var out []rune
	for _, c := range r {
		if c == '\b' && len(out) > 0 {
			out = out[:len(out)-1]
			continue
		}
		out = append(out, c)
	}
	return strings.NewReplacer("\u2010", "-", "\u2212", "-").Replace(string(out))
}

// Help lists every command.
func TestHelpListsCommands(t *testing.T) {
	var named []string
	for _, g := range commandGroups() {
		named = append(named, g.names...)
	}
	var have []string
	for _, c := range newRootCmd(newBench(t).app).Commands() {
		have = append(have, c.Name())
		if !slices.Contains(named, c.Name()) && (c.IsAvailableCommand() || c.Name() == "help") {
			t.Errorf("%s is in no group", c.Name())
		}
	}
	for _, n := range named {
		if n != "help" && !slices.Contains(have, n) {
			t.Errorf("there is no %s", n)
		}
	}
}

// Help fits 80 columns, and every command has an example that makes sense.
func TestHelpFits(t *testing.T) {
	b := newBench(t)
	for _, c := range manual.Commands(newRootCmd(b.app)) {
		b.fresh()
		b.run(t.Context(), append(strings.Fields(c.CommandPath())[1:], "--help")...)
		for l := range strings.Lines(b.out.String()) {
			if l = strings.TrimRight(l, "\n"); len(l) > 84 {
				t.Errorf("%s: %d columns: %s", c.CommandPath(), len(l), l)
			}
		}
		if c.Runnable() && !c.HasExample() && !plainUse(c) {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for l := range strings.Lines(c.Example) {
			checkCommandLine(t, l)
		}
	}
}

// plainUse is for commands that there is only one way to use.
func plainUse(c *cobra.Command) bool {
	return slices.Contains([]string{"version", "completion", "list", "check", "lab", "policy"}, c.Name())
}
