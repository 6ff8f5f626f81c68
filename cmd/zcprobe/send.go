package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
	"github.com/zcprobe/zcprobe/probe"
	"github.com/zcprobe/zcprobe/transmit"
)

type sendOptions struct {
	to         string
	backend    transmit.Backend
	udp        bool
	datagram   int64
	offset     int64
	length     *int64
	memory     int64
	repeat     int64
	noChecksum bool
	wait       time.Duration
	dryRun     bool
	defaults   bool
}

func newSendCmd(a *app) *cobra.Command {
	o := &sendOptions{}
	cmd := &cobra.Command{
		Use:   "send --to ADDR [FILE|-]",
		Short: "Send a file, standard input or memory, and say which way it went",
		Long: `Connects to ADDR, HOST:PORT or unix:PATH, and sends FILE, standard input (-) or
generated memory by the best backend for this host and path, or by the one that
is asked for. From which size on memory is lent decides what "zcprobe bench"
measured on this host, or else a default. The stream is the bare bytes, without
framing, so any program can be the peer; "zcprobe recv" is one.

At the end it waits until the peer's kernel has acknowledged everything, and
reports length, checksum, the way taken and what was copied. A transfer that
breaks, or is interrupted, is reset: the end of the stream would tell the peer
that it has everything. The peer then knows how much it has, and --offset goes on
from there.

With --udp each call is a datagram, and empty datagrams mark the end. Nothing is
repeated, and nothing paces it: what the peer's socket has no room for is lost.

The checksum of a file is made by reading the file again afterwards, that of a
pipe from a second reference to its pages (tee); neither touches what is sent.`,
		Example: `  zcprobe send --to 10.0.0.5:9000 backup.img
  zcprobe send --to 10.0.0.5:9000 --offset 1073741824 backup.img
  tar c /srv | zcprobe send --to unix:/run/store.sock
  zcprobe send --to 10.0.0.5:9000 --memory 256K --repeat 4096 --backend msg_zerocopy`,
		Args: atMostOneFile,
		RunE: func(cmd *cobra.Command, args []string) error { return runSend(cmd.Context(), a, o, args) },
	}
	o.flags(cmd)
	return cmd
}

func (o *sendOptions) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&o.to, "to", "", "send to `ADDR`: HOST:PORT or unix:PATH")
	fs.Var(&checked[transmit.Backend]{v: &o.backend, parse: transmit.ParseBackend, name: "NAME"}, "backend", "send by this backend, or not at all (default: the best)")
	fs.BoolVar(&o.udp, "udp", false, "send datagrams")
	sizeFlag(fs, &o.datagram, "datagram", "payload of each (default: what goes in one packet)")
	sizeFlag(fs, &o.offset, "offset", "begin at this place of the file")
	fs.Var(&optional[int64]{v: &o.length, parse: parseTransferSize, name: "SIZE"}, "length", "send so many bytes (default: to the end)")
	sizeFlag(fs, &o.memory, "memory", "send generated memory, so much in each send")
	fs.Var(&checked[int64]{v: &o.repeat, parse: parseTimes, name: "N"}, "repeat", "that many sends of --memory (default 1)")
	fs.BoolVar(&o.noChecksum, "no-checksum", false, "make no checksum")
	fs.DurationVar(&o.wait, "wait", 30*time.Second, "give up after this `TIME` without an acknowledgement, at the end")
	fs.BoolVar(&o.dryRun, "dry-run", false, "only say what would be sent, and how")
	noCalibrationFlag(fs, &o.defaults)
	cmd.RegisterFlagCompletionFunc("to", completeNothing)
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names(transmit.Backends()), cobra.ShellCompDirectiveNoFileComp))
}

func sizeFlag(fs *pflag.FlagSet, v *int64, name, usage string) {
	fs.Var(&checked[int64]{v: v, parse: parseTransferSize, name: "SIZE"}, name, usage)
}

func parseTimes(s string) (int64, error) {
	n, err := parseConnections(s)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of times", s)
	}
	return int64(n), nil
}

func atMostOneFile(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return usagef("%s takes one file, and was given %d", cmd.CommandPath(), len(args))
	case len(args) == 1 && args[0] == "":
		return usagef("%s was given a file without a name", cmd.CommandPath())
	}
	return nil
}

