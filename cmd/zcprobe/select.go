package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/selection"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

type selectOptions struct {
	source
	transfer   transmit.Transfer
	force      transmit.Backend
	changes    bool
	immutable  bool
	reuseFirst bool
	latency    bool
	defaults   bool
}

func newSelectCmd(a *app) *cobra.Command {
	o := &selectOptions{transfer: transmit.Transfer{Protocol: transmit.TCP}}
	cmd := &cobra.Command{
		Use:   "select --from SOURCE",
		Short: "The best way to make a transfer, and why the others lost",
		Long: `Says which backend package transmit would take for a transfer, why, and what
would change it. Without --to the path is not known, and the devices that lead
out of this host stand in for it.

From which size on memory is lent decides what "zcprobe bench" measured on this
host, or else a default; -v says which. Figures of the laboratory only raise a
default, since a network card needs at least what they say.

The environment variable ZCPROBE_BACKEND names a backend that is taken wherever
it works, here and in every program that uses the package.`,
		Example: `  zcprobe select --from file --size 1M --to 10.0.0.5:443
  zcprobe select --from memory --size 64K --to 10.0.0.5:443 -o json
  zcprobe select --from file --protocol file
  zcprobe select --from memory --protocol udp --size 60000 --segment 1400`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSelect(cmd.Context(), a, o) },
	}
	o.flags(cmd)
	return cmd
}

func (o *selectOptions) flags(cmd *cobra.Command) {
	fs, t := cmd.Flags(), &o.transfer
	fs.Var(&checked[transmit.SourceKind]{v: &t.Source, parse: oneOf("source", transmit.SourceKinds()), name: "SOURCE"}, "from", "what is sent: file, memory, socket or pipe")
	fs.Var(&checked[int64]{v: &t.SizeBytes, parse: parseTransferSize, name: "SIZE"}, "size", "size of one send, 64K or 1M; without it sends of any size")
	fs.Var(&checked[transmit.Protocol]{v: &t.Protocol, parse: oneOf("protocol", transmit.Protocols()), name: "PROTOCOL", text: string(transmit.TCP)}, "protocol", "what it goes to: tcp, udp, unix, file or pipe")
	fs.StringVar(&o.To, "to", "", "judge the path to `HOST[:PORT]`")
	fs.BoolVar(&o.changes, "changes", false, "the source may change while it is sent")
	fs.BoolVar(&t.Ring, "ring", false, "the program keeps an io_uring, and sends registered buffers through it")
	fs.BoolVar(&o.immutable, "immutable", false, "the source cannot change: sealed, or only replaced by rename")
	fs.BoolVar(&o.reuseFirst, "reuse-at-once", false, "the memory is wanted back when the call returns")
	fs.BoolVar(&t.MappingKept, "mapped", false, "the file is mapped, and the mapping kept for many sends")
	fs.BoolVar(&o.latency, "latency", false, "latency matters more than throughput")
	fs.Var(&checked[transmit.CacheState]{v: &t.Cache, parse: oneOf("state", cacheStates), name: "STATE"}, "cache", "the data is in a cache or not: hot or cold")
	fs.Var(&checked[int]{v: &t.Parts, parse: parseCount, name: "N"}, "parts", "pieces of one send, header and trailer included")
	fs.Var(&checked[int]{v: &t.SegmentBytes, parse: parseSegment, name: "SIZE"}, "segment", "over UDP: the kernel cuts a send into datagrams of this size")
	fs.Var(&checked[transmit.Backend]{v: &o.force, parse: transmit.ParseBackend, name: "BACKEND"}, "backend", "ask for this one, and see whether it can be had")
	noCalibrationFlag(fs, &o.defaults)
	o.hostFlags(fs)
	complete := func(flag string, words []string) {
		cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	complete("from", names(transmit.SourceKinds()))
	complete("protocol", names(transmit.Protocols()))
	complete("backend", names(transmit.Backends()))
	complete("cache", names(cacheStates))
	complete("size", []string{"4K", "64K", "1M"})
	cmd.RegisterFlagCompletionFunc("to", completeNothing)
	cmd.RegisterFlagCompletionFunc("parts", completeNothing)
	cmd.RegisterFlagCompletionFunc("segment", completeNothing)
}

var cacheStates = []transmit.CacheState{transmit.CacheHot, transmit.CacheCold}

func names[T ~string](all []T) []string {
	out := make([]string, 0, len(all))
	for _, v := range all {
		out = append(out, string(v))
	}
	return out
}

// oneOf parses one word of a list.
func oneOf[T ~string](what string, all []T) func(string) (T, error) {
	return func(s string) (T, error) {
		if slices.Contains(all, T(s)) {
			return T(s), nil
		}
		return "", fmt.Errorf("%q is no %s: choose one of %v", s, what, names(all))
	}
}

func parseTransferSize(s string) (int64, error) {
	n, err := quantity.ParseSize(s)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64-1 {
		return 0, fmt.Errorf("%q is larger than any file", s)
	}
	return int64(n), nil
}

// mostParts is IOV_MAX: what one call takes.
const mostParts = 1024

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > mostParts {
		return 0, fmt.Errorf("%q is no number of parts from 1 to %d", s, mostParts)
	}
	return n, nil
}

