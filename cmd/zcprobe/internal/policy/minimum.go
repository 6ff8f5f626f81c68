package policy

import (
	"fmt"
	"slices"

	"github.com/zcprobe/zcprobe/cmd/zcprobe/internal/quantity"
	"github.com/zcprobe/zcprobe/probe"
)

// minimum adds a policy's minimum to a check of the same limit. have is nil
// for unlimited, or, where the report names it in Unknown, for not read.
func (a *applier) minimum(c probe.Check, field string, have, want *uint64) probe.Check {
	if want == nil {
		return c
	}
	status, detail := probe.Pass, ""
	switch {
	case have == nil && slices.Contains(a.in.Report.Limits.Unknown, field):
		status, detail = probe.Unknown, fmt.Sprintf("The policy wants %s of at least %s, and it could not be read.", field, quantity.Size(*want))
	case have == nil:
	case *want == quantity.Unlimited:
		status, detail = probe.Fail, fmt.Sprintf("%s is %s, and the policy wants no limit.", field, quantity.Size(*have))
	case *have < *want:
		status, detail = probe.Fail, fmt.Sprintf("%s is %s, and the policy wants at least %s.", field, quantity.Size(*have), quantity.Size(*want))
	}
	if status == probe.Pass || status.Worse(c.Status) == c.Status && status != c.Status {
		return c
	}
	if status == c.Status {
		detail = c.Detail + " " + detail
	}
	c.Status, c.Detail = status, detail
	if id, ok := Lookup(c.ID); ok {
		c.Causes = id.Causes
	}
	return c
}