// check refuses flags that do not go together.
func (o *sendOptions) check(args []string) error {
	switch {
	case o.to == "":
		return usagef("send needs --to ADDR")
	case o.memory != 0 && len(args) > 0:
		return usagef("--memory and a file exclude each other")
	case o.memory != 0 && (o.offset != 0 || o.length != nil):
		return usagef("--offset and --length are for files; --memory SIZE --repeat N sends that much")
	case o.memory > transfer.MostBufferBytes:
		return usagef("--memory is at most %s; --repeat sends more", quantity.Size(transfer.MostBufferBytes))
	case o.repeat != 0 && o.memory == 0:
		return usagef("--repeat needs --memory")
	case o.datagram != 0 && !o.udp:
		return usagef("--datagram needs --udp")
	case o.datagram > transfer.MostDatagram:
		return usagef("--datagram is at most %d", transfer.MostDatagram)
	case o.wait <= 0:
		return usagef("--wait is a time like 30s")
	}
	return nil
}

func runSend(ctx context.Context, a *app, o *sendOptions, args []string) error {
	if err := movesBytes(); err != nil {
		return err
	}
	if err := o.check(args); err != nil {
		return err
	}
	to, err := transfer.ParseAddress(o.to, o.udp)
	if err != nil {
		return as(kindUsage, fmt.Errorf("--to: %w", err))
	}
	env, err := a.environment()
	if err != nil {
		return err
	}
	src, err := a.source(ctx, o, args)
	if err != nil {
		return err
	}
	defer src.Close()
	so := transfer.SendOptions{
		To: to, Source: src, Backend: o.backend, Env: env, NoChecksum: o.noChecksum, DatagramBytes: o.datagram,
		Wait: o.wait, Conditions: a.conditions,
		Calibration: func(path *probe.PathReport) *transmit.Calibration { return a.calibration(o.defaults, path) },
	}
	if o.dryRun {
		return a.planSend(ctx, so)
	}
	shown := a.transferProgress("sent")
	so.Progress, so.StepBytes = shown.report, shown.step
	r, err := transfer.Send(ctx, so)
	shown.done()
	if err == nil {
		return a.emit(r, func(p *text.Printer) { render.Sent(p, r, a.detail()) })
	}
	if a.format == "text" && r.Backend != "" {
		p := a.printer()
		render.Sent(p, r, a.detail())
		err = errors.Join(err, a.wrote(p.Flush()))
	}
	return &transferError{err: err, sent: r}
}

// source opens what is to be sent.
func (a *app) source(ctx context.Context, o *sendOptions, args []string) (transfer.Source, error) {
	length := int64(-1)
	if o.length != nil {
		length = *o.length
	}
	switch {
	case o.memory != 0:
		return transfer.MemorySource(o.memory, max(o.repeat, 1)), nil
	case len(args) == 1 && args[0] != transfer.Stdio:
		return transfer.OpenSource(ctx, args[0], o.offset, length)
	}
	if _, tty := a.terminal(os.Stdin); tty && len(args) == 0 {
		return transfer.Source{}, usagef("send what? Give a FILE, - for standard input, or --memory SIZE")
	}
	return transfer.FileSource(os.Stdin, transfer.Stdio, o.offset, length)
}

func (a *app) planSend(ctx context.Context, so transfer.SendOptions) error {
	remote, err := resolve(ctx, so.To)
	if err != nil {
		return err
	}
	r, err := transfer.Plan(ctx, so, remote)
	if err != nil {
		return err
	}
	return a.emit(r, func(p *text.Printer) { render.Sent(p, r, a.detail()) })
}

// resolve looks an address up, without connecting; nil for a unix socket.
func resolve(ctx context.Context, a transfer.Address) (net.Addr, error) {
	var addr net.Addr
	var err error
	switch a.Network {
	case "unix":
		return nil, nil
	case "udp":
		addr, err = net.ResolveUDPAddr("udp", a.Addr)
	default:
		addr, err = net.ResolveTCPAddr("tcp", a.Addr)
	}
	if err != nil {
		return nil, as(kindDestination, fmt.Errorf("%s: %w", a, err))
	}
	return addr, context.Cause(ctx)
}

// conditions says what is known of the host and the way to a peer; nil is a peer
// on a unix socket.
func (a *app) conditions(ctx context.Context, to net.Addr) (transmit.Conditions, error) {
	var o probe.Options
	inet := to != nil && !strings.HasPrefix(to.Network(), "unix")
	if inet {
		o.To = to.String()
	}
	f, err := a.collect(ctx, o)
	if err != nil {
		return transmit.Conditions{}, err
	}
	c := transmit.ConditionsOf(probe.Judge(f, o))
	if !inet {
		c.Local = new(true)
	} else if ap, err := netip.ParseAddrPort(o.To); err == nil && c.Local == nil && ap.Addr().IsLoopback() {
		c.Local = new(true)
	}
	return c, nil
}