func parseSegment(s string) (int, error) {
	n, err := quantity.ParseSize(s)
	if err != nil || n == 0 || n > 65507 {
		return 0, fmt.Errorf("%q is no size of a datagram from 1 to 65507", s)
	}
	return int(n), nil
}

func (o *selectOptions) check() error {
	t := o.transfer
	switch {
	case t.Source == "":
		return usagef("select needs --from: file, memory, socket or pipe")
	case o.To != "" && t.Protocol != transmit.TCP && t.Protocol != transmit.UDP:
		return usagef("--to is for tcp and udp, not for %s", t.Protocol)
	case o.changes && o.immutable:
		return usagef("--changes and --immutable exclude each other")
	case t.SegmentBytes > 0 && t.Protocol != transmit.UDP:
		return usagef("--segment needs --protocol udp")
	case t.Ring && t.Source != transmit.SourceMemory:
		return usagef("--ring needs --from memory")
	case t.MappingKept && t.Source != transmit.SourceFile:
		return usagef("--mapped needs --from file")
	case o.reuseFirst && t.Source != transmit.SourceMemory:
		return usagef("--reuse-at-once needs --from memory")
	}
	return o.source.check()
}

// told is the transfer with what the flags say of it.
func (o *selectOptions) told() transmit.Transfer {
	t := o.transfer
	switch {
	case o.changes:
		t.Stability = transmit.MayChange
	case o.immutable:
		t.Stability = transmit.Immutable
	}
	if o.reuseFirst {
		t.Reuse = transmit.ReuseAtOnce
	}
	if o.latency {
		t.Goal = transmit.Latency
	}
	return t
}

// environment returns the backend that the environment asks for.
func (a *app) environment() (transmit.Backend, error) {
	name := a.getenv(transmit.EnvBackend)
	if name == "" {
		return "", nil
	}
	b, err := transmit.ParseBackend(name)
	if err != nil {
		return "", usagef("environment variable %s: %w", transmit.EnvBackend, err)
	}
	return b, nil
}

func runSelect(ctx context.Context, a *app, o *selectOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	env, err := a.environment()
	if err != nil {
		return err
	}
	v, err := a.look(ctx, o.source)
	if err != nil {
		return err
	}
	r := v.report()
	if r.Path != nil && r.Path.Error != "" {
		return as(kindDestination, errors.New(r.Path.Error))
	}
	t := o.told()
	p := transmit.Select(transmit.ConditionsOf(r), t, transmit.SelectOptions{Env: env, Force: o.force, Calibration: a.calibration(o.defaults || o.record != "", r.Path)})
	if n := unreachable(r.Path); n != "" {
		p.Notes = append([]transmit.Note{{Text: n}}, p.Notes...)
	}
	res := selection.Of(t, o.To, p)
	return a.emit(res, func(p *text.Printer) { render.Select(p, res, a.detail()) })
}

func noCalibrationFlag(fs *pflag.FlagSet, defaults *bool) {
	fs.BoolVar(defaults, "no-calibration", false, "go by the defaults, whatever \"zcprobe bench\" measured here")
}

// calibration returns what was measured on this host; nil if that is nothing, or
// defaults is to count: of a record, which is of another host or another time, or where
// that is asked for.
func (a *app) calibration(defaults bool, path *probe.PathReport) *transmit.Calibration {
	if defaults {
		return nil
	}
	return transmit.LoadCalibration(a.calibrations(), transmit.CalibrationKeyFor(path))
}

// unreachable says why nothing can be sent to a destination at all, "" if it can.
func unreachable(p *probe.PathReport) string {
	if p == nil || p.Verdict.Status != probe.Fail || len(p.Hops) > 0 {
		return ""
	}
	return p.Verdict.Summary
}
