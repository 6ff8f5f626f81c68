package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/policy"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/transfer"
)

// The exit codes. Only preflight uses exitFailed and exitUndecided, for what
// it found; everything that kept a command from answering is exitError.
const (
	exitOK          = 0
	exitFailed      = 1
	exitError       = 2
	exitUndecided   = 3
	exitInterrupted = 130
)

// A verdictError ends a command that answered, with the exit code of its
// answer. Nothing more is said about it.
type verdictError int

func (e verdictError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// A failure is an error of a kind that scripts can tell apart.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// The kinds of failure. Readers must accept others.
const (
	kindUsage       = "usage"       // the command line
	kindPolicy      = "policy"      // the policy file
	kindRecord      = "record"      // a record that was read or written
	kindDestination = "destination" // a destination that does not resolve
	kindDevice      = "device"      // a device that is not there
	kindProcess     = "process"     // a process that is not there
	kindOutput      = "output"      // writing the answer
	kindFile        = "file"        // a file that is sent or written
	kindCommand     = "command"     // a program that cannot be started
	kindConnection  = "connection"  // a connection that was refused or broke
	kindLimit       = "limit"       // a bound that was set on the command line
	kindInterrupted = "interrupted" // SIGINT or SIGTERM
	kindPermission  = "permission"
	kindUnsupported = "unsupported"
	kindInternal    = "internal"
)

func isVerdict(err error) bool {
	var v verdictError
	return errors.As(err, &v)
}

func usagef(format string, args ...any) error {
	return &failure{kindUsage, fmt.Errorf(format, args...)}
}

func as(kind string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{kind, err}
}

// kindOf maps an error to its kind.
func kindOf(ctx context.Context, err error) string {
	var f *failure
	var p *policy.Error
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))):
		return kindInterrupted
	case errors.As(err, &f):
		return f.kind
	case errors.As(err, &p):
		return kindPolicy
	case errors.Is(err, fs.ErrPermission):
		return kindPermission
	case errors.Is(err, errors.ErrUnsupported):
		return kindUnsupported
	}
	return kindOfTransfer(err)
}

// kindOfTransfer maps the errors of send and recv.
func kindOfTransfer(err error) string {
	var file *transfer.FileError
	var connect *transfer.ConnectError
	var broken *transfer.BrokenError
	switch {
	case errors.As(err, &file):
		return kindFile
	case errors.Is(err, transfer.ErrTooMuch):
		return kindLimit
	case errors.As(err, &connect) && connect.Unknown:
		return kindDestination
	case connect != nil, errors.As(err, &broken):
		return kindConnection
	}
	return kindInternal
}

// exitCode maps what a command returned to the process's exit code.
func exitCode(ctx context.Context, err error) int {
	var v verdictError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &v):
		return int(v)
	case kindOf(ctx, err) == kindInterrupted:
		return exitInterrupted
	}
	return exitError
}

// report tells people on stderr, and programs that asked for JSON on stdout,
// why there is no answer.
func (a *app) report(ctx context.Context, err error, asJSON bool, hint string) {
	if err == nil || isVerdict(err) || errors.Is(err, syscall.EPIPE) {
		return // answered, or nobody is left to be told
	}
	kind := kindOf(ctx, err)
	msg := err.Error()
	if kind == kindInterrupted {
		msg = "interrupted"
	}
	if asJSON && kind != kindOutput {
		write := render.JSON
		if a.lines {
			write = render.JSONLine
		}
		_ = write(a.stdout, errorReport(msg, kind, err)) // nothing is left to say it to
	}
	for l := range strings.Lines(msg) {
		a.say("zcprobe: " + strings.TrimRight(l, "\n"))
	}
	if kind == kindUsage && hint != "" {
		a.say(hint)
	}
}

// errorJSON is zcprobe/error/v1.
type errorJSON struct {
	Schema   string           `json:"schema"`
	Error    string           `json:"error"`
	Kind     string           `json:"kind"`
	Problems []policy.Problem `json:"problems,omitempty"` // of a policy file

	// What became of a transfer that broke.
	Send *transfer.Sent     `json:"send,omitempty"`
	Recv *transfer.Received `json:"recv,omitempty"`
}

// A transferError is an error with what was moved before.
type transferError struct {
	err  error
	sent *transfer.Sent
	recv *transfer.Received
}

func (e *transferError) Error() string { return e.err.Error() }
func (e *transferError) Unwrap() error { return e.err }

func errorReport(msg, kind string, err error) errorJSON {
	e := errorJSON{Schema: "zcprobe/error/v1", Error: msg, Kind: kind}
	var p *policy.Error
	if errors.As(err, &p) {
		e.Problems = p.Problems
	}
	var t *transferError
	if errors.As(err, &t) {
		e.Send, e.Recv = t.sent, t.recv
	}
	return e
}

// say writes a line to stderr. That it could not be written is said nowhere.
func (a *app) say(s string) {
	_, _ = io.WriteString(a.stderr, text.Escape(s, !a.utf8())+"\n")
}

// wantsJSON finds -o json in arguments that could not be parsed.
func wantsJSON(args []string) bool {
	for i, s := range args {
		switch {
		case s == "--":
			return false
		case s == "--output=json":
			return true
		case s == "--output":
			return i+1 < len(args) && args[i+1] == "json"
		case strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "--"):
			before, value, ok := strings.Cut(s[1:], "o")
			if !ok || strings.Trim(before, "qvh") != "" {
				continue
			}
			value = strings.TrimPrefix(value, "=")
			if value == "" && i+1 < len(args) {
				value = args[i+1]
			}
			if value == "json" {
				return true
			}
		}
	}
	return false
}
