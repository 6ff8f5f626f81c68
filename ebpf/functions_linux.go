package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// functionTracer is a tier of functions at work.
type functionTracer struct {
	tier   Tier
	loaded *ebpf.Collection
	links  []functionLink
	hooks  []Hook
	stacks bool              // to be shown
	names  map[uint64]string // of functions, by return addresses
	doubts doubts
}

func openFentry(k *kernel, o Options) (eye, []Hook, error) {
	return openFunctions(k, TierFentry, o, loadFentry, tryFentry)
}

func openKprobe(k *kernel, o Options) (eye, []Hook, error) {
	return openFunctions(k, TierKprobe, o, loadKprobe, tryKprobe)
}

// openFunctions attaches to the functions that this kernel has.
func openFunctions(k *kernel, tier Tier, o Options, load func() (*ebpf.CollectionSpec, error), try func(*kernel) error) (eye, []Hook, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, nil, fmt.Errorf("lift RLIMIT_MEMLOCK: %w", translate(err))
	}
	types, err := k.types()
	if err != nil {
		return nil, nil, err
	}
	if err := try(k); err != nil { // cheaper than all of them
		return nil, nil, refusal(tier, k, err)
	}
	spec, err := load()
	if err != nil {
		return nil, nil, fmt.Errorf("programs: %w", err)
	}
	t := &functionTracer{tier: tier, stacks: o.Stacks}
	there, err := k.places()
	if err != nil {
		return nil, nil, err
	}
	list := resolveFunctions(tier, types, there, o)
	if err := configureFunctions(spec, types, there, o); err != nil {
		return nil, nil, err
	}
	multi := tier == TierKprobe && tryKprobeMulti(k) == nil
	if err := t.load(spec, k, list, multi); err != nil {
		return nil, nil, errors.Join(err, t.close())
	}
	if err := t.loadAgain(k, list, func(spec *ebpf.CollectionSpec) error { return configureFunctions(spec, types, there, o) }); err != nil {
		return nil, nil, errors.Join(err, t.close())
	}
	for _, pid := range o.Processes {
		if err := t.loaded.Maps["wanted"].Put(uint32(pid), uint32(pid)); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("look at process %d: %w", pid, err), t.close())
		}
	}
	if err := t.attach(list, multi); err != nil {
		return nil, nil, errors.Join(err, t.close())
	}
	return t, t.hooks, nil
}

// refusal explains why a tier cannot be had.
func refusal(tier Tier, k *kernel, err error) error {
	switch {
	case lockdown() == "confidentiality":
		return fmt.Errorf("the kernel is locked down (confidentiality): no program may read its memory: %w: %w", fs.ErrPermission, err)
	case tier == TierFentry && errors.Is(err, fs.ErrPermission) && tryTypedTracepoint(k) == nil:
		// It is not that this process may not.
		return fmt.Errorf("the kernel refuses programs at the entry of functions, as kernels do without direct calls from ftrace (%v): %w", err, errors.ErrUnsupported)
	}
	return translate(err)
}

// Why a hook is not attached.
var (
	errNoFunction = fmt.Errorf("the kernel has no such function, or has it inlined: %w", errors.ErrUnsupported)
	errChanged    = fmt.Errorf("the compiler has changed the arguments of the function: %w", errors.ErrUnsupported)
	errParts      = fmt.Errorf("the kernel has only parts of the function: %w", errors.ErrUnsupported)
	errNoTypes    = fmt.Errorf("the kernel has no type information about the function: %w", errors.ErrUnsupported)
)

// resolveFunctions looks which functions this kernel has.
func resolveFunctions(tier Tier, kernel *btf.Spec, there map[string]location, o Options) []function {
	list := functions()
	for i := range list {
		f := &list[i]
		f.Tier = tier
		at, ok := there[f.Name]
		_, newer := there[f.instead]
		_, older := there[f.otherwise]
		switch {
		case f.instead != "" && newer:
			f.Err = fmt.Errorf("%w: the kernel has %s instead", errNotTried, f.instead)
		case !ok && f.otherwise != "" && older:
			f.Err = fmt.Errorf("%w: the kernel has %s instead", errNotTried, f.otherwise)
		case f.Name == "wake_up_new_task" && len(o.Processes) == 0:
			f.Err = errNotTried
		case !ok && f.module != "" && !moduleLoaded(f.module):
			f.Err = fmt.Errorf("%w: module %s is not loaded", errNotTried, f.module)
		case !ok:
			f.Err = errNoFunction
		case strings.HasPrefix(at.added, ".part"), strings.HasPrefix(at.added, ".cold"):
			f.Err = errParts
		case at.added != "":
			f.Err = errChanged
		case tier == TierFentry && f.module == "":
			var fn *btf.Func
			if err := kernel.TypeByName(f.Name, &fn); errors.Is(err, btf.ErrNotFound) {
				f.Err = errNoTypes
			} else if err != nil {
				f.Err = translate(err)
			}
		}
	}
	return list
}

func moduleLoaded(name string) bool {
	_, err := os.Stat("/sys/module/" + name)
	return err == nil
}

// load loads the programs. One that the kernel does not take is left out, and its
// hook says why.
func (t *functionTracer) load(spec *ebpf.CollectionSpec, k *kernel, list []function, multi bool) error {
	for _, f := range list {
		if f.Err != nil {
			delete(spec.Programs, f.Name)
		} else if multi {
			spec.Programs[f.Name].AttachType = ebpf.AttachTraceKprobeMulti
		}
	}
	for {
		loaded, err := k.load(spec, nil)
		if err == nil {
			t.loaded = loaded
			return nil
		}
		bad := -1
		for i, f := range list {
			if f.Err == nil && !f.essential && strings.Contains(err.Error(), "program "+f.Name+":") {
				bad = i
			}
		}
		if bad < 0 {
			return fmt.Errorf("load programs: %w", refusal(t.tier, k, err))
		}
		list[bad].Err = fmt.Errorf("load: %w", untyped(err))
		list[bad].refused = true
		delete(spec.Programs, list[bad].Name)
	}
}

