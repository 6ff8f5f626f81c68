package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/wholefile"
)

func newPolicyCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write and check policy files for preflight",
		Long: `A policy says which checks are required for deployment, which only warn and
which do not matter. It is a YAML file:

  apiVersion: zcprobe/v1
  require: [sendfile.tcp, msg_zerocopy.tcp4, tap.none, "limit.*", "hazard.*"]
  warn: ["io_uring*"]
  ignore: [af_xdp]
  devices:
    - match: "eth*"
      require: [nic.tx-scatter-gather, nic.tx-checksum-ipv4]
  destinations:
    - to: 10.0.0.5:9000
      require: [path.zero-copy]
  limits: {memlock_bytes: 64M, optmem_max_bytes: 128K, pipe_max_bytes: 1M}
  service: {uid: 33, memlock_bytes: 64K}
  load: {bandwidth: 10Gbit, rtt: 1ms, connections: 100}
  waivers:
    - check: nic.tx-checksum-ipv4
      subject: eth1
      reason: old firmware, replaced in spring
      expires: 2027-04-30

All keys but apiVersion may be left out. "zcprobe explain" lists the checks; *
and ? match parts of their names. Of two entries that name a check, an id beats
a pattern and a longer pattern a shorter one; what a device or destination says
comes first. A nic.* check without a device means those that routes lead out
of, or, with a destination, those on the way there. A waiver ends with the day
it expires on; after that the policy is an error.`,
		Args: noCommand,
		RunE: func(*cobra.Command, []string) error { return usagef("policy needs a command: init or check") },
	}
	cmd.AddCommand(newPolicyInitCmd(a), newPolicyCheckCmd(a))
	return cmd
}

type policyInitOptions struct {
	preflightOptions
	file  string
	force bool
}

func newPolicyInitCmd(a *app) *cobra.Command {
	o := &policyInitOptions{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write today's host as a policy",
		Long: `Writes a policy that this host passes as it is today: what works is required,
what does not warns or is ignored, each with the reason.`,
		Example: `  zcprobe policy init > zcprobe.yaml
  zcprobe policy init --to 10.0.0.5:9000 -f zcprobe.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPolicyInit(cmd.Context(), a, o) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.file, "file", "f", "", "write to `FILE` instead of standard output")
	fs.BoolVar(&o.force, "force", false, "replace FILE if it is there")
	fs.StringArrayVar(&o.to, "to", nil, "add the path to `HOST[:PORT]`; can be repeated")
	fs.StringVar(&o.From, "from", "", "source `ADDR` of those paths")
	o.hostFlags(fs)
	o.serviceFlags(fs)
	return cmd
}

// policyInitJSON is zcprobe/policy-init/v1.
type policyInitJSON struct {
	Schema string `json:"schema"`
	File   string `json:"file"` // "" if it was not written to one
	Policy string `json:"policy"`
}

func runPolicyInit(ctx context.Context, a *app, o *policyInitOptions) error {
	o.failOn = "fail"
	if o.force && o.file == "" {
		return usagef("--force needs -f")
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.file != "" && !o.force {
		if _, err := os.Lstat(o.file); err == nil {
			return as(kindUsage, fmt.Errorf("%s is there already; --force replaces it", o.file))
		}
	}
	in, err := o.input(ctx, a)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("Policy written by zcprobe %s on %s from what this host can do.", a.version().Version, a.now().UTC().Format(time.DateOnly))
	src := policy.Freeze(in, policy.Service{UID: o.ServiceUID, MemlockBytes: o.ServiceMemlock}, title)
	if o.file != "" {
		if err := wholefile.Write(o.file, []byte(src), fileMode(len(o.to) > 0), o.force); err != nil {
			return as(kindPolicy, fmt.Errorf("write policy: %w", err))
		}
		if !a.quiet && a.format != "json" {
			a.say("zcprobe: wrote " + o.file)
		}
		if a.format != "json" {
			return nil
		}
	}
	if a.format == "json" {
		return a.emit(policyInitJSON{"zcprobe/policy-init/v1", o.file, src}, nil)
	}
	_, err = io.WriteString(a.stdout, src)
	return a.wrote(err)
}

// policyCheckJSON is zcprobe/policy-check/v1.
type policyCheckJSON struct {
	Schema       string `json:"schema"`
	File         string `json:"file"`
	Valid        bool   `json:"valid"` // always true: a policy that is not is an error
	Require      int    `json:"require"`
	Warn         int    `json:"warn"`
	Ignore       int    `json:"ignore"`
	Devices      int    `json:"devices"`
	Destinations int    `json:"destinations"`
	Waivers      int    `json:"waivers"`
}

func newPolicyCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Validate a policy file",
		Long: `Validates a policy file without looking at the host. Every mistake is reported
with its line and column, expired waivers too; the exit code is then 2.`,
		Args: oneArgument("a policy file"),
		RunE: func(cmd *cobra.Command, args []string) error { return runPolicyCheck(cmd.Context(), a, args[0]) },
	}
}

func runPolicyCheck(ctx context.Context, a *app, file string) error {
	p, err := readPolicy(ctx, file, a.now())
	if err != nil {
		return err
	}
	out := policyCheckJSON{Schema: "zcprobe/policy-check/v1", File: file, Valid: true,
		Devices: len(p.Devices), Destinations: len(p.Destinations), Waivers: len(p.Waivers)}
	for _, r := range p.Rules {
		switch r.Level {
		case policy.Require:
			out.Require++
		case policy.WarnAt:
			out.Warn++
		case policy.Ignore:
			out.Ignore++
		}
	}
	return a.emit(out, func(p *text.Printer) {
		p.Para(0, 2, text.Span{Text: "PASS", Style: text.Good}, text.S(fmt.Sprintf("  %s is valid: %d required, %d warn, %d ignored; devices %d, destinations %d, waivers %d.",
			file, out.Require, out.Warn, out.Ignore, out.Devices, out.Destinations, out.Waivers)))
	})
}

// readPolicy reads and parses a policy file. A pipe is fine, as shells make
// them for <(..); a terminal, device or socket could block or never end.
func readPolicy(ctx context.Context, name string, now time.Time) (*policy.Policy, error) {
	src, err := readSmallFile(ctx, name, policy.MaxFile)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = fmt.Errorf("%s: %w", name, p.Err)
		}
		return nil, as(kindPolicy, fmt.Errorf("policy %w", err))
	}
	return policy.Parse(name, src, now)
}

// readSmallFile reads up to most bytes, and one more where there is more.
func readSmallFile(ctx context.Context, name string, most int64) (_ []byte, err error) {
	// O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if t := info.Mode().Type(); t != 0 && t != fs.ModeNamedPipe {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // a regular file has no deadline, and needs none
	defer stop()
	src, err := io.ReadAll(io.LimitReader(f, most+1))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return src, err
}
