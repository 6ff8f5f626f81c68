//go:build !linux

package ebpf

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// A Tracer observes; there is none on this operating system.
type Tracer struct{}

// Open answers errors.ErrUnsupported: only Linux can be traced.
func Open(context.Context, Options) (*Tracer, error) {
	return nil, fmt.Errorf("open tracer: only Linux can be traced: %w", errors.ErrUnsupported)
}

// Refused returns the tiers that would have been better.
func (t *Tracer) Refused() []Refusal { return nil }

// ErrClosed is what a closed tracer says.
var ErrClosed = errors.New("tracer is closed")

// Tier returns the tier that was chosen.
func (t *Tracer) Tier() Tier { return TierNone }

// Hooks returns every hook of the tier.
func (t *Tracer) Hooks() []Hook { return nil }

// Summary tells what was seen since Open.
func (t *Tracer) Summary() (*Summary, error) { return nil, ErrClosed }

// Run observes until the context ends.
func (t *Tracer) Run(context.Context) (*Summary, error) { return nil, ErrClosed }

// Summaries yields what was seen since Open.
func (t *Tracer) Summaries(context.Context, time.Duration) iter.Seq2[*Summary, error] {
	return func(func(*Summary, error) bool) {}
}

// Close does nothing.
func (t *Tracer) Close() error { return nil }

// Probe answers nothing: only Linux can be traced.
func Probe(context.Context) []probe.Tier { return []probe.Tier{} }

// NewPlan answers errors.ErrUnsupported: only Linux can be traced.
func NewPlan(context.Context, Options) (*Plan, error) {
	return nil, fmt.Errorf("plan a trace: only Linux can be traced: %w", errors.ErrUnsupported)
}