// loadAgain loads programs for breakpoints in functions of modules that the tier
// cannot have otherwise: before Linux 5.11 there is no type information of modules.
func (t *functionTracer) loadAgain(k *kernel, list []function, configure func(*ebpf.CollectionSpec) error) error {
	for i := range list {
		f := &list[i]
		if t.tier != TierFentry || f.module == "" || !f.refused {
			continue
		}
		spec, err := loadKprobe()
		if err != nil {
			return fmt.Errorf("programs: %w", err)
		}
		if err := configure(spec); err != nil {
			return err
		}
		maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != f.Name })
		shared := maps.Clone(t.loaded.Maps)
		maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return strings.HasPrefix(name, ".") }) // its settings
		with, err := k.load(spec, shared)
		if err != nil {
			continue // the hook says what the tier lacks
		}
		t.loaded.Programs[f.Name] = with.DetachProgram(f.Name)
		with.Close()
		f.Err, f.Tier = nil, TierKprobe // by which it is seen
	}
	return nil
}

// untyped tells functions without type information from other trouble.
func untyped(err error) error {
	if errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("%w: %w", errNoTypes, err)
	}
	return translate(err)
}

// attach attaches every program, what is behind the send call first: copies of
// what nobody was seen to send do no harm.
func (t *functionTracer) attach(list []function, multi bool) error {
	for i := range list {
		f := &list[len(list)-1-i]
		if f.Err == nil {
			l, err := t.attachTo(f.Name, multi)
			if err == nil {
				t.links = append(t.links, functionLink{l, f.Name})
				f.Attached = true
			} else {
				f.Err = fmt.Errorf("attach: %w", untyped(err))
			}
		}
		if f.essential && f.Err != nil {
			return fmt.Errorf("%s: %w", f.Name, f.Err)
		}
	}
	for _, f := range list {
		t.hooks = append(t.hooks, f.Hook)
	}
	return nil
}

func (t *functionTracer) attachTo(name string, multi bool) (link.Link, error) {
	program := t.loaded.Programs[name]
	switch {
	case program.Type() == ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program, AttachType: ebpf.AttachTraceFEntry})
	case multi:
		return link.KprobeMulti(program, link.KprobeMultiOptions{Symbols: []string{name}})
	}
	return link.Kprobe(name, program, nil)
}

// configureFunctions sets what programs cannot find out, and what to look at.
func configureFunctions(spec *ebpf.CollectionSpec, kernel *btf.Spec, there map[string]location, o Options) error {
	values := map[string]any{
		"code_cache_confirm":   there["page_cache_pipe_buf_confirm"].address,
		"code_user_steal":      there["user_page_pipe_buf_try_steal"].address,
		"code_written_release": there["anon_pipe_buf_release"].address,
		"code_generic_release": there["generic_pipe_buf_release"].address,
		"code_generic_steal":   there["generic_pipe_buf_try_steal"].address,
		"data_ptype_all":       there["ptype_all"].address,
		"data_hotdata":         there["net_hotdata"].address,
		"only_cgroup":          o.onlyCgroup(),
		"only_device":          uint32(o.Device),
		"only_wanted":          uint32(min(len(o.Processes), 1)),
		"has_task_regs":        uint32(1),
	}
	if _, err := enumValue(kernel, "bpf_func_id", "BPF_FUNC_task_pt_regs"); err != nil {
		values["has_task_regs"] = uint32(0) // until Linux 5.14
	}
	for variable, enum := range map[string][2]string{
		"bit_so_zerocopy": {"sock_flags", "SOCK_ZEROCOPY"},
		"bit_reserved":    {"pageflags", "PG_reserved"},
		"iter_bvec":       {"iter_type", "ITER_BVEC"},
	} {
		value, err := enumValue(kernel, enum[0], enum[1])
		if err != nil {
			return err
		}
		values[variable] = value
	}
	for name, value := range values {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("programs have no variable %s", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if o.Sockets > 0 {
		spec.Maps["senders"].MaxEntries = uint32(o.Sockets)
		spec.Maps["ended"].MaxEntries = uint32(o.Sockets)
		spec.Maps["facts"].MaxEntries = 4 * uint32(o.Sockets)
	}
	return nil
}

func (t *functionTracer) close() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	if t.loaded != nil {
		t.loaded.Close()
	}
	return errors.Join(errs...)
}

// A functionLink attaches a program to the function of that name.
type functionLink struct {
	link.Link
	name string
}

// missed is how often programs did not run though their function did: kprobes
// are skipped on a CPU where another program is at work, those of fentry where
// the same one is.
func (t *functionTracer) missed() skips {
	n := skips{}
	for name, p := range t.loaded.Programs {
		if stats, err := p.Stats(); err == nil { // else the kernel does not tell
			n.add(name, stats.RecursionMisses)
		}
	}
	for _, l := range t.links {
		info, err := l.Info()
		if err != nil {
			continue
		}
		if p := info.PerfEvent(); p != nil && p.Kprobe() != nil {
			n.add(l.name, p.Kprobe().Missed)
		}
		if k := info.KprobeMulti(); k != nil {
			n.add(l.name, k.Missed)
		}
	}
	return n
}
