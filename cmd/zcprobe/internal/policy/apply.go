package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zcprobe/zcprobe/probe"
)

// Schema names the JSON form of a Result.
const Schema = "zcprobe/preflight/v1"

// Result is the outcome of a preflight. Its JSON form is zcprobe/preflight/v1.
type Result struct {
	Schema  string        `json:"schema"`
	Host    probe.Host    `json:"host"`
	Policy  string        `json:"policy"` // "built-in" or the file
	Verdict probe.Verdict `json:"verdict"`
	Checks  []Check       `json:"checks"` // by id, then subject
}

// Check is one check at the level the policy gave it.
type Check struct {
	probe.Check
	Level  Level     `json:"level"`
	Waived *WaivedBy `json:"waived,omitempty"`
}

// WaivedBy says why a check that does not pass was accepted.
type WaivedBy struct {
	Reason  string `json:"reason"`
	Expires string `json:"expires"` // the last day
}

// Input is what a policy is held against.
type Input struct {
	Report *probe.Report
	Paths  []Path
	Ignore []string // ids or patterns that are not judged, whatever the policy says
}

// Path is the answer for one destination.
type Path struct {
	To, From string // as asked
	Report   *probe.PathReport
}

// Apply holds in against p. It reads nothing else.
func Apply(p *Policy, in Input) *Result {
	a := &applier{p: p, in: in, ids: IDs(), egress: egress(in)}
	a.devices()
	a.features()
	a.hazards()
	a.limits()
	a.paths()
	for _, c := range in.Report.TapChecks {
		a.add(c)
	}
	a.tracing()
	a.missing()
	for i := range a.checks {
		a.finish(&a.checks[i])
	}
	slices.SortStableFunc(a.checks, func(x, y Check) int {
		return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(x.Subject, y.Subject))
	})
	return &Result{Schema: Schema, Host: in.Report.Host, Policy: p.Source, Verdict: verdict(a.checks), Checks: a.checks}
}

type applier struct {
	p      *Policy
	in     Input
	ids    []ID
	egress []string // the devices that matter
	checks []Check
}

// add puts a check in at the level of the policy's general rules.
func (a *applier) add(c probe.Check) {
	r, ok := level(a.p.Rules, c.ID)
	a.put(c, r, ok)
}

func (a *applier) put(c probe.Check, r Rule, ok bool) {
	if !ok {
		r = Rule{Level: Ignore, Reason: "Not in the policy"}
	}
	if r.Level == Ignore && r.Reason == "" {
		r.Reason = "Ignored by the policy"
	}
	for _, pattern := range a.in.Ignore {
		if m, err := path.Match(pattern, c.ID); err == nil && m {
			r = Rule{Level: Ignore, Reason: "Ignored on the command line"}
		}
	}
	c.Evidence = append([]probe.Evidence{}, c.Evidence...)
	c.Causes = append([]string{}, c.Causes...)
	out := Check{Check: c, Level: r.Level}
	if r.Level == Ignore {
		out.Status = probe.Skipped
		out.Detail = because(r.Reason, c)
	}
	a.checks = append(a.checks, out)
}

// because joins why a check is skipped with what it found all the same.
func because(why string, c probe.Check) string {
	if c.Detail == "" {
		return why + "."
	}
	return why + ": " + c.Detail
}

// features are judged by id; those of devices by device as well.
func (a *applier) features() {
	for _, f := range a.in.Report.Features {
		c := f.Check()
		if i := slices.IndexFunc(a.ids, func(id ID) bool { return id.Name == f.ID }); i >= 0 && c.Status != probe.Pass {
			c.Causes = a.ids[i].Causes
		}
		if !strings.HasPrefix(f.ID, "nic.") {
			a.add(c)
			continue
		}
		if r, ok := a.deviceRule(f.Subject, f.ID); ok {
			a.put(c, r, true)
			continue
		}
		if slices.Contains(a.egress, f.Subject) {
			a.add(c)
			continue
		}
		a.put(c, Rule{Level: Ignore, Reason: a.whyIdle(f.Subject)}, true)
	}
}

// deviceRule returns what the device scopes of the policy say; the first that
// names the check decides.
func (a *applier) deviceRule(device, id string) (Rule, bool) {
	for _, d := range a.p.Devices {
		if ok, err := path.Match(d.Match, device); err != nil || !ok {
			continue
		}
		if r, ok := level(d.Rules, id); ok {
			return r, true
		}
	}
	return Rule{}, false
}

// whyIdle says why a device does not matter.
func (a *applier) whyIdle(device string) string {
	if len(a.in.Paths) > 0 {
		return "Not on the path"
	}
	for _, n := range a.in.Report.NICs {
		switch {
		case n.Name != device:
		case n.Kind == "loopback":
			return "Nothing sent over loopback leaves this host"
		case !n.Up:
			return device + " is down"
		}
	}
	return "No route leads out of " + device
}

// devices complains about scopes that match no device: what a policy requires
// of eth1 does not hold where there is no eth1.
func (a *applier) devices() {
	for _, d := range a.p.Devices {
		if slices.ContainsFunc(a.in.Report.NICs, func(n probe.NIC) bool { ok, err := path.Match(d.Match, n.Name); return ok && err == nil }) {
			continue
		}
		for _, id := range a.ids {
			if r, ok := level(d.Rules, id.Name); ok && r.Level != Ignore {
				a.put(probe.Check{ID: id.Name, Subject: d.Match, Status: probe.Fail,
					Detail: fmt.Sprintf("No device matches %s.", d.Match)}, r, true)
			}
		}
	}
}

