package main

import (
	"context"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/render"
	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/text"
	"github.com/zcprobe/zcprobe/ebpf"
)

// planTrace says what would be attached, and what is missing.
func (a *app) planTrace(ctx context.Context, o ebpf.Options) error {
	p, err := ebpf.NewPlan(ctx, o)
	if err != nil {
		return err
	}
	r := render.PlanOf(p)
	return a.emit(r, func(p *text.Printer) { render.TracePlan(p, r) })
}
