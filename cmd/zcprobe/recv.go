package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
)

type recvOptions struct {
	listen     string
	out        string
	discard    bool
	udp        bool
	force      bool
	resume     bool
	noChecksum bool
	count      int64
	maxBytes   int64
	idle       time.Duration
	dryRun     bool
}

func newRecvCmd(a *app) *cobra.Command {
	o := &recvOptions{}
	cmd := &cobra.Command{
		Use:   "recv [--listen ADDR] [--out FILE|-|--discard]",
		Short: "Receive a file or stream, and say what arrived",
		Long: `Listens on ADDR, HOST:PORT or unix:PATH, takes one connection, and reports
length, checksum and the way taken when it ends. Where it listens is said first,
on stderr, and with -o json as the first line on stdout: port 0 is any free port.

It listens on loopback (127.0.0.1) unless ADDR names another address of this
host; 0.0.0.0:PORT is all of them. Anyone who can connect there can send. The
peer sends bare bytes and decides nothing else, least of all where they go. How
much it may send, --max-bytes says.

FILE appears when the stream has ended, with all of it or not at all; a reset or
an interrupt leaves nothing. With --resume FILE is written in place, from its end
on, and keeps what arrived; where to go on is said for the sender's --offset. The
end of the stream is all there is to tell that it is complete: compare length and
checksum with the sender's.

With --udp it receives from the first sender, until an empty datagram comes or
nothing for the time of --idle.

The checksum needs every byte in the process. With --no-checksum bytes go to FILE
by splice, and --discard has the kernel drop them without a copy.`,
		Example: `  zcprobe recv --listen 127.0.0.1:9000 --out backup.img
  zcprobe recv --listen 0.0.0.0:9000 --resume --out backup.img
  zcprobe recv --listen unix:/run/store.sock --out - | tar x
  zcprobe recv --discard --no-checksum --count 10`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRecv(cmd.Context(), a, o) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.listen, "listen", "127.0.0.1:0", "listen on `ADDR`: HOST:PORT or unix:PATH")
	fs.StringVar(&o.out, "out", "", "write to `FILE`, - for standard output")
	fs.BoolVar(&o.discard, "discard", false, "keep nothing (default)")
	fs.BoolVar(&o.udp, "udp", false, "receive datagrams")
	fs.BoolVar(&o.force, "force", false, "replace FILE if it exists")
	fs.BoolVar(&o.resume, "resume", false, "go on at the end of FILE")
	fs.BoolVar(&o.noChecksum, "no-checksum", false, "make no checksum")
	fs.Var(&checked[int64]{v: &o.count, parse: parseTimes, name: "N"}, "count", "take that many connections, one after another (default 1)")
	sizeFlag(fs, &o.maxBytes, "max-bytes", "refuse more than that from a connection (default: no bound)")
	fs.DurationVar(&o.idle, "idle", 5*time.Second, "with --udp, the `TIME` without a datagram that is the end")
	fs.BoolVar(&o.dryRun, "dry-run", false, "only say what would be done")
	cmd.RegisterFlagCompletionFunc("listen", completeNothing)
	return cmd
}

// check refuses flags that do not go together.
func (o *recvOptions) check(a *app) error {
	file := o.out != "" && o.out != transfer.Stdio
	_, tty := a.terminal(a.stdout.w)
	switch {
	case o.discard && o.out != "":
		return usagef("--discard and --out exclude each other")
	case (o.force || o.resume) && !file:
		return usagef("--force and --resume need --out FILE")
	case o.force && o.resume:
		return usagef("--force and --resume exclude each other")
	case o.count > 1 && o.out != "":
		return usagef("--count is for --discard: two streams in one file would be a mixture")
	case o.out == transfer.Stdio && a.format == "json":
		return usagef("--out - and -o json both need standard output")
	case o.out == transfer.Stdio && tty:
		return usagef("standard output is a terminal, which a stranger's bytes could do things to: pipe it, or name a FILE")
	case o.idle <= 0:
		return usagef("--idle is a time like 5s")
	}
	return nil
}

