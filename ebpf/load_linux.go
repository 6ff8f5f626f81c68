package ebpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// attachment is all that the tracer has in the kernel.
type attachment struct {
	objects traceMaps
	loaded  *ebpf.Collection
	hooks   []Hook
	links   [leaving + 1][]link.Link // by the phase of their hooks

	names map[uint64]string // of functions, by addresses in them

	window *ebpf.Variable
	watch  *watch // nil: everything is looked at
}

// close releases it, the hooks first.
func (a *attachment) close() error {
	if a.watch != nil {
		a.watch.end()
	}
	err := errors.Join(a.detach(leaving), a.detach(arriving), a.detach(always))
	if a.loaded != nil {
		a.loaded.Close()
	}
	return err
}

func (a *attachment) detach(p phase) error {
	var errs []error
	for _, l := range a.links[p] {
		errs = append(errs, l.Close())
	}
	a.links[p] = nil
	return errors.Join(errs...)
}

func openTracepoints(k *kernel, o Options) (eye, []Hook, error) {
	a, err := attachTracepoints(k, o)
	if err != nil {
		return nil, nil, err
	}
	return a, a.hooks, nil
}

// attachTracepoints loads the programs of the tier and attaches them.
func attachTracepoints(k *kernel, o Options) (*attachment, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift RLIMIT_MEMLOCK: %w", translate(err))
	}
	types, err := k.types()
	if err != nil {
		return nil, err
	}
	spec, err := loadTrace()
	if err != nil {
		return nil, fmt.Errorf("programs: %w", err)
	}
	// Programs of the tier look at the system call that sends. Linux 5.15.
	if _, err := enumValue(types, "bpf_func_id", "BPF_FUNC_task_pt_regs"); err != nil {
		return nil, fmt.Errorf("the kernel does not show programs the system call of a task: %w", err)
	}
	a := &attachment{hooks: resolve(types, spec, o)}
	if err := configure(spec, types, o); err != nil {
		return nil, err
	}
	if a.loaded, err = k.load(spec, nil); err != nil {
		return nil, fmt.Errorf("load programs: %w", refusal(TierTracepoint, k, err))
	}
	if err := a.loaded.Assign(&a.objects); err != nil {
		return nil, errors.Join(fmt.Errorf("programs: %w", err), a.close())
	}
	for _, pid := range o.Processes {
		if err := a.objects.Processes.Put(uint32(pid), uint32(pid)); err != nil {
			return nil, errors.Join(fmt.Errorf("look at process %d: %w", pid, err), a.close())
		}
	}
	a.window = a.loaded.Variables["window"]
	for _, p := range []phase{always, arriving, leaving} {
		if err := a.attach(p); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	if !o.Exact {
		a.watch = startWatch(a)
	}
	return a, nil
}

// resolve looks which hooks this kernel has, and leaves out the programs of the
// others.
func resolve(kernel *btf.Spec, spec *ebpf.CollectionSpec, o Options) []Hook {
	hooks := tracepoints()
	for i := range hooks {
		h := &hooks[i]
		h.Tier = TierTracepoint
		var typedef *btf.Typedef
		switch err := kernel.TypeByName("btf_trace_"+h.Name, &typedef); {
		case errors.Is(err, btf.ErrNotFound):
			h.Err = fmt.Errorf("%w: %w", errNoTracepoint, errors.ErrUnsupported)
		case err != nil:
			h.Err = err
		case h.Name == "sched_process_fork" && len(o.Processes) == 0, h.Name == "inet_sock_set_state" && o.Exact:
			h.Err = errNotTried
		}
		if h.instead != "" {
			other := spec.Programs[h.instead]
			delete(spec.Programs, h.instead)
			if h.Err == nil && arguments(typedef) < h.takes {
				spec.Programs[h.Name] = other
			}
		}
		if h.Err != nil {
			delete(spec.Programs, h.Name)
		}
	}
	if o.Exact {
		for _, name := range []string{"known_files", "settle_sockets", "settle_bases", "take_flights"} {
			delete(spec.Programs, name)
		}
	}
	return hooks
}

