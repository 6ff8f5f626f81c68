package probe

import (
	"context"
	"slices"
)

// kernelChoice is what choosing a way of sending needs to know.
func kernelChoice() []string {
	var ids []string
	for _, ft := range functests() {
		if ft.choose {
			ids = append(ids, ft.id)
		}
	}
	return ids
}

func knownKernelID(id string) bool {
	return slices.ContainsFunc(functests(), func(ft functest) bool { return ft.id == id })
}

// probeKernel makes the tests with the given ids.
func probeKernel(ctx context.Context, ids []string) (map[string]triedFeature, error) {
	var f Facts
	err := onProbeThread(ctx, func() error {
		s := liveSources()
		tests := slices.DeleteFunc(functests(), func(ft functest) bool { return !slices.Contains(ids, ft.id) })
		f.Host = readProcess(s)
		if slices.ContainsFunc(tests, func(ft functest) bool { return !ft.choose }) {
			// The other features may need the search for modules and
			// configuration, which takes longer than the tests.
			f.Host = readHost(s)
		}
		f.Outcomes = runFunctests(ctx, kernelCalls(), &f.Host, tests)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	return judgeTried(&f), nil
}