func runRecv(ctx context.Context, a *app, o *recvOptions) error {
	if err := movesBytes(); err != nil {
		return err
	}
	if err := o.check(a); err != nil {
		return err
	}
	at, err := transfer.ParseAddress(o.listen, o.udp)
	if err != nil {
		return as(kindUsage, fmt.Errorf("--listen: %w", err))
	}
	a.lines = true
	if o.dryRun {
		r, err := o.would(at)
		if err != nil {
			return err
		}
		return a.emit(r, func(p *text.Printer) { render.WouldReceive(p, r) })
	}
	shown := a.transferProgress("received")
	l, err := transfer.Listen(ctx, transfer.RecvOptions{Listen: at, NoChecksum: o.noChecksum, MaxBytes: o.maxBytes,
		Idle: o.idle, Progress: shown.report, StepBytes: shown.step})
	if err != nil {
		return err
	}
	defer l.Close()
	out, err := o.output()
	if err != nil {
		return err
	}
	if err := a.confine(); err != nil {
		out.Abort()
		return err
	}
	if err := a.listening(l.Report(out)); err != nil {
		out.Abort()
		return err
	}
	failed := false
	for left := max(o.count, 1); left > 0; left-- {
		err := a.receive(ctx, l, out, o, left == 1, shown)
		if err == nil {
			continue
		}
		if left == 1 || ctx.Err() != nil || kindOf(ctx, err) == kindOutput {
			return err
		}
		failed = true
		a.report(ctx, err, a.format == "json", "")
	}
	if failed {
		return verdictError(exitError)
	}
	return nil
}

func (o *recvOptions) output() (*transfer.Output, error) {
	switch o.out {
	case "":
		return transfer.Discard(), nil
	case transfer.Stdio:
		return transfer.Stdout(os.Stdout), nil
	}
	return transfer.NewOutput(o.out, transfer.OutputOptions{Force: o.force, Resume: o.resume})
}

// would says what would be done, having looked at the file.
func (o *recvOptions) would(at transfer.Address) (*transfer.Received, error) {
	if o.out == "" || o.out == transfer.Stdio {
		out, err := o.output()
		if err != nil {
			return nil, err
		}
		return transfer.WouldListen(at, out.Info()), nil
	}
	info, err := transfer.LookAtOutput(o.out, transfer.OutputOptions{Force: o.force, Resume: o.resume})
	if err != nil {
		return nil, err
	}
	return transfer.WouldListen(at, info), nil
}

// listening says where it listens: to people at once, and to programs as well.
func (a *app) listening(r *transfer.Received) error {
	if !a.quiet {
		s := "zcprobe: listening on " + r.Local
		if r.Protocol == "udp" {
			s += " (udp)"
		}
		switch {
		case r.Out.Kind == "discard":
			s += "; what arrives is not kept (--out FILE keeps it)"
		case r.Out.Resume && r.Out.OffsetBytes > 0:
			s += fmt.Sprintf("; %s goes on with --offset %d at the sender", r.Out.Name, r.Out.OffsetBytes)
		}
		a.say(s)
	}
	if a.format != "json" {
		return nil
	}
	return a.wrote(render.JSONLine(a.stdout, r))
}

// receive takes one connection and says what became of it. With the bytes on
// standard output that goes to stderr.
func (a *app) receive(ctx context.Context, l *transfer.Listener, out *transfer.Output, o *recvOptions, last bool, shown *transferProgress) error {
	r, err := l.Receive(ctx, out, last)
	shown.done()
	switch {
	case a.format == "json" && err == nil:
		return a.emit(r, nil)
	case a.format == "text" && (err == nil || r.Peer != ""):
		p := a.printer()
		if o.out == transfer.Stdio {
			p = a.printerTo(a.stderr)
		}
		render.Received(p, r, a.detail())
		err = errors.Join(err, a.wrote(p.Flush()))
	}
	if err != nil {
		return &transferError{err: err, recv: r}
	}
	return nil
}