// arguments returns how many arguments a tracepoint has: its function takes one
// more before them.
func arguments(tracepoint *btf.Typedef) int {
	if p, ok := btf.UnderlyingType(tracepoint).(*btf.Pointer); ok {
		if f, ok := p.Target.(*btf.FuncProto); ok {
			return len(f.Params) - 1
		}
	}
	return 0
}

// attach attaches the programs of a phase.
func (a *attachment) attach(p phase) error {
	for i := range a.hooks {
		h := &a.hooks[i]
		if h.when != p || h.Err != nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: a.loaded.Programs[h.Name], AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			return fmt.Errorf("attach to %s: %w", h.Name, translate(err))
		}
		a.links[p] = append(a.links[p], l)
		if !h.Attached { // the first time, while nobody else looks at the hooks: see Open
			h.Attached = true
		}
	}
	return nil
}

// configure sets what programs cannot find out, and what to look at.
func configure(spec *ebpf.CollectionSpec, kernel *btf.Spec, o Options) error {
	code, err := addressesOf("page_cache_pipe_buf_confirm", "user_page_pipe_buf_try_steal",
		"anon_pipe_buf_release", "generic_pipe_buf_release", "generic_pipe_buf_try_steal")
	if err != nil {
		return err
	}
	values := map[string]any{
		"code_cache_confirm":   code["page_cache_pipe_buf_confirm"],
		"code_user_steal":      code["user_page_pipe_buf_try_steal"],
		"code_written_release": code["anon_pipe_buf_release"],
		"code_generic_release": code["generic_pipe_buf_release"],
		"code_generic_steal":   code["generic_pipe_buf_try_steal"],
		"only_cgroup":          o.onlyCgroup(),
		"only_device":          uint32(o.Device),
		"call_ends":            uint32(0),
		"no_sends":             uint32(0),
		"keep_stacks":          uint32(0),
		"only_processes":       uint32(min(len(o.Processes), 1)),
	}
	for variable, enum := range map[string][2]string{
		"bit_so_zerocopy": {"sock_flags", "SOCK_ZEROCOPY"},
		"bit_reserved":    {"pageflags", "PG_reserved"},
		"bit_uptodate":    {"pageflags", "PG_uptodate"},
		"iter_bvec":       {"iter_type", "ITER_BVEC"},
	} {
		if values[variable], err = enumValue(kernel, enum[0], enum[1]); err != nil {
			return err
		}
	}
	if spec.Programs["tcp_sendmsg_locked"] == nil {
		values["no_sends"] = uint32(1)
	}
	if spec.Programs["sock_send_length"] != nil {
		values["call_ends"] = uint32(1)
	}
	if o.Stacks {
		values["keep_stacks"] = uint32(1)
	} else {
		spec.Maps["stacks"].MaxEntries = 1
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
		spec.Maps["sockets"].MaxEntries = uint32(o.Sockets)
		spec.Maps["closed"].MaxEntries = uint32(o.Sockets)
		spec.Maps["counters"].MaxEntries = 8 * uint32(o.Sockets)
	}
	return nil
}

func enumValue(kernel *btf.Spec, enum, name string) (uint32, error) {
	var e *btf.Enum
	if err := kernel.TypeByName(enum, &e); err != nil {
		return 0, fmt.Errorf("type information of the kernel: enum %s: %w", enum, translate(err))
	}
	for _, v := range e.Values {
		if v.Name == name {
			return uint32(v.Value), nil
		}
	}
	return 0, fmt.Errorf("type information of the kernel: enum %s has no %s: %w", enum, name, errors.ErrUnsupported)
}

// translate makes errors of the loader match those of the standard library.
func translate(err error) error {
	switch {
	case err == nil, errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return err
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, btf.ErrNotFound):
		return fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
	}
	return err
}
