package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/transmit"
)

type probeOptions struct {
	source
	defaults bool
}

func (o *probeOptions) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&o.To, "to", "", "add the path to `HOST[:PORT]`")
	fs.StringVar(&o.From, "from", "", "source `ADDR` of that path")
	fs.StringVar(&o.Dev, "dev", "", "only device `IF` and what is below it")
	noCalibrationFlag(fs, &o.defaults)
	o.hostFlags(fs)
	cmd.RegisterFlagCompletionFunc("to", completeNothing)
	cmd.RegisterFlagCompletionFunc("from", completeNothing)
	cmd.RegisterFlagCompletionFunc("dev", completeNothing)
}

func newProbeCmd(a *app) *cobra.Command {
	o := &probeOptions{}
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Everything this host can do, and what stands in the way",
		Long: `Tests what the kernel can do, reads the devices, the packet sockets and the
limits, and says what stands in the way of zero-copy and how to remove it. The best
way to send goes by what "zcprobe bench" measured here, if it has; -v says where.

Exits with 0 whatever the answer; "zcprobe preflight" is for scripts.`,
		Example: `  zcprobe probe --to 10.0.0.5:443        add the path to a peer
  zcprobe probe --dir /srv/www           test the files that are served
  zcprobe probe --pid $(pidof nginx)     judge the limits of that process
  zcprobe probe -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runProbe(cmd.Context(), a, o) },
	}
	o.flags(cmd)
	return cmd
}

func runProbe(ctx context.Context, a *app, o *probeOptions) error {
	env, err := a.environment()
	if err != nil {
		return err
	}
	v, err := a.look(ctx, o.source)
	if err != nil {
		return err
	}
	r := v.report()
	r.Recommendations = selection.Recommend(r, transmit.SelectOptions{Env: env, Calibration: a.calibration(o.defaults || o.record != "", r.Path)})
	return a.emit(r, func(p *text.Printer) { render.Probe(p, r, a.detail()) })
}
