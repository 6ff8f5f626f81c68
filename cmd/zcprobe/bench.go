package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/wholefile"
	labbench "github.com/zcprobe/zcprobe/internal/lab/bench"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

type benchOptions struct {
	labbench.Options
	svg    string
	dryRun bool
	noSave bool
	path   *probe.PathReport // of --to; nil: not known
}

func newBenchCmd(a *app) *cobra.Command {
	o := &benchOptions{}
	cmd := &cobra.Command{
		Use:   "bench [--quick] [--to HOST:PORT]",
		Short: "What each way to send costs, and from which size on lending pays",
		Long: `Sends by every backend at sizes from 256 bytes to 4 MiB, from buffers and cached
files that are hot or cold, in turns, and says what each costs in CPU time for a
byte, and from which size on one is cheaper than another, with intervals of 95 %.

Without --to it measures in a laboratory that it makes of network namespaces: a
peer that takes everything and behind which nothing is copied, as behind a network
card. It needs root: CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF. What it finds is the
most that lending can gain: a card maps memory, goes through an IOMMU and takes
interrupts, of which the laboratory has none.

With --to it measures the path to a peer that takes everything, such as "zcprobe
recv --discard" on another host, over one connection and as any user. It sends as
fast as the path goes. Nothing is concluded from a peer on this machine, where the
kernel copies what was lent when it delivers it.

--quick takes less than 10 seconds, everything up to three minutes.

What was concluded is kept, for "zcprobe select" and for programs that use package
transmit: in $XDG_STATE_HOME/zcprobe or ~/.local/state/zcprobe, and root's, which
all read, in /var/lib/zcprobe. It holds for this kernel and CPU, and with --to for
the devices of the path, as long as driver, features and MTU stay.`,
		Example: `  zcprobe bench --quick
  zcprobe bench --quick --svg costs.svg
  zcprobe bench --to 10.0.0.5:9000 --quick
  zcprobe bench --backend msg_zerocopy --size 4K,16K,64K,256K`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), a, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.Quick, "quick", false, "less than 10 seconds: the backends that matter, fewer sizes and runs")
	f.StringVar(&o.To, "to", "", "measure the path to `HOST:PORT`, where something takes all that comes")
	f.Var(&several[transmit.Backend]{v: &o.Backends, parse: transmit.ParseBackend, name: "NAME"}, "backend", "only this one and what it is compared with; can be repeated")
	f.Var(&several[int64]{v: &o.Sizes, parse: parseTransferSize, name: "SIZE"}, "size", "only this size of one send, 64K; can be repeated")
	f.StringVar(&o.svg, "svg", "", "draw the costs into `FILE`")
	f.StringVar(&o.Dir, "dir", "", "make files that are sent below `DIR` (default: $TMPDIR or /tmp)")
	f.BoolVar(&o.noSave, "no-save", false, "keep no calibration")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be made and sent")
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names(transmit.Backends()), cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("to", completeNothing)
	cmd.RegisterFlagCompletionFunc("size", completeNothing)
	return cmd
}

func runBench(ctx context.Context, a *app, o *benchOptions) error {
	if err := movesBytes(); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return as(kindUsage, err)
	}
	if err := a.aim(ctx, o); err != nil {
		return err
	}
	if o.dryRun {
		r, err := labbench.Plan(o.Options)
		if err != nil {
			return err
		}
		return a.emit(r, func(p *text.Printer) { render.BenchPlan(p, r) })
	}
	done := a.progress("measuring what each way to send costs")
	r, err := a.bench(ctx, o.Options)
	done()
	if err != nil {
		return benchError(ctx, o, err)
	}
	a.keep(r, o)
	if o.svg != "" {
		if err := wholefile.Write(o.svg, render.BenchSVG(r), fileMode(o.To != ""), true); err != nil {
			return as(kindFile, err)
		}
	}
	return a.emit(r, func(p *text.Printer) { render.Bench(p, r, a.detail()) })
}

// fileMode is the mode of what is written for people: what holds addresses is for its
// owner alone.
func fileMode(addresses bool) fs.FileMode {
	if addresses {
		return 0o600
	}
	return 0o644
}

// aim finds the peer, and what is known of the path to it.
func (a *app) aim(ctx context.Context, o *benchOptions) error {
	if o.To == "" {
		return nil
	}
	to, err := transfer.ParseAddress(o.To, false)
	if err != nil || to.Network != "tcp" {
		return usagef("--to is HOST:PORT, not %q", o.To)
	}
	addr, err := resolve(ctx, to)
	if err != nil {
		return err
	}
	o.Address = addr.String()
	c, err := a.conditions(ctx, addr)
	if err != nil {
		return err
	}
	o.path = c.Path
	if c.Local != nil && *c.Local {
		o.Local = "the receiver is on this machine, where the kernel copies lent pages when it delivers them"
	}
	return nil
}

// keep saves what was concluded. That it could not be saved is no reason to keep the
// answer back, and is part of it.
func (a *app) keep(r *labbench.Report, o *benchOptions) {
	f, ok := r.Calibration(transmit.CalibrationKeyFor(o.path), a.now())
	switch {
	case o.noSave:
		r.SavedNote = "not kept, as asked for"
	case !ok:
		r.SavedNote = "nothing to keep"
	case len(o.Sizes) > 0 || len(o.Backends) > 0:
		r.SavedNote = "not kept: only a part was measured"
	case r.LentCopiedFraction > labbench.MostCopied:
		r.SavedNote = fmt.Sprintf("not kept: %.0f %% of what was lent was copied, as by a packet tap, which may not stay", 100*r.LentCopiedFraction)
	case o.To != "" && len(f.Key.Devices) == 0:
		r.SavedNote = "not kept: the devices of the path are not known"
	default:
		name, err := labbench.Save(a.calibrations()[0], f)
		if r.Saved = name; err != nil {
			r.SavedNote = "not kept: " + err.Error()
			a.say("zcprobe: " + r.SavedNote)
		}
	}
}

// benchError says what is needed, and what works without.
func benchError(ctx context.Context, o *benchOptions, err error) error {
	switch {
	case o.To != "" && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) && context.Cause(ctx) == nil:
		return as(kindConnection, fmt.Errorf("measure the path to %s: %w", o.To, err))
	case o.To == "" && errors.Is(err, fs.ErrPermission):
		return as(kindPermission, fmt.Errorf("the laboratory needs root, or CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF: it makes network namespaces and loads BPF programs; "+
			"--to HOST:PORT measures a path as any user: %w", err))
	}
	return err
}
