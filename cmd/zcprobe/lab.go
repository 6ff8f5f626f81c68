package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/internal/lab/scenario"
	"github.com/zcprobe/zcprobe/probe"
)

// runScenarios is scenario.Run, or a test's.
type runScenarios func(context.Context, []scenario.Scenario, scenario.Options) (*scenario.Report, error)

func newLabCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Do prediction, completions and observation agree on this kernel?",
		Long: `Runs transfers of which the truth is known, in network namespaces of its own,
and compares four words on each: what is expected to be copied, what "zcprobe
path" predicts, what the kernel reported to the sender, and what "zcprobe trace"
observed. Where they disagree it says which of them is wrong.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLabListCmd(a), newLabRunCmd(a))
	return cmd
}

func newLabListCmd(a *app) *cobra.Command {
	o := &labOptions{}
	cmd := &cobra.Command{
		Use:   "list [SCENARIO..]",
		Short: "The scenarios, and what is true on this kernel",
		Long: `Lists the scenarios, and what is copied in each on the running kernel, and why.
It changes nothing and needs no privilege.

With -o json it prints the scenarios themselves, in the format of the files that
--add takes:

  {"schema": "zcprobe/scenarios/v1", "scenarios": [{
    "id": "mine/sendfile",
    "summary": "a bridge whose port has no scatter-gather",
    "set_up": [
      {"step": "bridge"},
      {"step": "off", "device": "v0", "feature": "tx-scatter-gather"}
    ],
    "traffic": {"api": "sendfile", "protocol": "tcp",
                "size_bytes": 65536, "count": 8},
    "truths": [
      {"copied": 1, "causes": ["no-scatter-gather"], "why": "skb_segment copies"}
    ]
  }]}

The first step is a place: the namespaces and devices, and where the traffic goes.
The others change it. A truth can have "since" and "before", kernels like "6.13";
copied is the share of the payload, and causes are those of zcprobe explain.
"unpredicted" and "unobserved" say in a sentence why a prediction or the tracer
cannot know. The built-in ones show all steps and fields, and
testdata/schema/scenarios.v1.json describes them.`,
		ValidArgsFunction: completeScenario,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := o.scenarios(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.listScenarios(all)
		},
	}
	o.addFlag(cmd)
	return cmd
}

type labOptions struct {
	disturb, dryRun bool
	add             []string // files
}

func (o *labOptions) addFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.add, "add", nil, "add the scenarios of `FILE`, as lab list -o json prints them; can be repeated")
}

func newLabRunCmd(a *app) *cobra.Command {
	o := &labOptions{}
	cmd := &cobra.Command{
		Use:   "run [SCENARIO..]",
		Short: "Run scenarios and compare",
		Long: `Runs the scenarios that are named, by their ids or by what ids begin with up to a
slash, or all of them, and compares what is expected, predicted, reported and
observed.

It needs root, or CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON in the
initial user namespace: it makes network namespaces and devices in them, and
loads BPF programs. None of it has a name outside of the process, and the kernel
removes all of it with the process, however that ends. Nothing leaves the
machine. What this machine lacks is tried, and skipped with the kernel's words.

With --add it runs scenarios of your own, too: "zcprobe help lab list" shows how
they are written. They are data, and make and change what the built-in ones could.

It exits with 1 if something disagrees with the truth, and with 3 if nothing does
but something is not known.`,
		Example: `  zcprobe lab run
  zcprobe lab run no-sg veth/sendfile
  zcprobe lab run -o json >lab.json
  zcprobe lab run --add mine.json mine/sendfile`,
		ValidArgsFunction: completeScenario,
		RunE:              func(cmd *cobra.Command, args []string) error { return runLab(cmd.Context(), a, o, args) },
	}
	o.addFlag(cmd)
	cmd.Flags().BoolVar(&o.disturb, "disturb", false, "run what others on this machine could notice, too")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only say what would be made, and what that needs")
	return cmd
}

// scenarios are those of the names, built-in and of files.
func (o *labOptions) scenarios(ctx context.Context, names []string) ([]scenario.Scenario, error) {
	all := scenario.Catalogue()
	for _, name := range o.add {
		src, err := readSmallFile(ctx, name, scenario.MaxFile)
		if err != nil {
			return nil, as(kindFile, err)
		}
		more, err := scenario.Read(name, src)
		if err == nil {
			if all, err = scenario.Add(all, more); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		if err != nil {
			return nil, as(kindFile, err)
		}
	}
	all, err := scenario.Select(all, names)
	if errors.Is(err, scenario.ErrNoScenario) {
		return nil, usagef("%w: zcprobe lab list lists them", err)
	}
	return all, err
}

func completeScenario(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	for _, s := range scenario.Catalogue() {
		ids = append(ids, s.ID)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) listScenarios(all []scenario.Scenario) error {
	l := scenario.List(all)
	return a.emit(l, func(p *text.Printer) { render.LabList(p, l, a.detail()) })
}

func runLab(ctx context.Context, a *app, o *labOptions, names []string) error {
	all, err := o.scenarios(ctx, names)
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.listScenarios(all)
	}
	show, done := a.counter("scenario")
	r, err := a.lab(ctx, all, scenario.Options{Disturb: o.disturb, Progress: show})
	done()
	if err != nil {
		return err
	}
	if err := a.emit(r, func(p *text.Printer) { render.Lab(p, r, a.detail()) }); err != nil {
		return err
	}
	switch r.Verdict.Status {
	case probe.Fail:
		return verdictError(exitFailed)
	case probe.Unknown:
		return verdictError(exitUndecided)
	}
	return nil
}

// counter shows on a terminal which of many things is under way.
func (a *app) counter(what string) (show func(number, of int, name string), done func()) {
	if !a.looksAtStderr() {
		return nil, func() {}
	}
	return func(number, of int, name string) {
			_, _ = io.WriteString(a.stderr, fmt.Sprintf("\r\x1b[Kzcprobe: %s %d of %d: %s", what, number, of, name))
		}, func() {
			_, _ = io.WriteString(a.stderr, "\r\x1b[K")
		}
}
