package main

import (
	"cmp"
	"context"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
)

type preflightOptions struct {
	source
	to     []string
	policy string
	ignore []string
	failOn string
}

func newPreflightCmd(a *app) *cobra.Command {
	o := &preflightOptions{}
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Pass or fail for deployment",
		Long: `Holds this host against a policy. The built-in one fits a server that sends
files and buffers over TCP; "zcprobe policy init" writes one to start from.

Exit code: 0 ready, warnings or not; 1 a required check failed; 2 the command
line or the policy is wrong; 3 undecided: none failed, and one could not be
decided. A check at level warn never fails and never leaves the run undecided.`,
		Example: `  zcprobe preflight --to 10.0.0.5:443
  zcprobe preflight --policy zcprobe.yaml -o json
  zcprobe preflight --service-uid 33 --service-memlock 64K --bandwidth 25Gbit
  zcprobe preflight --ignore 'ktls.*,udp.gso' --fail-on warn`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPreflight(cmd.Context(), a, o) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.policy, "policy", "", "policy `FILE` (default: built-in)")
	fs.StringSliceVar(&o.ignore, "ignore", nil, "checks that are not judged: `ID,..`, * matches")
	fs.StringVar(&o.failOn, "fail-on", "fail", "least `STATUS` that exits with 1: fail or warn")
	fs.StringArrayVar(&o.to, "to", nil, "check the path to `HOST[:PORT]`; can be repeated")
	fs.StringVar(&o.From, "from", "", "source `ADDR` of those paths")
	o.hostFlags(fs)
	o.serviceFlags(fs)
	cmd.RegisterFlagCompletionFunc("ignore", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return checkIDs(), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"fail", "warn"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("to", completeNothing)
	cmd.RegisterFlagCompletionFunc("from", completeNothing)
	return cmd
}

func checkIDs() []string {
	var ids []string
	for _, id := range policy.IDs() {
		ids = append(ids, id.Name)
	}
	return ids
}

func runPreflight(ctx context.Context, a *app, o *preflightOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	var p *policy.Policy
	if o.policy != "" {
		var err error
		if p, err = readPolicy(ctx, o.policy, a.now()); err != nil {
			return err
		}
		o.assume(p)
	}
	in, err := o.input(ctx, a)
	if err != nil {
		return err
	}
	if p == nil {
		p = policy.Builtin(in)
	}
	res := policy.Apply(p, in)
	if err := a.emit(res, func(p *text.Printer) { render.Preflight(p, res, a.detail()) }); err != nil {
		return err
	}
	if code := res.ExitCode(o.failOn == "warn"); code != exitOK {
		return verdictError(code)
	}
	return nil
}

// check refuses what no host can answer.
func (o *preflightOptions) check() error {
	if o.failOn != "fail" && o.failOn != "warn" {
		return usagef("--fail-on is fail or warn, not %q", o.failOn)
	}
	for _, pattern := range o.ignore {
		ok, err := false, error(nil)
		for _, id := range checkIDs() {
			var m bool
			m, err = path.Match(pattern, id)
			ok = ok || m
		}
		if err != nil || !ok {
			return usagef("--ignore: no check is called %q%s", pattern, policy.DidYouMean(pattern, checkIDs()))
		}
	}
	o.destinations()
	return o.source.check()
}

func (o *preflightOptions) destinations() {
	o.Also = nil
	for _, to := range o.to {
		o.also(probe.Destination{To: to, From: o.From})
	}
}

func (o *preflightOptions) also(d probe.Destination) {
	if !slices.Contains(o.Also, d) {
		o.Also = append(o.Also, d)
	}
}

// assume takes from a policy what the command line left open.
func (o *preflightOptions) assume(p *policy.Policy) {
	for _, d := range p.Destinations {
		o.also(probe.Destination{To: d.To, From: d.From})
	}
	if o.PID == 0 {
		o.ServiceUID = cmp.Or(o.ServiceUID, p.Service.UID)
		o.ServiceMemlock = cmp.Or(o.ServiceMemlock, p.Service.MemlockBytes)
	}
	o.Load.BandwidthBytesPerSec = cmp.Or(o.Load.BandwidthBytesPerSec, p.Load.BandwidthBytesPerSec)
	o.Load.RTT = cmp.Or(o.Load.RTT, p.Load.RTT)
	o.Load.Connections = cmp.Or(o.Load.Connections, p.Load.Connections)
}

// input looks at the host, and follows the path to every destination.
func (o *preflightOptions) input(ctx context.Context, a *app) (policy.Input, error) {
	s := o.source
	s.From = "" // is in the destinations
	v, err := a.look(ctx, s)
	if err != nil {
		return policy.Input{}, err
	}
	in := policy.Input{Report: v.report(), Ignore: o.ignore}
	for i, d := range v.o.Also {
		to := v.o
		to.To, to.From = d.To, d.From
		// The subject is what was asked for, whatever a record calls it.
		in.Paths = append(in.Paths, policy.Path{To: s.Also[i].To, From: s.Also[i].From, Report: probe.JudgePath(v.facts, to)})
	}
	return in, nil
}
