package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
	labbench "github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

// app is what commands share: where output goes, and the world as they see it.
// Tests put others in place of the functions.
type app struct {
	stdout *output
	stderr io.Writer
	getenv func(string) string

	terminal func(io.Writer) (columns int, ok bool)
	collect  func(context.Context, probe.Options) (*probe.Facts, error)
	open     func(dir string) (*probe.Record, error)
	save     func(dir string, f *probe.Facts, o probe.RecordOptions) error
	tiers    func(context.Context) []probe.Tier
	tracer   func(context.Context, ebpf.Options) (tracer, error)
	bench    func(context.Context, labbench.Options) (*labbench.Report, error)
	lab      runScenarios
	confine  func() error // gives up privileges, for good
	now      func() time.Time

	calibrations func() []string // directories, the one to write to first
	build        func() (*debug.BuildInfo, bool)

	// The flags of all commands.
	format  string
	color   string
	quiet   bool
	verbose bool

	started bool // the command line made sense and a command runs
	lines   bool // JSON is one object per line
}

func newApp(stdout, stderr io.Writer, getenv func(string) string) *app {
	return &app{
		stdout: &output{w: stdout}, stderr: stderr, getenv: getenv,
		terminal: terminalColumns,
		collect:  collectHost, open: probe.OpenRecord, save: probe.WriteRecord,
		tiers: ebpf.Probe, tracer: openTracer, bench: labbench.Run, lab: scenario.Run, confine: confine,
		calibrations: func() []string { return transmit.CalibrationDirs(getenv) },
		now:          time.Now, build: debug.ReadBuildInfo,
	}
}

// output is standard output. It keeps its first error, because help and
// completion are written by a library that drops it.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(b)
	o.err = err
	return n, err
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, a *app) int {
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = as(kindUsage, err)
	}
	if a.stdout.err != nil {
		err = a.wrote(a.stdout.err)
	}
	hint := fmt.Sprintf("Run '%s --help' for usage.", cmd.CommandPath())
	a.report(ctx, err, a.format == "json" || !a.started && wantsJSON(args), hint)
	return exitCode(ctx, err)
}

// emit writes an answer: v as JSON, or what write makes of it as text.
func (a *app) emit(v any, write func(*text.Printer)) error {
	if a.format == "json" {
		if a.lines {
			return a.wrote(render.JSONLine(a.stdout, v))
		}
		return a.wrote(render.JSON(a.stdout, v))
	}
	p := a.printer()
	write(p)
	return a.wrote(p.Flush())
}

func (a *app) wrote(err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // the path is that of the terminal, or none
	}
	return as(kindOutput, fmt.Errorf("write standard output: %w", err))
}

// narrowest and widest bound the width of text on a terminal. A file gets
// narrowest, so that it looks the same everywhere.
const (
	narrowest = 80
	widest    = 120
)

func (a *app) printer() *text.Printer { return a.printerTo(a.stdout) }

func (a *app) printerTo(w io.Writer) *text.Printer {
	p := text.New(w)
	p.UTF8 = a.utf8()
	if o, ok := w.(*output); ok {
		w = o.w
	}
	columns, tty := a.terminal(w)
	p.Width = min(max(columns, narrowest), widest)
	switch a.color {
	case "always":
		p.Color = true
	case "auto":
		p.Color = tty && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
	}
	return p
}

// utf8 reports whether the locale shows UTF-8, by the rules of setlocale(3):
// the first of these that is set and not empty decides.
func (a *app) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.getenv(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// detail is how much a command says.
func (a *app) detail() int {
	switch {
	case a.quiet:
		return render.Quiet
	case a.verbose:
		return render.Verbose
	}
	return render.Normal
}

func terminalColumns(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	n, err := sys.TerminalColumns(f.Fd())
	return n, err == nil
}

// progressAfter is how long a command may be silent on a terminal.
const progressAfter = 500 * time.Millisecond

// progress says what takes long, on a terminal only, until the function it
// returns is called.
func (a *app) progress(what string) (done func()) {
	if !a.looksAtStderr() {
		return func() {}
	}
	shown := make(chan bool, 1)
	timer := time.AfterFunc(progressAfter, func() {
		_, _ = io.WriteString(a.stderr, "zcprobe: "+what+" ...")
		shown <- true
	})
	return func() {
		if !timer.Stop() {
			<-shown
			_, _ = io.WriteString(a.stderr, "\r\x1b[K")
		}
	}
}

// check refuses values of the common flags that mean nothing.
func (a *app) check() error {
	switch {
	case a.format != "text" && a.format != "json":
		return usagef("-o is text or json, not %q", a.format)
	case a.color != "auto" && a.color != "always" && a.color != "never":
		return usagef("--color is auto, always or never, not %q", a.color)
	case a.quiet && a.verbose:
		return usagef("-q and -v exclude each other")
	}
	return nil
}

func newRootCmd(a *app) *cobra.Command {
	o := &probeOptions{}
	cmd := &cobra.Command{
		Use:   "zcprobe",
		Short: "Can this host transmit without copying, and what is in the way?",
		Long: `zcprobe says whether this host can transmit without copying the payload, what
is in the way, and the command that fixes it. Without a command it prints a
summary of one screen, like "zcprobe probe".

It changes no setting and loads no module, and sends nothing off the host but
the look-up of a host name and what "zcprobe send" and "zcprobe bench --to" are
told to send.`,
		Example: `  zcprobe                                  what blocks it on this host?
  zcprobe path 10.0.0.5:443                and on the way to a peer?
  zcprobe preflight --to 10.0.0.5:443      pass or fail, for scripts
  zcprobe trace -d 10s                     what is copied now, and why?
  zcprobe explain no-scatter-gather        what does that name mean?`,
		Args:          noCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.check(); err != nil {
				return err
			}
			a.started = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runProbe(cmd.Context(), a, o) },
	}
	flags := cmd.PersistentFlags()
	flags.StringVarP(&a.format, "output", "o", "text", "output `FORMAT`: text or json")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "only the verdict")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "everything, with evidence")
	flags.StringVar(&a.color, "color", "auto", "colour `WHEN`: auto, always or never")
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	o.flags(cmd)
	cmd.AddCommand(newProbeCmd(a), newPreflightCmd(a), newPathCmd(a), newSelectCmd(a), newTraceCmd(a), newLabCmd(a), newBenchCmd(a), newSendCmd(a), newRecvCmd(a),
		newPolicyCmd(a), newExplainCmd(a), newRecordCmd(a), newManCmd(a), newVersionCmd(a))
	cmd.SetOut(a.stdout) // completion takes what is set by now
	cmd.SetErr(a.stderr)
	describeCompletion(cmd)
	cmd.SetHelpCommand(newHelpCmd(a))
	cmd.SetUsageFunc(usage)
	return cmd
}

// noCommand is for commands that take no arguments but have subcommands: what
// stands there was meant to be one.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = " (did you mean " + strings.Join(s, " or ") + "?)"
	}
	return usagef("unknown command %q of %s%s", args[0], cmd.CommandPath(), hint)
}

// noArguments and oneArgument are cobra's rules with messages that say what was wrong.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, and was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usagef("%s takes one argument, and was given %d", cmd.CommandPath(), len(args))
		case len(args) == 0 || args[0] == "":
			return usagef("%s needs %s", cmd.CommandPath(), what)
		}
		return nil
	}
}

func newHelpCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no help about %q", strings.Join(args, " "))
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}
