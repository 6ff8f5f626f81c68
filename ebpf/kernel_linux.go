package ebpf

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// A kernel is what has to be read of the running kernel before programs can be
// loaded: types by the hundred thousand. It is read when it is first asked for, and
// shared by all that a tracer loads; afterwards nothing holds it.
type kernel struct {
	cache  *btf.Cache
	places func() (map[string]location, error) // see locate
}

func newKernel() *kernel {
	return &kernel{cache: btf.NewCache(), places: sync.OnceValues(locate)}
}

// types returns the types of the kernel itself, without those of modules.
func (k *kernel) types() (*btf.Spec, error) {
	types, err := k.cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("type information of the kernel: %w", translate(err))
	}
	return types, nil
}

// load loads programs. All types they read are the kernel's own, so modules, of
// which there may be a hundred, are not searched for them.
func (k *kernel) load(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map) (*ebpf.Collection, error) {
	types, err := k.types()
	if err != nil {
		return nil, err
	}
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Cache: k.cache, MapReplacements: maps, Programs: ebpf.ProgramOptions{KernelTypes: types},
	})
}