// egress returns the devices that matter: those on the paths that were asked
// for, or, without any, those that routes lead out of.
func egress(in Input) []string {
	var names []string
	for _, p := range in.Paths {
		for _, h := range p.Report.Hops {
			if h.NetNS == "" && !slices.Contains(names, h.Device) {
				names = append(names, h.Device)
			}
		}
	}
	if len(names) == 0 {
		return in.Report.EgressDevices()
	}
	return names
}

func (a *applier) hazards() {
	for _, h := range a.in.Report.Hazards {
		a.add(h.Check())
	}
}

// limits are those the report judged against the load, and the policy's own
// minimums; the worse of the two stands.
func (a *applier) limits() {
	l := &a.in.Report.Limits
	for _, c := range l.Checks {
		switch c.ID {
		case "limit.memlock":
			if !l.MemlockExempt {
				c = a.minimum(c, "memlock_bytes", l.MemlockBytes, a.p.Limits.MemlockBytes)
			}
		case "limit.optmem":
			c = a.minimum(c, "optmem_max_bytes", l.OptmemMaxBytes, a.p.Limits.OptmemMaxBytes)
		case "limit.pipe":
			c = a.minimum(c, "pipe_max_bytes", l.PipeMaxBytes, a.p.Limits.PipeMaxBytes)
		}
		a.add(c)
	}
}

// paths are judged for each destination. Rules of the destination come before
// those for all.
func (a *applier) paths() {
	for _, p := range a.in.Paths {
		c := p.Report.Check()
		c.Subject = p.To
		r, ok := level(a.p.Rules, c.ID)
		for _, d := range a.p.Destinations {
			if d.To != p.To || d.From != p.From {
				continue
			}
			own, named := level(d.Rules, c.ID)
			switch {
			case named:
				r, ok = own, true
			case !ok:
				r, ok = Rule{Level: Require}, true // why else name it?
			}
		}
		a.put(c, r, ok)
	}
}

// tracerNeeds are the ways to attach to the kernel of which the tracer needs one.
var tracerNeeds = []string{"fentry", "kprobe", "kprobe_multi", "tp_btf"}

func (a *applier) tracing() {
	c := probe.Check{ID: "tracing.any", Status: probe.Skipped, Detail: "Whether the kernel can be traced was not tried: a record does not hold it."}
	var works []string
	for _, t := range a.in.Report.Tracing.Tiers {
		if !slices.Contains(tracerNeeds, t.ID) {
			continue
		}
		f := probe.Feature{ID: t.ID, Status: t.Status, Detail: t.Detail}.Check()
		c.Evidence = append(c.Evidence, probe.Evidence{Source: t.ID, Value: string(t.Status) + ": " + t.Detail})
		switch {
		case f.Status == probe.Pass:
			works = append(works, t.ID)
		case c.Status == probe.Skipped || f.Status == probe.Unknown:
			c.Status, c.Detail = f.Status, t.Detail
		}
	}
	if len(works) > 0 {
		c.Status, c.Detail = probe.Pass, "The kernel can be traced: "+strings.Join(works, ", ")+"."
	}
	a.add(c)
}

// missing adds the checks that nothing was found for, so that a policy cannot
// require what is silently left out.
func (a *applier) missing() {
	for _, id := range a.ids {
		nic := strings.HasPrefix(id.Name, "nic.")
		if slices.ContainsFunc(a.checks, func(c Check) bool {
			return c.ID == id.Name && (!nic || c.Level != Ignore || slices.Contains(a.egress, c.Subject))
		}) {
			continue
		}
		c := probe.Check{ID: id.Name, Status: probe.Unknown, Detail: "The probe has no answer."}
		switch {
		case id.Name == "path.zero-copy":
			c.Status, c.Detail = probe.Skipped, "No destination was given (--to, or destinations of the policy)."
		case nic && len(a.egress) == 0:
			c.Detail = "No device that leads out of this host is up."
		case nic:
			c.Detail = "The features of " + strings.Join(a.egress, ", ") + " could not be read."
		}
		a.add(c)
	}
}

// finish applies level and waivers to a check.
func (a *applier) finish(c *Check) {
	if c.Level == WarnAt && (c.Status == probe.Fail || c.Status == probe.Unknown) {
		// A check that only warns must not leave the run undecided.
		if c.Status == probe.Unknown {
			c.Detail = "Could not tell: " + c.Detail
		}
		c.Status = probe.Warn
	}
	if c.Status == probe.Pass || c.Status == probe.Skipped {
		return
	}
	for _, w := range a.p.Waivers {
		if w.Check != c.ID || w.Subject != "" && w.Subject != c.Subject {
			continue
		}
		day := w.Expires.AddDate(0, 0, -1).Format(time.DateOnly)
		c.Waived = &WaivedBy{w.Reason, day}
		c.Detail = fmt.Sprintf("Waived until %s (%s): %s", day, w.Reason, c.Detail)
		c.Status = probe.Skipped
		return
	}
}
