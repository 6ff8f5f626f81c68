package probe

// FeatureStatus says what is known about one feature of the host.
type FeatureStatus string

// The states a feature can be in. A reader must accept words it does not know.
const (
	// Supported: a functional test, or the kernel's own active state, shows it works.
	Supported FeatureStatus = "supported"
	// Unsupported: kernel, driver or file system cannot do it.
	Unsupported FeatureStatus = "unsupported"
	// Disabled: it is there but switched off, or a limit makes every use fail.
	// The remedy switches it on.
	Disabled FeatureStatus = "disabled"
	// Denied: this process is not permitted to use it (or to find out).
	Denied FeatureStatus = "denied"
	// UnknownFeature: could not tell; the detail says what would decide it.
	UnknownFeature FeatureStatus = "unknown"
	// SkippedFeature: does not apply or was not asked for; the detail says why.
	SkippedFeature FeatureStatus = "skipped"
)

// CheckStatus is the outcome of a check or of a whole verdict.
type CheckStatus string

// The outcomes of a check. Unknown is never a pass.
const (
	Pass    CheckStatus = "pass"
	Warn    CheckStatus = "warn"
	Fail    CheckStatus = "fail"
	Unknown CheckStatus = "unknown"
	Skipped CheckStatus = "skipped"
)

// Worse returns the graver of two outcomes: fail beats unknown, unknown beats
// warn, warn beats pass, and anything beats skipped.
func (s CheckStatus) Worse(t CheckStatus) CheckStatus {
	if t.rank() > s.rank() {
		return t
	}
	return s
}

func (s CheckStatus) rank() int {
	switch s {
	case Fail:
		return 4
	case Unknown:
		return 3
	case Warn:
		return 2
	case Pass:
		return 1
	case Skipped:
		return 0
	}
	return 3 // a word from a newer version: as unknown
}

// ZeroCopy is a three-valued prediction for one kind of transfer.
type ZeroCopy string

// The three answers a prediction can give.
const (
	ZeroCopyYes     ZeroCopy = "yes"
	ZeroCopyNo      ZeroCopy = "no"
	ZeroCopyUnknown ZeroCopy = "unknown"
)
