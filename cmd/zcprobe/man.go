package main

import (
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/manual"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/wholefile"
)

func newManCmd(a *app) *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   "man [COMMAND..]",
		Short: "Manual pages",
		Long: `Prints the manual page of the program or of a command, in the language of man(7).
With --dir it writes all of them into a directory, in place of those that are there.`,
		Example: `  zcprobe man trace | man -l -
  zcprobe man --dir /usr/local/share/man/man1`,
		RunE: func(cmd *cobra.Command, args []string) error { return runMan(a, cmd.Root(), args, dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write all pages into `DIR`")
	return cmd
}

func runMan(a *app, root *cobra.Command, args []string, dir string) error {
	about := a.about()
	if dir == "" {
		c, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return usagef("no manual page about %q", strings.Join(args, " "))
		}
		_, err = io.WriteString(a.stdout, manual.Page(c, about))
		return a.wrote(err)
	}
	if len(args) > 0 {
		return usagef("--dir writes the pages of all commands, and %q was named", args[0])
	}
	for _, c := range manual.Commands(root) {
		name := filepath.Join(dir, manual.Name(c)+".1")
		if err := wholefile.Write(name, []byte(manual.Page(c, about)), 0o644, true); err != nil {
			return as(kindFile, err)
		}
	}
	return nil
}

func (a *app) about() manual.About {
	m := manual.About{Version: a.version().Version, More: manualSections()}
	if info, ok := a.build(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				m.Date = t.UTC().Format(time.DateOnly)
			}
		}
	}
	return m
}

// manualSections are what the page of the program says and its help does not.
func manualSections() []manual.Section {
	return []manual.Section{
		{Heading: "Exit status", Text: `0: the question was answered, or the host is ready, with or without warnings.

1: "preflight" found that a required check failed, or "lab run" that something is not true.

2: the command line or a policy is wrong, or zcprobe failed.

3: "preflight" or "lab run" could not decide.

130: interrupted.`},
		{Heading: "Environment", Text: `ZCPROBE_BACKEND names the backend that is taken wherever it works, here and in every
program that sends by package transmit.

XDG_STATE_HOME, or else .local/state below HOME, is where "bench" keeps what it measured.

NO_COLOR, and TERM=dumb, switch colour off. TMPDIR is where "bench" makes files.`},
		{Heading: "Files", Text: `/var/lib/zcprobe holds what root measured by "bench", for all users.`},
		{Heading: "Bugs", Text: `https://github.com/zcprobe/zcprobe/issues; attach what "zcprobe record DIR" writes.`},
	}
}
