package probe

import (
	"cmp"
	"slices"
	"strconv"
)

// featureSpec says how one feature of the kernel is judged from the outcome of
// its functional test, which has the same id.
type featureSpec struct {
	id    string
	what  string // inside a sentence: "sendfile to TCP"
	title string // at its beginning, where that differs from what

	// What else decides when the test could not: the option that builds the
	// feature, the module it may be in, and the remedy where that is absent.
	config, module, remedy string

	// needs is the capability without which the kernel refuses it with EPERM,
	// 0 for none: no feature needs CAP_CHOWN.
	needs int

	// mayLack: the module may be there and lack the feature, on older kernels.
	mayLack bool

	// devices: the answer hangs on the network devices, which change.
	devices bool

	// invalid: EINVAL on a call that belongs to the feature means the kernel
	// does not know it. Elsewhere EINVAL proves nothing.
	invalid bool

	before func(*featureJudge) bool // decides ahead of the outcome's steps, or not
	works  func(*featureJudge)      // the test passed; nil: featureWorks
}

// featureSpecs are the features of the kernel in order of their ids. Those of
// devices (nic.*) and of directories (reflink, file.lease) are judged elsewhere.
func featureSpecs() []featureSpec {
	specs := slices.Concat(spliceFeatures(), zerocopyFeatures(), uringFeatures(), tlsFeatures(), otherFeatures())
	slices.SortFunc(specs, func(a, b featureSpec) int { return cmp.Compare(a.id, b.id) })
	return specs
}

// judgeKernel says what the functional tests of the kernel mean.
func judgeKernel(f *Facts) []Feature {
	specs := featureSpecs()
	out := make([]Feature, 0, len(specs))
	for _, s := range specs {
		out = append(out, judgeFeature(f, s))
	}
	return out
}

func judgeFeature(f *Facts, s featureSpec) Feature {
	j := &featureJudge{f: f, spec: s, Feature: Feature{ID: s.id, Evidence: []Evidence{}}}
	i := slices.IndexFunc(f.Outcomes, func(o Outcome) bool { return o.ID == s.id })
	if i < 0 {
		j.unknown("No functional test of " + s.what + " is on record; probing again would decide it.")
		return j.Feature
	}
	j.o = f.Outcomes[i]
	for _, step := range j.o.Steps {
		j.evidence(step.Op, stepText(step))
	}
	switch last, failed := j.lastFailure(); {
	case s.before != nil && s.before(j):
	case j.o.NotTried != "":
		j.notTried()
	case failed:
		j.failed(last)
	case len(j.o.Steps) == 0:
		j.unknown("The test of " + s.what + " recorded nothing; probing again would decide it.")
	case s.works != nil:
		s.works(j)
	default:
		j.works(j.name() + " works.")
	}
	return j.Feature
}

// stepText is what a step says as evidence.
func stepText(s Step) string {
	switch {
	case s.Errno != "":
		return s.Errno
	case s.Value != "":
		return "ok, " + s.Value
	}
	return "ok"
}

// featureJudge is one feature while it is judged.
type featureJudge struct {
	Feature
	f    *Facts
	spec featureSpec
	o    Outcome
}

func (j *featureJudge) decide(s FeatureStatus, detail string) {
	j.Status, j.Detail = s, detail
}

func (j *featureJudge) unknown(detail string)     { j.decide(UnknownFeature, detail) }
func (j *featureJudge) unsupported(detail string) { j.decide(Unsupported, detail) }

func (j *featureJudge) disabled(detail, remedy string) {
	j.decide(Disabled, detail)
	j.Remedy = remedy
}

func (j *featureJudge) evidence(source, value string) {
	j.Evidence = append(j.Evidence, Evidence{Source: source, Value: value})
}

// seen returns a measured value of the test, and false where it has none.
func (j *featureJudge) seen(name string) (int64, bool) {
	v, ok := j.o.Seen[name]
	return v, ok
}

func (j *featureJudge) is(name string, want int64) bool {
	v, ok := j.seen(name)
	return ok && v == want
}

// works decides that a feature works, if the bytes that arrived are those that
// were sent.
func (j *featureJudge) works(detail string) {
	switch {
	case j.is("equal", 1):
		j.decide(Supported, detail)
	case j.is("equal", 0):
		j.evidence("content", "differs from what was sent")
		j.unsupported(j.name() + " reports success but delivers other bytes than were sent.")
	default:
		j.unknown("The test of " + j.spec.what + " ended before its result could be compared; probing again would decide it.")
	}
}

// lastFailure returns the step that failed last, if nothing after it worked.
// A test that has compared its content is through: what it tried beyond that
// only adds to the picture.
func (j *featureJudge) lastFailure() (Step, bool) {
	if len(j.o.Steps) == 0 {
		return Step{}, false
	}
	last := j.o.Steps[len(j.o.Steps)-1]
	if last.Errno == "" || last.Prep && j.is("equal", 1) {
		return Step{}, false
	}
	return last, true
}

// name is what the feature is called at the beginning of a sentence.
func (j *featureJudge) name() string { return cmp.Or(j.spec.title, j.spec.what) }

// filtered reports whether a system-call filter may have answered in the
// kernel's place. It counts as there when that could not be read.
func (j *featureJudge) filtered() bool { return j.f.Host.Seccomp != "none" }

// config returns what the kernel's configuration says of the feature, "" if
// that is not known.
func (j *featureJudge) config() string { return j.f.Host.Config[j.spec.config] }

// noteConfig adds what the configuration says to the evidence.
func (j *featureJudge) noteConfig() {
	j.evidence(j.f.Host.ConfigSource+" "+j.spec.config, j.config())
}

// sysctl returns a setting as a number.
func (j *featureJudge) sysctl(name string) (int64, bool) {
	v, err := strconv.ParseInt(j.f.Host.Sysctls[name], 10, 64)
	return v, err == nil
}

// noteSysctl adds a setting to the evidence.
func (j *featureJudge) noteSysctl(name string) {
	if v, ok := j.f.Host.Sysctls[name]; ok {
		j.evidence("sysctl "+name, v)
	}
}

// has reports whether the process has a capability that counts everywhere: in
// a user namespace of its own, root has only those of that namespace.
func (h *HostFacts) has(capability int) bool {
	return h.CapEff>>capability&1 != 0 && h.InitUserNS != nil && *h.InitUserNS
}

// Capabilities that decide something; linux/capability.h.
const (
	capNetRaw      = 13
	capIPCLock     = 14
	capSysAdmin    = 21
	capSysResource = 24
)
