package ebpf

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zcprobe/zcprobe/internal/sys"
	"github.com/zcprobe/zcprobe/probe"
)

// NewPlan says what a trace with these options would do, and attaches nothing but
// the programs of [Probe], for a moment.
func NewPlan(ctx context.Context, o Options) (*Plan, error) {
	k := newKernel()
	p := &Plan{Tier: o.Tier, Tiers: tryAll(ctx, k), Needs: needs()}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("plan a trace: %w", err)
	}
	if p.Tier == "" {
		p.Tier = p.best()
	}
	p.Err = p.cannot(p.Tier)
	hooks, err := wouldAttach(k, p.Tier, o)
	if err != nil {
		return nil, fmt.Errorf("plan a trace: tier %s: %w", p.Tier, err)
	}
	p.Hooks = hooks
	return p, nil
}

// best is the first tier that can be had.
func (p *Plan) best() Tier {
	for _, t := range Tiers() {
		if p.cannot(t) == nil {
			return t
		}
	}
	return TierNone
}

// cannot says why a tier cannot be had.
func (p *Plan) cannot(tier Tier) error {
	needs := map[Tier]string{TierFentry: "fentry", TierKprobe: "kprobe", TierTracepoint: "tp_btf"}[tier]
	i := slices.IndexFunc(p.Tiers, func(t probe.Tier) bool { return t.ID == needs })
	switch {
	case needs == "" || i < 0:
		return nil
	case p.Tiers[i].Status == probe.Supported:
		if addressesHidden() {
			return explain(errNoAddresses)
		}
		return nil
	}
	return fmt.Errorf("%s is %s: %s", needs, p.Tiers[i].Status, p.Tiers[i].Detail)
}

// wouldAttach resolves the hooks of a tier against this kernel.
func wouldAttach(k *kernel, tier Tier, o Options) ([]Hook, error) {
	if tier == TierNone {
		return nil, nil
	}
	hooks, err := resolved(k, tier, o)
	if err != nil {
		return nil, err
	}
	hooks = append(hooks, diagnosisHooks(tier, o)...)
	for i := range hooks {
		if hooks[i].Err == errNotTried {
			hooks[i].Err = errors.New("no process is named whose children are watched")
		}
	}
	return hooks, nil
}

func resolved(k *kernel, tier Tier, o Options) ([]Hook, error) {
	types, err := k.types()
	if err != nil {
		return nil, err
	}
	if tier == TierTracepoint {
		spec, err := loadTrace()
		if err != nil {
			return nil, fmt.Errorf("programs: %w", err)
		}
		return resolve(types, spec, o), nil
	}
	there, err := k.places()
	if err != nil {
		return nil, err
	}
	var hooks []Hook
	for _, f := range resolveFunctions(tier, types, there, o) {
		hooks = append(hooks, f.Hook)
	}
	return hooks, nil
}

// needs says what the tiers with BPF take.
func needs() []Privilege {
	caps, err := sys.ThreadCaps()
	held := func(capability int) bool { return err == nil && (caps.Has(capability) || caps.Has(sys.CapSysAdmin)) }
	out := []Privilege{
		{"CAP_BPF", "to load programs", held(sys.CapBPF)},
		{"CAP_PERFMON", "to attach them, and for them to read kernel memory", held(sys.CapPerfmon)},
	}
	return append(out, Privilege{"CAP_SYSLOG", "to read the addresses of functions, where the kernel hides them", !addressesHidden()})
}
