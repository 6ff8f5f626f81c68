package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

type pathOptions struct {
	source
}

func newPathCmd(a *app) *cobra.Command {
	o := &pathOptions{}
	cmd := &cobra.Command{
		Use:   "path HOST[:PORT]",
		Short: "The devices on the way to a destination, and every copy there",
		Long: `Follows the route to a destination through every device, as a socket would
take it, and predicts for each call how often the CPU copies the payload, where
and why. A host name is looked up; nothing is sent to the destination.`,
		Example: `  zcprobe path 10.0.0.5:443
  zcprobe path db.example.com --from 192.0.2.7
  zcprobe path [2001:db8::5]:443 -o json`,
		Args:              oneArgument("a destination, HOST or HOST:PORT"),
		ValidArgsFunction: completeNothing,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.To = args[0]
			return runPath(cmd.Context(), a, o)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.From, "from", "", "source `ADDR` of the path")
	fs.StringVar(&o.record, "from-record", "", "judge the record in `DIR` instead of this host")
	cmd.RegisterFlagCompletionFunc("from", completeNothing)
	return cmd
}

func runPath(ctx context.Context, a *app, o *pathOptions) error {
	v, err := a.look(ctx, o.source)
	if err != nil {
		return err
	}
	r := probe.JudgePath(v.facts, v.o)
	if r.Error != "" {
		return as(kindDestination, errors.New(r.Error))
	}
	return a.emit(r, func(p *text.Printer) { render.Path(p, r, a.detail()) })
}
