package scenario

import (
	"slices"

	"github.com/zcprobe/zcprobe/probe"
)

// predict is what package probe says of traffic, as its facts of the place are. What
// a limit makes fail is sent by writing.
func (p *place) predict(f *probe.Facts, t Traffic) (c Column, passesUnknown bool) {
	if p.unix || p.files {
		return Column{Causes: []string{}}, false
	}
	to, err := p.to.of(t)
	if err != nil {
		return Column{Causes: []string{}, Detail: err.Error()}, false
	}
	o := probe.Options{To: to.String()}
	refused := p.limits(f, o, t)
	if refused != "" {
		t.API = "write"
	}
	c, passesUnknown = Predicted(probe.JudgePath(f, o), t)
	c.Refused = refused
	return c, passesUnknown
}

// limits returns the id of the limit that makes every send of the traffic fail, "" for
// none.
func (p *place) limits(f *probe.Facts, o probe.Options, t Traffic) string {
	if t.called() != "msg_zerocopy" {
		return ""
	}
	if p.memlock != nil {
		o.ServiceUID, o.ServiceMemlock = new(uint32(nobody)), p.memlock
	}
	for _, c := range probe.Judge(f, o).Limits.Checks {
		i := slices.Index([]string{"limit.memlock", "limit.optmem"}, c.ID)
		if i >= 0 && c.Status == probe.Fail {
			return []string{"memlock-limit", "optmem-limit"}[i]
		}
	}
	return ""
}
