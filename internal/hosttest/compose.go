package hosttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zcprobe/zcprobe/probe"
)

// Each runs fn as a subtest for every recorded host, and for every network
// device of testdata/nics in place of the one of a recorded guest with the same
// kernel: five kernels, a dozen drivers, with and without each offload.
func Each(t *testing.T, fn func(t *testing.T, f *probe.Facts)) {
	t.Helper()
	bases := map[string]string{} // kernel series to the host that devices are put in
	for _, name := range Names(t) {
		f := Load(t, name)
		if strings.HasPrefix(name, "guest-") {
			bases[series(f.Host.Kernel)] = name
		}
		t.Run(name, func(t *testing.T) { fn(t, f) })
	}
	files, err := filepath.Glob(Testdata(t, "nics", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no network devices: %v", err)
	}
	for _, file := range files {
		d := readNIC(t, file)
		if !d.Link.HasDev {
			continue // lo, dummy and tun are no network cards
		}
		base, ok := bases[series(d.Kernel)]
		if !ok {
			t.Fatalf("no recorded guest has a kernel like %s", d.Kernel)
		}
		t.Run("nic-"+strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			f := Load(t, base)
			d.putInto(t, f)
			fn(t, f)
		})
	}
}

// series returns the first two numbers of a kernel release.
func series(release string) string {
	parts := strings.SplitN(release, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// nicDump is a file of testdata/nics.
type nicDump struct {
	Kernel string     `json:"kernel"`
	Link   probe.Link `json:"link"`
}

func readNIC(t testing.TB, file string) nicDump {
	t.Helper()
	var d nicDump
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

// putInto makes the device the one network card of a host. Name, index, routes
// and whatever else is not the card's own stay.
func (d nicDump) putInto(t testing.TB, f *probe.Facts) {
	t.Helper()
	put := 0
	for i := range f.Networks[0].Links {
		if l := &f.Networks[0].Links[i]; l.HasDev {
			l.Driver, l.Bus, l.Features = d.Link.Driver, d.Link.Bus, d.Link.Features
			put++
		}
	}
	if put != 1 {
		t.Fatalf("the host has %d network cards, want one", put)
	}
}
