package probe

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
)

// KernelFeatures says which ways of moving data the running kernel has for this
// process. It does not change, and any number of goroutines may use it. It
// knows nothing of devices, routes, taps and limits: those change under us, and
// [Collect] reads them afresh.
type KernelFeatures struct {
	features map[string]kernelFeature
	complete bool // holds all that choosing a way of sending needs
}

type kernelFeature struct {
	Feature
	seen   map[string]int64
	hazard *Hazard // what the test of a hazard means; nil for a feature
}

// Status returns the state of a feature. It is UnknownFeature for one that was
// not asked for.
func (k *KernelFeatures) Status(id string) FeatureStatus {
	f, ok := k.features[id]
	if !ok {
		return UnknownFeature
	}
	return f.Status
}

// Feature returns a feature with its detail and evidence; false if it was not
// asked for.
func (k *KernelFeatures) Feature(id string) (Feature, bool) {
	f, ok := k.features[id]
	f.Evidence = slices.Clone(f.Evidence)
	return f.Feature, ok
}

// All returns the features in order of their ids.
func (k *KernelFeatures) All() iter.Seq[Feature] {
	return func(yield func(Feature) bool) {
		for _, id := range slices.Sorted(maps.Keys(k.features)) {
			if f, _ := k.Feature(id); !yield(f) {
				return
			}
		}
	}
}

// Seen returns what the functional test of a feature measured, by the names of
// [Outcome]: "page_ref" of "sendfile.udp" is 0 where the kernel copies. It is
// false where the test did not measure it. The tests of hazards are asked for
// and read in the same way, as "hazard.udp-splice-csum-loss".
func (k *KernelFeatures) Seen(id, name string) (int64, bool) {
	v, ok := k.features[id].seen[name]
	return v, ok
}

// Hazard returns what the test of a hazard means, by the id of the catalogue:
// "udp-splice-csum-loss". It is false where that was not asked for.
func (k *KernelFeatures) Hazard(id string) (Hazard, bool) {
	h := k.features["hazard."+id].hazard
	if h == nil {
		return Hazard{}, false
	}
	out := *h
	out.Evidence = slices.Clone(h.Evidence)
	return out, true
}

// has reports whether the cache answers for all of ids.
func (k *KernelFeatures) has(ids []string) bool {
	if len(ids) == 0 {
		return k.complete
	}
	for _, id := range ids {
		if _, ok := k.features[id]; !ok {
			return false
		}
	}
	return true
}

// kernelCache holds what is certain about this kernel: it can, or it cannot.
// One probe at a time adds to it, the one that has the token.
var (
	kernelCache atomic.Pointer[KernelFeatures]
	kernelToken = make(chan struct{}, 1)
)

// Kernel returns the state of kernel features, or, without ids, of all that
// choosing a way of sending needs: sendfile, splice, vmsplice, tee, pipes,
// MSG_ZEROCOPY and UDP_SEGMENT over IPv4 and IPv6, io_uring, and the hazards of
// splicing into UDP.
//
// The first call makes the functional tests, on throw-away sockets over loopback
// and without loading a module, in a few milliseconds. Their results hold for
// the life of the process where they are a plain yes or no. A limit, a denial
// and a doubt are never kept: what they concern is tried again by the next call
// that asks for it. An answer from the cache takes no allocation.
//
// The error matches errors.ErrUnsupported outside Linux, and is the context's
// where that ended before the tests did.
func Kernel(ctx context.Context, ids ...string) (*KernelFeatures, error) {
	if k := kernelCache.Load(); k != nil && k.has(ids) {
		return k, nil
	}
	return kernelSlow(ctx, slices.Clone(ids))
}

func kernelSlow(ctx context.Context, ids []string) (*KernelFeatures, error) {
	if len(ids) == 0 {
		ids = kernelChoice()
	}
	for _, id := range ids {
		if !knownKernelID(id) {
			return nil, fmt.Errorf("probe kernel: no feature %q", id)
		}
	}
	select {
	case kernelToken <- struct{}{}:
		defer func() { <-kernelToken }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	known := kernelCache.Load()
	if known == nil {
		known = &KernelFeatures{}
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return known.has([]string{id}) })
	fresh, err := probeKernel(ctx, missing)
	if err != nil {
		return nil, err
	}
	all, certain := maps.Clone(known.features), maps.Clone(known.features)
	if all == nil {
		all, certain = map[string]kernelFeature{}, map[string]kernelFeature{}
	}
	for id, f := range fresh {
		all[id] = f.kernelFeature
		if f.certain {
			certain[id] = f.kernelFeature
		}
	}
	next := &KernelFeatures{features: certain}
	next.complete = next.has(kernelChoice())
	kernelCache.Store(next)
	return &KernelFeatures{features: all}, nil
}

// triedFeature is a feature just tested, and whether the answer lasts.
type triedFeature struct {
	kernelFeature
	certain bool
}

// judgeTried judges the features and hazards that f has outcomes of.
func judgeTried(f *Facts) map[string]triedFeature {
	specs := map[string]featureSpec{}
	for _, s := range featureSpecs() {
		specs[s.id] = s
	}
	out := map[string]triedFeature{}
	for _, o := range f.Outcomes {
		t := triedFeature{kernelFeature: kernelFeature{seen: o.Seen}}
		if s, ok := specs[o.ID]; ok {
			t.Feature = judgeFeature(f, s)
			// A remedy speaks of a setting or a limit, which may change.
			t.certain = (t.Status == Supported || t.Status == Unsupported) &&
				t.Remedy == "" && o.NotTried == "" && !s.devices
		} else {
			t.Feature, t.certain = hazardFeature(o)
			t.hazard = triedHazard(f, o.ID)
		}
		out[o.ID] = t
	}
	return out
}

// triedHazard judges the hazard that a test is about.
func triedHazard(f *Facts, id string) *Hazard {
	var h Hazard
	switch id {
	case "hazard.udp-splice-csum-loss":
		h = spliceChecksumLoss(f)
	case "hazard.udp-sendfile-loss":
		h = sendfileLoss(f)
	default:
		return nil
	}
	return &h
}

// hazardFeature gives the test of a hazard the form of a feature: "supported"
// says that it was made. What it means is in its values.
func hazardFeature(o Outcome) (Feature, bool) {
	f := Feature{ID: o.ID, Status: Supported, Detail: "The hazard was tried on loopback.", Evidence: []Evidence{}}
	for _, s := range o.Steps {
		f.Evidence = append(f.Evidence, Evidence{Source: s.Op, Value: stepText(s)})
	}
	if o.NotTried != "" || slices.ContainsFunc(o.Steps, func(s Step) bool { return s.Prep && s.Errno != "" }) {
		f.Status, f.Detail = UnknownFeature, "The hazard could not be tried on loopback."
		return f, false
	}
	return f, true
}
