package ebpf

import (
	"errors"
	"fmt"
)

// openers start the tiers, and say of each hook what became of it.
func openers() map[Tier]func(*kernel, Options) (eye, []Hook, error) {
	return map[Tier]func(*kernel, Options) (eye, []Hook, error){
		TierFentry:     openFentry,
		TierKprobe:     openKprobe,
		TierTracepoint: openTracepoints,
		TierNone:       openNone,
	}
}

// choose starts the tier that is asked for, or the first that can be had.
func choose(k *kernel, o Options) (in eye, hooks []Hook, tier Tier, refused []Refusal, err error) {
	tiers := Tiers()
	if o.Tier != "" {
		tiers = []Tier{o.Tier}
	}
	for _, tier := range tiers {
		start := openers()[tier]
		if start == nil {
			return nil, nil, tier, nil, fmt.Errorf("tier %s: %w", tier, errors.ErrUnsupported)
		}
		if in, hooks, err = start(k, o); err == nil {
			return in, hooks, tier, refused, nil
		}
		refused = append(refused, Refusal{tier, explain(err)})
		err = fmt.Errorf("tier %s: %w", tier, explain(err))
	}
	return nil, nil, "", refused, err
}

// Refused returns the tiers that would have been better than the one chosen, and
// why they were not taken.
func (t *Tracer) Refused() []Refusal { return t.refused }
