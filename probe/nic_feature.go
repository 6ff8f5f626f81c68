package probe

import (
	"fmt"
	"slices"
	"strings"
)

// nicFeature is a transmit feature that is judged for every device.
type nicFeature struct {
	id    string   // without "nic."
	bits  []string // ethtool's names; any of them is enough, the first is best
	says  string   // in a sentence
	key   string   // for ethtool -K
	needs []string // ids that the kernel demands for it: netdev_fix_features
}

// nicFeatures are in an order in which each needs only earlier ones.
//
// Segmentation offload of UDP goes without scatter-gather, but not without
// checksums of both families (Linux 6.12; earlier kernels do not demand them).
var nicFeatures = []nicFeature{
	{id: "tx-scatter-gather", bits: []string{"tx-scatter-gather"}, says: "scatter-gather", key: "sg"},
	{id: "tx-checksum-ipv4", bits: []string{"tx-checksum-ip-generic", "tx-checksum-ipv4"}, says: "checksum offload for IPv4", key: "tx"},
	{id: "tx-checksum-ipv6", bits: []string{"tx-checksum-ip-generic", "tx-checksum-ipv6"}, says: "checksum offload for IPv6", key: "tx"},
	{
		id: "tx-tcp-segmentation", bits: []string{"tx-tcp-segmentation"}, says: "TCP segmentation", key: "tso",
		needs: []string{"tx-scatter-gather", "tx-checksum-ipv4"},
	},
	{
		id: "tx-tcp6-segmentation", bits: []string{"tx-tcp6-segmentation"}, says: "TCP segmentation for IPv6", key: "tx-tcp6-segmentation",
		needs: []string{"tx-scatter-gather", "tx-checksum-ipv6"},
	},
	{
		id: "tx-udp-segmentation", bits: []string{"tx-udp-segmentation"}, says: "UDP segmentation", key: "tx-udp-segmentation",
		needs: []string{"tx-checksum-ipv4", "tx-checksum-ipv6"},
	},
}

func nicFeatureByID(id string) nicFeature {
	return nicFeatures[slices.IndexFunc(nicFeatures, func(f nicFeature) bool { return f.id == id })]
}

// featureAnswer is what the states of a feature's bits come to.
type featureAnswer struct {
	status FeatureStatus
	detail string
	dev    string   // that keys are for
	keys   []string // for ethtool -K, in order
	remedy string   // instead of keys
}

// on reports whether the feature works.
func (a featureAnswer) on() bool { return a.status == Supported }

func (st deviceStack) judge(l *Link, nf nicFeature) Feature {
	a := st.answer(l, nf)
	f := Feature{ID: "nic." + nf.id, Status: a.status, Subject: l.Name, Detail: a.detail, Evidence: featureEvidence(l, nf), Remedy: a.remedy}
	if len(a.keys) > 0 {
		f.Remedy = ethtoolCommand(a.dev, a.keys...)
	}
	if l.Features != nil && st.standsOnOthers(l) {
		f.Detail += "; this tells nothing about the devices below"
	}
	return f
}

// answer decodes the states. Active comes first: what is active works,
// even where it is not available (fixed on, as on lo).
func (st deviceStack) answer(l *Link, nf nicFeature) featureAnswer {
	if l.Features == nil {
		status, why := unreadable(l)
		return featureAnswer{status: status, detail: why}
	}
	_, state, known := pickBit(l, nf)
	switch {
	case state.Active && (!state.Available || state.NeverChanged):
		return featureAnswer{status: Supported, detail: "on, cannot be changed"}
	case state.Active:
		return featureAnswer{status: Supported, detail: "on"}
	case l.FeaturesSource != gfeaturesSource:
		return answerLegacy(known)
	case !known:
		return featureAnswer{status: Unsupported, detail: "this kernel does not have the feature"}
	case !state.Available || state.NeverChanged:
		return featureAnswer{status: Unsupported, detail: "off, and the device cannot do it"}
	case state.Requested:
		return st.notGranted(l, nf)
	}
	return st.notRequested(l, nf)
}

// gfeaturesSource is the FeaturesSource that has all four states.
const gfeaturesSource = "ETHTOOL_GFEATURES"

// answerLegacy is for a feature that is not known to be on where the kernel
// has only the ioctls that join several features by OR.
func answerLegacy(known bool) featureAnswer {
	if known {
		return featureAnswer{status: UnknownFeature, detail: "off; whether the device can do it is not told by the ioctls this kernel has"}
	}
	return featureAnswer{status: UnknownFeature, detail: "the ioctls this kernel has do not tell this feature from similar ones"}
}

// pickBit returns the bit that decides: an active one, else one that could be
// switched on, best one that was requested. known is false if the kernel told
// of none, or, by legacy ioctls, not of all.
func pickBit(l *Link, nf nicFeature) (name string, best FeatureState, known bool) {
	rank := func(s FeatureState) int {
		n := 0
		for i, b := range []bool{s.Requested, s.Available && !s.NeverChanged, s.Active} {
			if b {
				n |= 1 << i
			}
		}
		return n
	}
	seen := 0
	for _, bit := range nf.bits {
		s, ok := l.Features[bit]
		if !ok {
			continue
		}
		if seen++; seen == 1 || rank(s) > rank(best) {
			name, best = bit, s
		}
	}
	if l.FeaturesSource != gfeaturesSource {
		return name, best, seen == len(nf.bits)
	}
	return name, best, seen > 0
}

