package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/child"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
	"github.com/zcprobe/zcprobe/internal/sys"
)

// A tracer is an ebpf.Tracer, or a test's.
type tracer interface {
	Tier() ebpf.Tier
	Hooks() []ebpf.Hook
	Refused() []ebpf.Refusal
	Summary() (*ebpf.Summary, error)
	Run(context.Context) (*ebpf.Summary, error)
	Close() error
}

func openTracer(ctx context.Context, o ebpf.Options) (tracer, error) {
	t, err := ebpf.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return t, nil
}

const (
	// patience is how long the program may take to end when it is told to.
	patience = 5 * time.Second
	// refresh is how often the live view is drawn.
	refresh = time.Second
	// garbage is how much of it may lie about, in percent of what is in use. A tracer
	// makes little of it but with each summary, and shall not need the double then.
	garbage = 40
)

func runTrace(ctx context.Context, a *app, o *traceOptions, args []string) error {
	if err := o.check(args); err != nil {
		return err
	}
	a.lines = true
	eo, err := o.options(ctx, len(args) > 0)
	if err != nil {
		return err
	}
	var plan *child.Plan
	if len(args) > 0 {
		if plan, err = child.New(args, o.user, a.programOutput()); err != nil {
			return as(kindCommand, err)
		}
	}
	if o.dryRun {
		return a.planTrace(ctx, eo)
	}
	debug.SetGCPercent(garbage)
	limits := keepLimits()
	done := a.progress("attaching to the kernel")
	t, err := a.tracer(ctx, eo)
	done()
	limits()
	switch {
	case errors.Is(err, fs.ErrPermission) && eo.Tier != ebpf.TierNone:
		return fmt.Errorf("%w; --tier none needs nothing, and sees less", err)
	case err != nil:
		return err
	}
	s := &session{app: a, o: o, tracer: t, begun: time.Now()}
	err = s.watch(ctx, plan)
	return errors.Join(err, t.Close())
}

// programOutput is where the program of -- CMD writes to.
func (a *app) programOutput() *os.File {
	if f, ok := a.stdout.w.(*os.File); ok && a.format == "text" {
		return f
	}
	return os.Stderr
}

// A session is one trace.
type session struct {
	*app
	o       *traceOptions
	tracer  tracer
	begun   time.Time
	program *child.Program // nil without one
	live    *liveView      // nil where nobody looks
	notes   []string       // what could not be seen, beyond what the tracer says
}

// watch starts the program, if any, and waits for the end of the trace.
func (s *session) watch(ctx context.Context, plan *child.Plan) error {
	signals := make(chan os.Signal, 8)
	if plan != nil {
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
		defer signal.Stop(signals)
		var err error
		if s.program, err = plan.Start(); err != nil {
			return as(kindCommand, err)
		}
	}
	s.live = s.newLiveView()
	s.announce()
	err := s.wait(ctx, signals)
	s.live.clear()
	if err != nil {
		return err
	}
	return s.finish()
}

// announce says that the tracer looks, and that it sees less than it could.
func (s *session) announce() {
	if less := s.less(); less != "" {
		s.notes = append(s.notes, less)
		s.say("zcprobe: " + less)
	}
	if s.quiet || s.live != nil {
		return
	}
	end := "Ctrl-C ends"
	switch {
	case s.program != nil:
		end = fmt.Sprintf("process %d ends", s.program.PID())
	case s.o.duration > 0:
		end = s.o.duration.String() + " are over"
	}
	s.say(fmt.Sprintf("zcprobe: tracing, tier %s, until %s", s.tracer.Tier(), end))
}

// less says why the kernel is not looked into, if nobody asked for that.
func (s *session) less() string {
	if s.tracer.Tier() != ebpf.TierNone || s.o.tier != "" {
		return ""
	}
	var why error
	for _, r := range s.tracer.Refused() {
		why = r.Err
	}
	if p, ok := errors.AsType[*ebpf.PermissionError](why); ok {
		needs := strings.TrimSuffix(p.Needs, ".")
		needs = strings.ToLower(needs[:1]) + needs[1:]
		if strings.HasPrefix(needs, "the kernel ") {
			return needs + ": it is not looked into"
		}
		return "the kernel is not looked into: " + needs
	}
	if why == nil {
		return ""
	}
	return "the kernel is not looked into: " + why.Error()
}

