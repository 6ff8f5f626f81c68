package probe

import (
	"context"
	"io/fs"
	"net"
	"net/netip"
	"os"
)

// sources are the file trees, and the names, that facts are read from. Tests put
// others in their place.
type sources struct {
	proc fs.FS // /proc
	sys  fs.FS // /sys
	root fs.FS // /, for the module tree and kernel configuration

	names resolver // looks up host names
}

// resolver is the part of net.Resolver that is used.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func liveSources() *sources {
	return &sources{proc: os.DirFS("/proc"), sys: os.DirFS("/sys"), root: os.DirFS("/"), names: net.DefaultResolver}
}

// Collect reads the facts that o asks for. It changes nothing on the host. The
// error is the context's, or matches errors.ErrUnsupported off Linux; what
// could not be read is part of the facts.
func Collect(ctx context.Context, o Options) (*Facts, error) {
	f := &Facts{}
	err := onProbeThread(ctx, func() error {
		s := liveSources()
		f.Host = readHost(s)
		ns := findNamespaces(s)
		f.Networks = []Network{ns.readNetwork(ctx, "")}
		if e, err := readEgress(); err != nil {
			f.Networks[0].EgressError = err.Error()
		} else {
			f.Networks[0].Egress = &e
		}
		f.Outcomes = runTests(ctx, &f.Host)
		f.Taps = readTaps(ctx, s, ns)
		f.Limits = readLimits(ctx, s, ns, o)
		if o.Dir != "" {
			f.Dirs = []DirFacts{readDir(ctx, s, o.Dir, o.WriteTest)}
		}
		for _, d := range append([]Destination{{o.To, o.From}}, o.Also...) {
			if d.To != "" && ctx.Err() == nil {
				to := o
				to.To, to.From = d.To, d.From
				collectPath(ctx, s, ns, f, to)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	normalise(f)
	return f, nil
}