// notRequested is for a feature that can be switched on. What it needs
// must be switched on with it, or the kernel takes it back at once.
func (st deviceStack) notRequested(l *Link, nf nicFeature) featureAnswer {
	a := featureAnswer{status: Disabled, detail: "off: switched off on request", dev: l.Name}
	for _, id := range nf.needs {
		need := nicFeatureByID(id)
		switch n := st.answer(l, need); {
		case n.on():
		case n.status == Disabled && n.dev == l.Name:
			a.keys = appendNew(a.keys, n.keys...)
		case n.status == Disabled:
			return featureAnswer{status: Disabled, detail: fmt.Sprintf("off: switched off on request, and %s is off", need.says), dev: n.dev, keys: n.keys, remedy: n.remedy}
		default:
			return featureAnswer{status: n.status, detail: fmt.Sprintf("off, and it needs %s, which the device cannot do", need.says)}
		}
	}
	a.keys = appendNew(a.keys, nf.key)
	return a
}

// notGranted is for a feature that was requested and can be had, but is
// not active: something it depends on is off.
func (st deviceStack) notGranted(l *Link, nf nicFeature) featureAnswer {
	for _, id := range nf.needs {
		need := nicFeatureByID(id)
		n := st.answer(l, need)
		if n.on() {
			continue
		}
		detail := fmt.Sprintf("off: requested on, but %s is off", need.says)
		if n.status != Disabled {
			return featureAnswer{status: n.status, detail: detail + " and the device cannot do it"}
		}
		return featureAnswer{status: Disabled, detail: detail, dev: n.dev, keys: n.keys, remedy: n.remedy}
	}
	if l.Kind == "tun" {
		// tun_net_fix_features: what the program set by TUNSETOFFLOAD.
		return featureAnswer{
			status: Disabled,
			detail: "off: requested on, but the program that holds the device does not take it",
			remedy: fmt.Sprintf("let the program that holds %s accept it (ioctl TUNSETOFFLOAD)", shellWord(l.Name)),
		}
	}
	below := deviceStack{lower: st.lower, depth: st.depth + 1}
	for _, lower := range st.lower[l.Index] {
		if lower.Features == nil || below.depth > maxDepth {
			continue
		}
		n := below.answer(lower, nf)
		if n.on() {
			continue
		}
		detail := fmt.Sprintf("off: requested on, but it is off on %s below", lower.Name)
		return featureAnswer{status: n.status, detail: detail, dev: n.dev, keys: n.keys, remedy: n.remedy}
	}
	return featureAnswer{status: Unsupported, detail: "off: requested on, but the driver does not grant it"}
}

// unreadable says why a device's features are not known.
func unreadable(l *Link) (FeatureStatus, string) {
	switch l.FeaturesError {
	case "ENODEV":
		return UnknownFeature, "the device disappeared while it was looked at"
	case "EPERM", "EACCES":
		return Denied, "this process is not permitted to read the device's features"
	case "EOPNOTSUPP", "ENOTSUPP", "ENOTTY", "ENOSYS":
		return UnknownFeature, fmt.Sprintf("this kernel does not tell the device's features (%s)", l.FeaturesError)
	case "":
		return UnknownFeature, "the device's features were not read"
	}
	return UnknownFeature, "the device's features could not be read: " + l.FeaturesError
}

// featureEvidence quotes the states of all bits that were considered.
func featureEvidence(l *Link, nf nicFeature) []Evidence {
	if l.Features == nil {
		return []Evidence{{Source: gfeaturesSource, Value: l.FeaturesError}}
	}
	ev := []Evidence{}
	for _, bit := range nf.bits {
		s, ok := l.Features[bit]
		if !ok {
			continue
		}
		words := []string{"off"}
		if s.Active {
			words[0] = "on"
		}
		for _, w := range []struct {
			set  bool
			word string
		}{{s.Requested, "requested"}, {s.Available, "can be changed"}, {s.NeverChanged, "never changes"}} {
			if w.set {
				words = append(words, w.word)
			}
		}
		ev = append(ev, Evidence{Source: l.FeaturesSource, Value: bit + ": " + strings.Join(words, ", ")})
	}
	return ev
}

// ethtoolCommand returns the command that switches features on.
func ethtoolCommand(dev string, keys ...string) string {
	cmd := "ethtool -K " + shellWord(dev)
	for _, k := range keys {
		cmd += " " + k + " on"
	}
	return cmd
}

// shellWord quotes a name from the host so that a command with it can be
// pasted: device names may hold any character but white space, '/' and ':'.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-@", r)
	}
	if s != "" && !strings.HasPrefix(s, "-") && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// appendNew appends those words that are not there yet.
func appendNew(words []string, more ...string) []string {
	for _, w := range more {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}