// wait returns when the trace is over.
func (s *session) wait(ctx context.Context, signals chan os.Signal) error {
	var over <-chan time.Time
	if s.o.duration > 0 {
		timer := time.NewTimer(s.o.duration)
		defer timer.Stop()
		over = timer.C
	}
	interrupted := ctx.Done()
	var ended <-chan struct{}
	if s.program != nil {
		ended, interrupted = s.program.Done(), nil // signals are the program's
	}
	gone := watchProcesses(ctx, s.o.pids)
	shown := time.NewTicker(s.every())
	defer shown.Stop()
	for {
		select {
		case <-interrupted:
			return nil
		case <-over:
			return s.dismiss(signals, syscall.SIGTERM)
		case <-ended:
			return nil
		case <-gone:
			return nil
		case sig := <-signals:
			if sig == syscall.SIGINT || sig == syscall.SIGTERM {
				return s.dismiss(signals, sig)
			}
			if err := s.program.Signal(sig); err != nil {
				return err
			}
		case <-shown.C:
			if err := s.show(); err != nil {
				return err
			}
		}
	}
}

// every is how often something is shown.
func (s *session) every() time.Duration {
	switch {
	case s.o.interval > 0:
		return s.o.interval
	case s.live != nil:
		return refresh
	}
	return time.Hour
}

// show says what was seen so far, to whoever wants to know.
func (s *session) show() error {
	if s.live == nil && s.o.interval == 0 {
		return nil
	}
	sum, err := s.tracer.Summary()
	if err != nil {
		return err
	}
	sum.Type = "interval"
	if s.live != nil {
		return s.wrote(s.live.draw(sum))
	}
	return s.emit(render.TracedOf(sum, s.tracer.Refused()), func(p *text.Printer) { render.TracedSoFar(p, sum) })
}

// dismiss tells the program, if any, to end, and gives it time to. A second
// signal takes that time away.
func (s *session) dismiss(signals chan os.Signal, sig os.Signal) error {
	if s.program == nil {
		return nil
	}
	if !terminalSent(sig) {
		if err := s.program.Signal(sig); err != nil {
			return err
		}
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.program.Done():
		return nil
	case again := <-signals:
		if !terminalSent(again) {
			if err := s.program.Signal(again); err != nil {
				return err
			}
		}
	case <-timer.C:
	}
	s.notes = append(s.notes, fmt.Sprintf("the program, process %d, has not ended yet", s.program.PID()))
	return nil
}

// terminalSent reports whether a terminal has sent the signal to the whole
// process group, and so to the program.
func terminalSent(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := sys.TerminalForeground(tty.Fd())
	return err == nil && group == syscall.Getpgrp()
}

// finish prints the summary.
func (s *session) finish() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	sum, err := s.tracer.Run(over)
	if err != nil {
		return err
	}
	sum.Incomplete = append(sum.Incomplete, s.notes...)
	r := render.TracedOf(sum, s.tracer.Refused())
	r.Hooks = s.tracer.Hooks()
	if s.program != nil {
		if status, ok := s.program.Status(); ok {
			r.CommandStatus = &status
		}
	}
	return s.emit(r, func(p *text.Printer) { render.Trace(p, r, s.detail()) })
}

// liveView shows on a terminal what was seen so far. Where nobody looks it is
// nil, and does nothing.
type liveView struct {
	a       *app
	w       io.Writer
	size    func() (columns, rows int)
	lines   int // on the screen
	columns int // when they were drawn
	last    *ebpf.Summary
}

func (s *session) newLiveView() *liveView {
	f, ok := s.stdout.w.(*os.File)
	if _, tty := s.terminal(s.stdout.w); !ok || !tty || s.format != "text" || s.quiet || s.program != nil || s.getenv("TERM") == "dumb" {
		return nil
	}
	return &liveView{a: s.app, w: s.stdout, size: func() (int, int) {
		columns, rows, err := sys.TerminalSize(f.Fd())
		if err != nil {
			return 0, 0
		}
		return columns, rows
	}}
}
