package ebpf

import "fmt"

// A Refusal is why a tier was not taken.
type Refusal struct {
	Tier Tier
	Err  error // matches errors.ErrUnsupported or fs.ErrPermission where that is why
}

func (r Refusal) String() string { return fmt.Sprintf("tier %s: %v", r.Tier, r.Err) }
