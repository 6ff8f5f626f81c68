package probe

import (
	"cmp"
	"slices"
)

// Judge says what facts mean. It reads nothing but its arguments.
func Judge(f *Facts, o Options) *Report {
	r := &Report{Schema: ProbeSchema, Host: judgeHost(f), Recommendations: []Recommendation{}, dev: o.Dev}
	r.Tracing.Tiers = []Tier{}
	nics, nicFeatures := judgeNICs(f, o.Dev)
	judgeEgress(f, nics)
	r.NICs = nics
	r.Features = append(judgeKernel(f), nicFeatures...)
	r.Features = append(r.Features, judgeDirs(f)...)
	slices.SortStableFunc(r.Features, func(a, b Feature) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject))
	})
	r.Taps = judgeTaps(f)
	r.TapChecks = tapChecks(f)
	r.Limits = judgeLimits(f, o)
	r.Hazards = judgeHazards(f)
	if len(f.Paths) > 0 && o.To != "" {
		r.Path = judgePath(f, o)
	}
	r.Blockers = judgeBlockers(r)
	r.Verdict = judgeVerdict(r)
	normalise(r)
	return r
}

// JudgePath says what facts mean for the path to o.To, which may be one of
// several that were collected.
func JudgePath(f *Facts, o Options) *PathReport {
	r := judgePath(f, o)
	normalise(r)
	return r
}
