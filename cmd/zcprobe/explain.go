package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

// explainJSON is zcprobe/explain/v1.
type explainJSON struct {
	Schema string        `json:"schema"`
	Causes []probe.Cause `json:"causes"`
	Checks []policy.ID   `json:"checks"`
}

func newExplainCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [ID]",
		Short: "What a cause or a check means, and what to do about it",
		Long: `Explains a cause of copies, a hazard or a check by the id that other commands
print. Without an id it lists all of them.`,
		Example: `  zcprobe explain no-scatter-gather
  zcprobe explain hazard.early-completion`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneArgument("an id")(cmd, args)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return explainable(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return runExplain(a, args) },
	}
}

func runExplain(a *app, args []string) error {
	out := explainJSON{Schema: "zcprobe/explain/v1", Causes: []probe.Cause{}, Checks: []policy.ID{}}
	if len(args) == 0 {
		out.Causes, out.Checks = probe.Causes(), policy.IDs()
		return a.emit(out, func(p *text.Printer) { render.Catalogue(p, out.Causes, out.Checks) })
	}
	if c, ok := probe.LookupCause(args[0]); ok {
		out.Causes = append(out.Causes, c)
		return a.emit(out, func(p *text.Printer) { render.Cause(p, c) })
	}
	id, ok := policy.Lookup(args[0])
	if !ok {
		return as(kindUsage, fmt.Errorf("no cause or check is called %q%s", args[0], policy.DidYouMean(args[0], explainable())))
	}
	out.Checks = append(out.Checks, id)
	for _, cause := range id.Causes {
		if c, ok := probe.LookupCause(cause); ok {
			out.Causes = append(out.Causes, c)
		}
	}
	return a.emit(out, func(p *text.Printer) { render.CheckID(p, id) })
}

func explainable() []string {
	var ids []string
	for _, c := range probe.Causes() {
		ids = append(ids, c.ID)
	}
	for _, c := range policy.IDs() {
		ids = append(ids, c.Name)
	}
	return ids
}
